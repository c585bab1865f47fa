# SPDX-License-Identifier: GPL-2.0-or-later
"""An app: reads a V4L2 capture device with plain MMAP streaming, as most programs do."""

from __future__ import annotations

import errno
import mmap
import os
import select
from fractions import Fraction

from maglens_driver.mode import Mode
from maglens_v4l2 import v4l2
from tests.unit.node_conformance import Picture

BUFFERS = 4
CAPTURE = v4l2.BUF_TYPE_VIDEO_CAPTURE


class V4l2App:
    """One open file. Raises ``OSError`` where an app would see an error; POLLERR counts as one."""

    def __init__(self, path: str, buffers: int = BUFFERS) -> None:
        self.buffers = buffers  # as asked for; once it streams, as given
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._maps: list[mmap.mmap] = []

    def format(self) -> Mode:
        format = v4l2.Format(type=CAPTURE)
        v4l2.call(self.fd, v4l2.VIDIOC_G_FMT, format)
        parm = v4l2.StreamParm(type=CAPTURE)
        v4l2.call(self.fd, v4l2.VIDIOC_G_PARM, parm)
        rate = parm.parm.capture.timeperframe
        return v4l2.mode_of(format, Fraction(rate.numerator, rate.denominator))

    def start(self) -> None:
        request = v4l2.RequestBuffers(count=self.buffers, type=CAPTURE, memory=v4l2.MEMORY_MMAP)
        v4l2.call(self.fd, v4l2.VIDIOC_REQBUFS, request)
        self.buffers = request.count
        for index in range(request.count):
            buffer = v4l2.Buffer(index=index, type=CAPTURE, memory=v4l2.MEMORY_MMAP)
            v4l2.call(self.fd, v4l2.VIDIOC_QUERYBUF, buffer)
            self._maps.append(mmap.mmap(self.fd, buffer.length, offset=buffer.m.offset))
            v4l2.call(self.fd, v4l2.VIDIOC_QBUF, buffer)
        v4l2.stream(self.fd, CAPTURE, True)

    def stop(self) -> None:
        v4l2.stream(self.fd, CAPTURE, False)
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()
        v4l2.call(self.fd, v4l2.VIDIOC_REQBUFS, v4l2.RequestBuffers(type=CAPTURE, memory=v4l2.MEMORY_MMAP))

    def close(self) -> None:
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def next(self, timeout: float) -> Picture | None:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        ready = poll.poll(timeout * 1000)
        if not ready:
            return None
        if ready[0][1] & (select.POLLERR | select.POLLHUP):
            raise OSError(errno.EPIPE, "poll reports an error")
        buffer = v4l2.Buffer(type=CAPTURE, memory=v4l2.MEMORY_MMAP)
        v4l2.call(self.fd, v4l2.VIDIOC_DQBUF, buffer)
        data = self._maps[buffer.index][: buffer.bytesused]
        stamp = (buffer.timestamp.tv_sec * 1_000_000 + buffer.timestamp.tv_usec) * 1000
        picture = Picture(data, stamp, buffer.sequence)
        v4l2.call(self.fd, v4l2.VIDIOC_QBUF, buffer)
        return picture
