# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader: an app's side of a node, for commands that show its picture themselves."""

from __future__ import annotations

import mmap
import os
import select
from fractions import Fraction
from typing import Final

from maglens_driver.mode import Mode
from maglens_v4l2 import v4l2

BUFFERS: Final = 4
CAPTURE: Final = v4l2.BUF_TYPE_VIDEO_CAPTURE


class Reader:
    """The node at ``path``, open until closed. From :meth:`start` to :meth:`stop` it streams in the format that the
    node has. ``buffers``: as asked for, and once it streams as given. ``OSError`` as the device gives it."""

    def __init__(self, path: str, buffers: int = BUFFERS) -> None:
        self.buffers = buffers
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._maps: list[mmap.mmap] = []

    def format(self) -> Mode:
        """What it has now."""
        format, parm = v4l2.Format(type=CAPTURE), v4l2.StreamParm(type=CAPTURE)
        v4l2.call(self.fd, v4l2.VIDIOC_G_FMT, format)
        v4l2.call(self.fd, v4l2.VIDIOC_G_PARM, parm)
        rate = parm.parm.capture.timeperframe
        return v4l2.mode_of(format, Fraction(rate.numerator, max(1, rate.denominator)))

    def start(self) -> None:
        """Map the buffers and stream."""
        request = v4l2.RequestBuffers(count=self.buffers, type=CAPTURE, memory=v4l2.MEMORY_MMAP)
        v4l2.call(self.fd, v4l2.VIDIOC_REQBUFS, request)
        self.buffers = request.count
        for index in range(request.count):
            buffer = v4l2.Buffer(index=index, type=CAPTURE, memory=v4l2.MEMORY_MMAP)
            v4l2.call(self.fd, v4l2.VIDIOC_QUERYBUF, buffer)
            self._maps.append(mmap.mmap(self.fd, buffer.length, offset=buffer.m.offset))
            self.queue(buffer)
        v4l2.stream(self.fd, CAPTURE, True)

    def stop(self) -> None:
        """Stream no more, and give the buffers back."""
        v4l2.stream(self.fd, CAPTURE, False)
        self._unmap()
        v4l2.call(self.fd, v4l2.VIDIOC_REQBUFS, v4l2.RequestBuffers(type=CAPTURE, memory=v4l2.MEMORY_MMAP))

    def newest(self, timeout_s: float) -> memoryview | None:
        """A copy of the newest picture; None where none comes in time. Raises ``Gone``."""
        if not self.wait(timeout_s):
            return None
        found = self.take()
        while found is not None and (newer := self.take()) is not None:
            self.queue(found)
            found = newer
        if found is None:
            return None
        picture = memoryview(self.copy(found))
        self.queue(found)
        return picture

    def wait(self, timeout_s: float) -> int:
        """What poll(2) says before long; 0: nothing."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        ready = poll.poll(timeout_s * 1000)
        return ready[0][1] if ready else 0

    def take(self) -> v4l2.Buffer | None:
        """The next buffer that is filled; None: there is none yet."""
        buffer = v4l2.Buffer(type=CAPTURE, memory=v4l2.MEMORY_MMAP)
        try:
            v4l2.call(self.fd, v4l2.VIDIOC_DQBUF, buffer)
        except BlockingIOError:
            return None
        return buffer

    def copy(self, buffer: v4l2.Buffer) -> bytes:
        """What is in it."""
        return self._maps[buffer.index][: buffer.bytesused]

    def queue(self, buffer: v4l2.Buffer) -> None:
        """To be filled again."""
        v4l2.call(self.fd, v4l2.VIDIOC_QBUF, buffer)

    def close(self) -> None:
        """End. Idempotent."""
        self._unmap()
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def _unmap(self) -> None:
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()
