# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader: an app's side of a node, for commands that show its picture themselves."""

from __future__ import annotations

import mmap
import os
import select
from fractions import Fraction
from typing import Final

from maglens_driver.errors import Refused
from maglens_driver.mode import NV12, YUYV, Mode
from maglens_v4l2 import v4l2

BUFFERS: Final = 4
_KIND: Final = v4l2.BUF_TYPE_VIDEO_CAPTURE


class Reader:
    """Streams from the node at ``path`` in the format that it has, until closed. ``Refused`` where that is a
    compressed one, ``OSError`` as the device gives it."""

    def __init__(self, path: str) -> None:
        self._maps: list[mmap.mmap] = []
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.mode = self._format()
            if self.mode.fourcc not in (NV12, YUYV):
                raise Refused("format", f"{path} has {self.mode.describe()}", hint="maglens preview, with a display")
            self._begin()
        except BaseException:
            self.close()
            raise

    def newest(self, timeout_s: float) -> memoryview | None:
        """A copy of the newest picture; None where none comes in time. Raises ``Gone``."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return None
        found = self._take()
        while found is not None and (newer := self._take()) is not None:
            self._queue(found)
            found = newer
        if found is None:
            return None
        picture = memoryview(self._maps[found.index][: found.bytesused])
        self._queue(found)
        return picture

    def close(self) -> None:
        """End. Idempotent."""
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _format(self) -> Mode:
        format, parm = v4l2.Format(type=_KIND), v4l2.StreamParm(type=_KIND)
        v4l2.call(self._fd, v4l2.VIDIOC_G_FMT, format)
        v4l2.call(self._fd, v4l2.VIDIOC_G_PARM, parm)
        rate = parm.parm.capture.timeperframe
        return v4l2.mode_of(format, Fraction(rate.numerator, max(1, rate.denominator)))

    def _begin(self) -> None:
        request = v4l2.RequestBuffers(count=BUFFERS, type=_KIND, memory=v4l2.MEMORY_MMAP)
        v4l2.call(self._fd, v4l2.VIDIOC_REQBUFS, request)
        for index in range(request.count):
            buffer = v4l2.Buffer(index=index, type=_KIND, memory=v4l2.MEMORY_MMAP)
            v4l2.call(self._fd, v4l2.VIDIOC_QUERYBUF, buffer)
            self._maps.append(mmap.mmap(self._fd, buffer.length, offset=buffer.m.offset))
            self._queue(buffer)
        v4l2.stream(self._fd, _KIND, True)

    def _take(self) -> v4l2.Buffer | None:
        buffer = v4l2.Buffer(type=_KIND, memory=v4l2.MEMORY_MMAP)
        try:
            v4l2.call(self._fd, v4l2.VIDIOC_DQBUF, buffer)
        except BlockingIOError:
            return None
        return buffer

    def _queue(self, buffer: v4l2.Buffer) -> None:
        v4l2.call(self._fd, v4l2.VIDIOC_QBUF, buffer)
