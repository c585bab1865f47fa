# SPDX-License-Identifier: MIT
"""Writer: blocking writes to an endpoint that another thread can cut short.

Endpoint files know neither O_NONBLOCK nor poll. A signal does end a write: the kernel then takes the transfer off the
endpoint. Python's own ``os.write`` would go on after it, so libc's is called.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
from types import FrameType
from typing import Final

SIGNAL: Final = signal.SIGUSR2
_REPEAT_S: Final = 0.005  # a signal that comes just before the system call is lost, so it is sent again

_libc = ctypes.CDLL(None, use_errno=True)
_libc.write.restype = ctypes.c_ssize_t
_libc.write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)


class Interrupted(Exception):
    """The write was cut short on purpose."""


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler there must be, for the signal to end a system call and not the process."""


def install() -> None:
    """Make the signal harmless. Once, in the main thread, before any :class:`Writer` is used."""
    signal.signal(SIGNAL, _ignore)


class Writer:
    """Writes of one thread to one file descriptor. :meth:`interrupt` may be called from others."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._changed = threading.Condition()
        self._thread: int | None = None  # that is in a write now
        self._cut = False

    def write(self, buffer: memoryview) -> None:
        """Write all of ``buffer`` (contiguous, writable; may be empty: a zero-length packet) in one system call.

        Raises :class:`Interrupted`, or ``OSError`` (``ESHUTDOWN`` when the host has gone).
        """
        with self._changed:
            if self._cut:
                raise Interrupted
            self._thread = threading.get_ident()
        try:
            address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if len(buffer) else None
            done = _libc.write(self._fd, address, len(buffer))
            number = ctypes.get_errno()
        finally:
            with self._changed:
                self._thread = None
                cut = self._cut
                self._changed.notify_all()
        if done < 0:
            if number == errno.EINTR and cut:
                raise Interrupted
            raise OSError(number, os.strerror(number))
        if done != len(buffer):
            raise OSError(errno.EIO, f"{done} of {len(buffer)} bytes were written")

    def interrupt(self) -> None:
        """End the write in progress, refuse further ones until :meth:`resume`; returns when none is in progress."""
        with self._changed:
            self._cut = True
            while self._thread is not None:
                signal.pthread_kill(self._thread, SIGNAL)
                self._changed.wait(_REPEAT_S)

    def resume(self) -> None:
        """Allow writes again."""
        with self._changed:
            self._cut = False
