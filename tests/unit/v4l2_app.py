# SPDX-License-Identifier: GPL-2.0-or-later
"""An app: reads a V4L2 capture device with plain MMAP streaming, as most programs do."""

from __future__ import annotations

import errno
import select

from maglens_v4l2.reader import Reader
from tests.unit.node_conformance import Picture


class V4l2App(Reader):
    """A reader that takes every picture with its number and time, and to whom POLLERR is an error."""

    def next(self, timeout: float) -> Picture | None:
        ready = self.wait(timeout)
        if not ready:
            return None
        if ready & (select.POLLERR | select.POLLHUP):
            raise OSError(errno.EPIPE, "poll reports an error")
        buffer = self.take()
        if buffer is None:
            raise BlockingIOError(errno.EAGAIN, "poll announced a picture that is not there")
        stamp = (buffer.timestamp.tv_sec * 1_000_000 + buffer.timestamp.tv_usec) * 1000
        picture = Picture(self.copy(buffer), stamp, buffer.sequence)
        self.queue(buffer)
        return picture
