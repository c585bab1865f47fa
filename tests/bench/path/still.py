# SPDX-License-Identifier: GPL-2.0-or-later
"""Still: a module on a USB gadget that sends one picture again and again, as fast as it is taken; only how it begins
differs from one to the next, so that an app can tell a new one and when it was taken (:mod:`tests.tools.stamp`).

``python -m tests.bench.path.still [NUMBER]`` attaches module NUMBER and prints "attached"; it stays until its
standard input ends, and then prints how much processor time it took, in seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from maglens_driver.control import ControlInfo
from maglens_driver.described import Described
from maglens_driver.frame import Frame
from maglens_driver.gadget import functionfs, writer
from maglens_driver.gadget.configfs import ConfigfsGadget, GadgetSpec
from maglens_driver.gadget.faults import Faults
from maglens_driver.gadget.functionfs import FunctionFs
from maglens_driver.gadget.module import Link, Module
from maglens_driver.gadget.stay import Stay
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import NV12, SRGGB10P, Mode, make_mode
from maglens_driver.source import FrameSink, Identity
from maglens_driver.virtual.lens import load_lens
from tests.tools import stamp

FASTEST = 200  # pictures are sent as fast as they are taken; at all other rates by the clock
RATES = (FASTEST, 30)
SIZES = ((3840, 2160), (1920, 1080), (640, 480))
LARGE_STEPS = (100, 80, 70, 60, 53, 47, 43, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 13, 10)
SMALL_STEPS = (500, 420, 350, 300, 250, 210, 170, 130, 90, 60)
STEPS = {SIZES[0]: LARGE_STEPS, SIZES[2]: SMALL_STEPS}  # where the best is looked for
FORMATS = (NV12, SRGGB10P)
LINK_MBIT = 40_000  # the link shall not be what limits
SLACK = functionfs.BULK_PACKET * 16  # the streamer may look behind a picture
AHEAD = 2  # frames on their way or waiting
MARK, MARKS = 64, 251  # bytes that differ, and how many ways there are
MODES: tuple[Mode, ...] = tuple(
    make_mode(code, *size, Fraction(1, rate), mbit_s=1, mw=100)
    for size in SIZES
    for code in FORMATS
    for rate in dict.fromkeys(RATES + (STEPS.get(size, ()) if size == SIZES[0] or code == NV12 else ()))
)


def index_of(code: int, size: tuple[int, int], rate: int) -> int:
    """Which of the modes."""
    return next(
        i
        for i, m in enumerate(MODES)
        if (m.fourcc, (m.width, m.height), m.interval) == (code, size, Fraction(1, rate))
    )


class _Loan:
    """A picture, lent to the streamer."""

    def __init__(self, view: memoryview, room: threading.Semaphore) -> None:
        self.view = view
        self._room: threading.Semaphore | None = room

    def release(self) -> None:
        """Another may be sent."""
        room, self._room = self._room, None
        if room is not None:
            room.release()


class StillSource(Described):
    """Implements :class:`maglens_driver.source.Source`. Frames come at the mode's rate, or as fast as they are taken
    where that is :data:`FASTEST`."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._mode = descriptor.modes[0]
        most = max(mode.nbytes for mode in descriptor.modes) + SLACK
        random = np.random.default_rng(1)
        picture = random.integers(0, 256, most, dtype=np.uint8)
        self._pictures = [memoryview(bytearray(picture)) for _ in range(AHEAD)]
        self._marks = [random.bytes(MARK) for _ in range(MARKS)]
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def descriptor(self) -> Descriptor:
        return self._descriptor

    @property
    def controls(self) -> Sequence[ControlInfo]:
        return ()

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        if not test_only:
            self._mode = want
        return want

    async def start(self, sink: FrameSink, generation: int) -> None:
        self._halt.clear()
        self._thread = threading.Thread(target=self._run, args=(self._mode, sink, generation), daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._halt.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def get(self) -> Mapping[int, int]:
        return {}

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        return {}

    async def close(self) -> None:
        await self.stop()

    def _run(self, mode: Mode, sink: FrameSink, generation: int) -> None:
        room = threading.Semaphore(AHEAD)
        paced = mode.interval != Fraction(1, FASTEST)
        due, seq = time.monotonic_ns(), 0
        while not self._halt.is_set():
            if not room.acquire(timeout=0.1):
                continue
            if paced:
                self._halt.wait(max(0, due - time.monotonic_ns()) / 1e9)
                due += mode.interval_ns
            now = time.monotonic_ns()
            picture = self._pictures[seq % AHEAD]  # given back in the order they were lent
            picture[:MARK] = self._marks[seq % MARKS]
            stamp.put(picture, now)
            sink.deliver(Frame(_Loan(picture, room), mode.nbytes, mode, seq, now, generation))
            seq += 1


async def run(number: int) -> None:
    """Until standard input ends."""
    writer.install()
    module = load_lens("35mm").descriptor
    serial = f"S{number}"
    descriptor = replace(module, identity=Identity("maglens", "Still", serial), modes=MODES, controls=())
    source = StillSource(descriptor)
    gadget = ConfigfsGadget(GadgetSpec(f"maglens-still-{number}", "maglens", "Still", serial))
    mount = Path(f"/run/maglens-still-{number}.ffs")
    functionfs.unmount(mount)
    gadget.create()
    functionfs.mount(gadget.spec.name, mount)
    files = FunctionFs(mount, functionfs.OUR_INTERFACE)
    gadget.link()
    link = Link(lambda: LINK_MBIT, LINK_MBIT)
    working = Module(source, descriptor, link, files, stay=Stay(1), faults=Faults())
    working.begin()
    await asyncio.to_thread(gadget.attach)
    print("attached", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.to_thread(gadget.detach)
    await working.end()
    files.close()
    functionfs.unmount(mount)
    gadget.remove()
    used = os.times()
    print(used.user + used.system, flush=True)


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
