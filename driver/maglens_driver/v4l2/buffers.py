# SPDX-License-Identifier: GPL-2.0-or-later
"""Buffers: what the driver fills, mapped once per stream and lent to the sink without a copy."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from maglens_driver.v4l2.binding import linuxpy
from maglens_driver.v4l2.memory import Choice, choose, free


class BufferSet:
    """The buffers of one stream. A lease that ends after the stream does frees its memory with its last reference."""

    def __init__(self, fd: int, choice: Choice = Choice.AUTO) -> None:
        self._fd = fd
        self._kind = linuxpy().BufferType.VIDEO_CAPTURE
        self._lock = threading.Lock()
        self._open = True
        self._lent = 0
        self._fed_at = time.monotonic()
        self._memory = choose(fd, choice)

    def start(self) -> None:
        """Begin to stream."""
        linuxpy().stream_on(self._fd, self._kind)

    def take(self) -> tuple[Any, BufferLease]:
        """A filled buffer's struct v4l2_buffer, and its lease. ``OSError`` EAGAIN when there is none."""
        info = linuxpy().dequeue_buffer(self._fd, self._kind, self._memory.memory)
        with self._lock:
            self._lent += 1
        self._memory.begin_read(info.index)
        return info, BufferLease(self, info.index, self._memory.views[info.index])

    @property
    def fed_at(self) -> float | None:
        """Since when (``time.monotonic``) the device has had a buffer to fill; None: all of them are lent."""
        with self._lock:
            return self._fed_at if self._lent < len(self._memory.views) else None

    def end(self) -> None:
        """Stop streaming and let go; legal when the device is gone."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._memory.close()
        with contextlib.suppress(OSError):  # gone
            linuxpy().stream_off(self._fd, self._kind)
        free(self._fd, self._memory.memory)

    def give_back(self, index: int) -> None:
        """A lease has ended: the driver may fill the buffer again."""
        with self._lock:
            if self._lent == len(self._memory.views):
                self._fed_at = time.monotonic()
            self._lent -= 1
            if self._open:
                try:
                    self._memory.end_read(index)
                    self._memory.queue(index)
                except OSError:  # gone; the stream's thread finds out and tells
                    return


class BufferLease:
    """One filled buffer of the driver's."""

    __slots__ = ("_index", "_set", "_view")

    def __init__(self, owner: BufferSet, index: int, view: memoryview) -> None:
        self._set: BufferSet | None = owner
        self._index = index
        self._view = view

    @property
    def view(self) -> memoryview:
        return self._view

    def release(self) -> None:
        owner, self._set = self._set, None
        if owner is not None:
            owner.give_back(self._index)
