# SPDX-License-Identifier: GPL-2.0-or-later
"""Notify: tells systemd how the service is, and keeps file descriptors with it (sd_notify(3), sd_listen_fds(3)).

The protocol is stable, documented and small enough to speak here; python3-systemd would need libsystemd's headers
wherever pip has to build it.
"""

from __future__ import annotations

import array
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_FIRST_FD: Final = 3  # SD_LISTEN_FDS_START


class Notifier:
    """Says nothing where systemd does not listen."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        watchdog = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s: float | None = int(watchdog) / 1e6 if watchdog and mine and self._address else None
        self._status = ""

    def _send(self, text: str, fds: tuple[int, ...] = ()) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(self._address)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
            channel.sendmsg([text.encode()], rights)

    def ready(self) -> None:
        """Start-up, or a reload, is complete."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; :meth:`ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """On the way out."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; sent when it changes."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={' '.join(text.splitlines())}")  # a further line would say something else

    def watchdog(self) -> None:
        """Still alive, and making progress."""
        self._send("WATCHDOG=1")

    def store(self, name: str, fd: int) -> None:
        """Keep ``fd`` for the next start, under ``name``."""
        self._send(f"FDSTORE=1\nFDNAME={name}", (fd,))

    def forget(self, name: str) -> None:
        """Drop what is kept under ``name``."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")


def stored(environment: Mapping[str, str] = os.environ) -> dict[str, int]:
    """File descriptors that systemd kept for us, by name."""
    if environment.get("LISTEN_PID", "") != str(os.getpid()):
        return {}
    count = int(environment.get("LISTEN_FDS", "0"))
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    fds = range(_FIRST_FD, _FIRST_FD + count)
    for fd in fds:
        os.set_inheritable(fd, False)
    return dict(zip(names, fds, strict=False))
