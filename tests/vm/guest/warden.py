# SPDX-License-Identifier: GPL-2.0-or-later
"""Warden: runs a maglensd where there is no systemd, and does for it what systemd does when it dies: keeps the file
descriptors that it has handed over, and starts a successor with them (sd_notify(3), sd_listen_fds(3))."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.vm.guest.log import Log

END: Final = b"END=1"
LARGEST: Final = 4096
MOST_FDS: Final = 4
STOP_S: Final = 30.0

START: Final = """
import fcntl, os, sys

kept = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 64) for fd in sys.argv[1:]]
for place, fd in enumerate(kept, 3):
    os.dup2(fd, place)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "maglens_daemon.main"])
"""


class Warden:
    """From ``with`` to its end. ``process`` and ``log`` are those of the present service."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        path = folder / "notify"
        self._environment = {**environment, "NOTIFY_SOCKET": str(path)}
        self._kept: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._listener = threading.Thread(target=self._listen, name="warden")
        self.process: subprocess.Popen[bytes]
        self.log: Log

    def __enter__(self) -> Self:
        self._listener.start()
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self._socket.sendto(END, self._environment["NOTIFY_SOCKET"])
        self._listener.join()
        self._socket.close()
        for fd in self._kept.values():
            os.close(fd)

    def kill(self) -> int:
        """SIGKILL, at CLOCK_MONOTONIC ns; its successor has been started."""
        at = time.monotonic_ns()
        self.process.kill()
        self.process.communicate()
        self._start()
        return at

    def _start(self) -> None:
        kept = dict(self._kept)
        environment = {**self._environment, "LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": ":".join(kept)}
        command = [sys.executable, "-c", START, *map(str, kept.values())]
        self.process = subprocess.Popen(
            command, env=environment, pass_fds=list(kept.values()), stderr=subprocess.PIPE, bufsize=0
        )
        self.log = Log(self.process)

    def _listen(self) -> None:
        while True:
            data, fds, _, _ = socket.recv_fds(self._socket, LARGEST, MOST_FDS)
            if data == END:
                return
            said = dict(line.split("=", 1) for line in data.decode().splitlines())
            if "FDSTORE" in said or "FDSTOREREMOVE" in said:
                old = self._kept.pop(said["FDNAME"], None)
                if old is not None:
                    os.close(old)
            if "FDSTORE" in said:
                self._kept[said["FDNAME"]] = fds.pop()
            for fd in fds:
                os.close(fd)
