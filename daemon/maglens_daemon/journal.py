# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal: log records with fields, to journald where it listens, else to stderr.

journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) is one datagram of ``KEY=value`` lines. Twenty lines
of it here, rather than python3-systemd, which exists only where its C library and headers do.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from typing import Final

from maglens_driver import names

SOCKET: Final = "/run/systemd/journal/socket"
FIELDS: Final = (names.LOG_PORT, names.LOG_MODULE, names.LOG_SERIAL, names.LOG_STATE, names.LOG_CAUSE)
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY: Final = 7
_MAX_TEXT: Final = 48 * 1024  # of one message; a datagram must stay below the socket's buffer


def about(*, port: str = "", module: str = "", serial: str = "", state: str = "", cause: str = "") -> dict[str, str]:
    """Fields for a log call: ``log.info(..., extra=about(port="1-2"))``. Empty ones are left out."""
    values = (port, module, serial, state, cause)
    return {name: value for name, value in zip(FIELDS, values, strict=True) if value}


def encode(fields: dict[str, str]) -> bytes:
    """One datagram. A value of several lines is sent with its length."""
    out = bytearray()
    for name, value in fields.items():
        raw = value.encode("utf-8", "replace")
        if b"\n" in raw:
            out += name.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"
        else:
            out += name.encode() + b"=" + raw + b"\n"
    return bytes(out)


class JournalHandler(logging.Handler):
    """Sends records to journald; what cannot be sent goes to stderr, which systemd reads as well."""

    def __init__(self, identifier: str, path: str = SOCKET) -> None:
        super().__init__()
        self._identifier = identifier
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.connect(path)

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        text = self.format(record)[:_MAX_TEXT]
        fields = {
            "MESSAGE": text,
            "PRIORITY": str(next((p for level, p in _PRIORITIES if record.levelno >= level), _DEBUG_PRIORITY)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
        }
        fields |= {name: str(value) for name in FIELDS if (value := getattr(record, name, ""))}
        try:
            self._socket.send(encode(fields))
        except OSError as error:
            sys.stderr.write(f"{text} (journal: {error.strerror})\n")

    def close(self) -> None:
        """See :class:`logging.Handler`."""
        self._socket.close()
        super().close()


def _stderr_is_journal() -> bool:
    """Whether systemd connected stderr to the journal (JOURNAL_STREAM names the socket's device and inode)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        here = os.fstat(2)
    except OSError:
        return False
    return device == str(here.st_dev) and inode == str(here.st_ino)


def set_up(identifier: str, level: int = logging.INFO) -> None:
    """Log to the journal when started by systemd, else to stderr for people."""
    handler: logging.Handler
    if _stderr_is_journal() and os.path.exists(SOCKET):
        handler = JournalHandler(identifier)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(f"{identifier}: %(levelname)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
