# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory: where a capture device puts its pictures: into its own buffers, or into ours.

Its own (MMAP) cost nothing and are taken wherever they can be read at normal speed. On some boards they are not
cached: every pixel that the CPU looks at then costs a trip to memory. There, dmabufs of ours (DMABUF) are offered.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import mmap
import os
import time
from typing import Any, Final, Protocol

from maglens_driver import dmabuf
from maglens_driver.errors import Refused
from maglens_driver.v4l2.binding import linuxpy

log = logging.getLogger(__name__)

COUNT: Final = 6  # buffers: one at the sensor, one in the mailbox, one in the converter; the rest for a late thread
PROBE_BYTES: Final = 256 * 1024
PROBES: Final = 3  # the best counts
SLOW: Final = 4.0  # times as long as ordinary memory takes; uncached memory takes ten and more


class Choice(enum.Enum):
    """``AUTO``: the device's own, unless reading that is slow."""

    AUTO = "auto"
    MMAP = "mmap"
    DMABUF = "dmabuf"


class Memory(Protocol):
    """The buffers of one stream, all of them queued."""

    views: list[memoryview]
    memory: Any  # linuxpy's Memory

    def queue(self, index: int) -> None:
        """The device may fill it."""
        ...

    def begin_read(self, index: int) -> None:
        """The device has filled it."""
        ...

    def end_read(self, index: int) -> None:
        """It will be the device's again."""
        ...

    def close(self) -> None:
        """Let go; views that are still out stay valid."""
        ...


class Mapped:
    """The device's own."""

    def __init__(self, fd: int) -> None:
        v4l2 = linuxpy()
        self._fd, self._kind, self.memory = fd, v4l2.BufferType.VIDEO_CAPTURE, v4l2.Memory.MMAP
        self.views = []
        count = v4l2.request_buffers(fd, self._kind, self.memory, COUNT).count
        try:
            for index in range(count):
                info = v4l2.query_buffer(fd, self._kind, self.memory, index)
                self.views.append(memoryview(v4l2.mem_map(fd, info.length, info.m.offset)))
            for index in range(count):
                self.queue(index)
        except BaseException:
            self.close()
            free(fd, self.memory)
            raise

    def queue(self, index: int) -> None:
        linuxpy().enqueue_buffer(self._fd, self._kind, self.memory, 0, index)

    def begin_read(self, index: int) -> None:
        """The driver has seen to that."""

    def end_read(self, index: int) -> None:
        """The driver will see to that."""

    def close(self) -> None:
        self.views.clear()


class Imported:
    """Ours: dmabufs of ``allocate``, each as large as the device's pictures. ``OSError`` where it takes none."""

    def __init__(self, fd: int, allocate: dmabuf.Allocate) -> None:
        v4l2 = linuxpy()
        self._fd, self._kind, self.memory = fd, v4l2.BufferType.VIDEO_CAPTURE, v4l2.Memory.DMABUF
        self.views = []
        self._descriptors: list[int] = []
        self._size = dmabuf.whole_pages(v4l2.get_raw_format(fd, self._kind).fmt.pix.sizeimage)
        count = v4l2.request_buffers(fd, self._kind, self.memory, COUNT).count
        try:
            for index in range(count):
                self._descriptors.append(allocate(self._size))
                self.views.append(memoryview(mmap.mmap(self._descriptors[-1], self._size)))
                self.queue(index)  # only now the device looks at it
        except BaseException:
            self.close()
            free(fd, self.memory)
            raise

    def queue(self, index: int) -> None:
        v4l2 = linuxpy()
        buffer = v4l2.raw.v4l2_buffer()
        buffer.type, buffer.memory, buffer.index = self._kind, self.memory, index
        buffer.m.fd, buffer.length = self._descriptors[index], self._size
        v4l2.enqueue_buffer_raw(self._fd, buffer)

    def begin_read(self, index: int) -> None:
        dmabuf.begin_read(self._descriptors[index])

    def end_read(self, index: int) -> None:
        dmabuf.end_read(self._descriptors[index])

    def close(self) -> None:
        self.views.clear()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


def choose(fd: int, choice: Choice) -> Memory:
    """Buffers for the device's present format. ``Refused`` where DMABUF was chosen and does not work."""
    if choice is not Choice.DMABUF:
        own = Mapped(fd)
        if choice is Choice.MMAP or not is_slow(own.views[0]):
            return own
        own.close()
        free(fd, own.memory)
    for name, allocate in dmabuf.allocators():
        try:
            ours = Imported(fd, allocate)
        except OSError as error:
            log.info("the device takes no memory of %s: %s", name, error)
            continue
        log.info("the device fills memory of %s", name)
        return ours
    if choice is Choice.DMABUF:
        raise Refused("memory", "the device fills no memory that can be had", hint=f"ls -l {dmabuf.HEAP_FOLDER}")
    return Mapped(fd)


def free(fd: int, memory: Any) -> None:
    """Have the device give up the buffers that it was asked for: else it counts as in use and takes no other mode."""
    with contextlib.suppress(OSError):  # gone, or leases are out: the driver keeps their memory until they end
        linuxpy().free_buffers(fd, linuxpy().BufferType.VIDEO_CAPTURE, memory)


def is_slow(view: memoryview) -> bool:
    """Whether reading this takes many times as long as reading ordinary memory."""
    piece = view[:PROBE_BYTES]
    ordinary = memoryview(bytearray(len(piece)))
    return _read_ns(piece) > SLOW * _read_ns(ordinary)


def _read_ns(view: memoryview) -> int:
    """The least that reading it takes."""
    into = memoryview(bytearray(len(view)))
    least = 1 << 62
    for _ in range(PROBES):
        began = time.perf_counter_ns()
        into[:] = view
        least = min(least, time.perf_counter_ns() - began)
    return max(1, least)
