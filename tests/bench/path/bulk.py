# SPDX-License-Identifier: GPL-2.0-or-later
"""Bulk: a module's frames, checked, into buffers that nobody looks at: frames per second.

python -m tests.bench.path.bulk MODE FRAMES
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time

from maglens_daemon.main import SWITCH_INTERVAL_S
from maglens_driver.frame import Frame, Lease
from maglens_v4l2.pool import BufferPool
from tests.bench.path.ours import find

BUFFERS = 8
LIMIT_S = 60.0


class Counter:
    """A sink that counts. ``done`` after ``frames`` of them."""

    def __init__(self, frames: int, nbytes: int) -> None:
        self.done = threading.Event()
        self.began = self.ended = 0.0
        self.why: list[Exception] = []
        self._frames = frames
        self._seen = 0
        self._pool = BufferPool(BUFFERS, nbytes)

    def lease(self, nbytes: int) -> Lease | None:
        return self._pool.lease(nbytes)

    def deliver(self, frame: Frame) -> None:
        frame.lease.release()
        now = time.monotonic()
        self._seen += 1
        self.began = self.began or now
        if self._seen == self._frames + 1:
            self.ended = now
            self.done.set()

    def control(self, generation: int, control: int, value: int) -> None:
        """Nobody turns a ring."""

    def active(self, generation: int, control: int, active: bool) -> None: ...

    def dropped(self, generation: int, cause: str) -> None:
        self.why.append(RuntimeError(cause))

    def lost(self, generation: int, why: Exception) -> None:
        self.why.append(why)
        self.done.set()


async def run(index: int, frames: int) -> float:
    """Frames per second."""
    (source,) = await find()
    mode = await source.configure(source.modes[index])
    sink = Counter(frames, mode.nbytes)
    await source.start(sink, 1)
    finished = await asyncio.to_thread(sink.done.wait, LIMIT_S)
    await source.close()
    if not finished or not sink.ended:
        raise RuntimeError(f"{sink.why}, {dict(source.counters)}")
    return frames / (sink.ended - sink.began)


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    print(asyncio.run(run(int(sys.argv[1]), int(sys.argv[2]))))
