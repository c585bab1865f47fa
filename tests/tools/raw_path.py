# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw path: RAW10 frames of a module in memory through USB source, pipeline and a node in memory, watched.

    python -m tests.tools.raw_path --frames 300 --rate 30 --count

One line of JSON: how long from the leader's time to the picture in the app's buffer; where a rate is given, how the
process's memory went; and with --count (under :mod:`tests.tools.allocations`) how often it asked for large pieces.
The automatics are at work as in the service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from unittest import mock

import numpy as np

from maglens_daemon.main import SWITCH_INTERVAL_S
from maglens_driver.frame import Frame
from maglens_driver.mode import NV12, SRGGB10P, Mode, make_mode
from maglens_driver.usb.fake import DEVICE, FakeModule, FakeTransport
from maglens_driver.usb.source import ModuleSource
from maglens_driver.virtual.lens import load_lens
from maglens_v4l2 import developing
from maglens_v4l2.autopilot import Autopilot
from maglens_v4l2.convert import make_converter
from maglens_v4l2.measurement import measure
from maglens_v4l2.memory_node import MemoryNode, MemoryReader
from maglens_v4l2.pipeline import Pipeline
from maglens_v4l2.pool import BufferPool
from maglens_v4l2.statistics import Statistics
from tests.tools import allocations

WARM_UP = 40  # frames before anything is watched
STEPS = 40  # readings of memory, which are pages: one more or less is 4 KiB
WAIT_S = 10.0
PIPELINE = "maglens-pipeline", "maglens-submit"  # its threads
ALONE = 40  # pictures that the pixel kernel makes by itself, before and again after


@dataclass
class Camera(FakeModule):
    """Sends the same noise again and again, and keeps no list of what it was asked."""

    _still: bytes = field(default=b"", init=False)

    def write(self, op: int, data: bytes) -> None:
        """See :class:`FakeModule`."""
        super().write(op, data)
        self.requests.clear()

    def payload(self, mode: Mode, frame_id: int) -> bytes:
        """See :class:`FakeModule`."""
        if len(self._still) != mode.nbytes:
            self._still = np.random.default_rng(1).integers(0, 256, mode.nbytes, dtype=np.uint8).tobytes()
        return self._still


def pss_kib() -> int:
    """Proportional share of this process's memory, KiB, without what is mapped from files: the share of a library
    grows when another process that uses it ends, such as the other half of a test run."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        parts = dict(line.split()[:2] for line in file)
    return int(parts["Pss_Anon:"]) + int(parts["Pss_Shmem:"])


def alone(mode: Mode, shown: Mode) -> tuple[float, float]:
    """Pictures per second of the pixel kernel by itself, on as many threads as in the pipeline; and milliseconds of
    this thread's processor time for each."""
    converter = make_converter(mode, shown, None, lambda statistics: None)
    assert converter is not None
    pool = BufferPool(1, mode.nbytes)
    lease = pool.lease(mode.nbytes)
    assert lease is not None
    frame, out = Frame(lease, mode.nbytes, mode, 0, 0, 1), memoryview(bytearray(shown.nbytes))
    converter.run(frame, out)
    began, spent = time.monotonic(), time.thread_time()
    for _ in range(ALONE):
        converter.run(frame, out)
    return ALONE / (time.monotonic() - began), (time.thread_time() - spent) * 1000 / ALONE


def pipeline_s() -> float:
    """Processor time that the pipeline's threads have taken."""
    threads = [thread.ident for thread in threading.enumerate() if thread.name.startswith(PIPELINE)]
    assert len(threads) == len(PIPELINE)
    return sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in threads if ident is not None)


def watch(reader: MemoryReader, frames: int, settle: int, count: bool, memory_too: bool) -> dict[str, object]:
    """Look at ``frames`` pictures, after ``settle`` that do not count, and with ``memory_too`` now and then at the
    memory of the process. Runs in a thread of its own."""
    late = np.full(frames, np.nan)  # zeros would be given their pages one by one
    memory = np.zeros((3, STEPS))
    for number in range(settle):
        look(reader)
        if memory_too and number % max(1, settle // STEPS) == 0:  # to read it takes some the first times
            memory[:, 0] = number, pss_kib(), sys.getallocatedblocks()
    if count:
        allocations.arm()
    began = time.monotonic()
    for number in range(frames):
        late[number] = look(reader)
        step, between = divmod(number, max(1, frames // STEPS))
        if memory_too and between == 0 and step < STEPS:
            memory[:, step] = number, pss_kib(), sys.getallocatedblocks()
    found: dict[str, object] = {"frames": frames, "shown_per_s": frames / (time.monotonic() - began)}
    if count:
        found["large_allocations"], found["largest"] = allocations.disarm()
    if memory_too:
        at, kib, blocks = memory
        slope, offset = np.polyfit(at, kib, 1)
        found["pss_kib_per_10000"] = slope * 10_000
        found["pss_grown_kib"] = slope * (at[-1] - at[0])
        found["pss_noise_kib"] = float(np.std(kib - (slope * at + offset)))
        found["pss_kib"] = [int(kib[0]), int(kib[-1])]
        found["python_blocks"] = [int(blocks[0]), int(blocks[-1])]
    found["late_ms"] = {"median": statistics.median(late), "p99": float(np.percentile(late, 99)), "most": late.max()}
    return found


def look(reader: MemoryReader) -> float:
    """Take one picture; ms since its exposure began."""
    shown = reader.read(WAIT_S)
    if shown is None:
        raise RuntimeError("no picture came")
    late = (time.monotonic_ns() - shown.timestamp_ns) / 1e6
    reader.give_back(shown)
    return late


async def run(frames: int, settle: int, rate: int, size: tuple[int, int], count: bool) -> dict[str, object]:
    """The whole path for so many frames."""
    lens = load_lens("35mm").descriptor
    known = lens.with_facts(make_mode(SRGGB10P, *size, Fraction(1, 30)))
    still = make_mode(NV12, *size, Fraction(1, 30))
    by_itself, least = await asyncio.to_thread(alone, known, still)
    memory_too = rate > 0 and not count  # to read it takes longer than a picture
    rate = rate or math.ceil(by_itself)
    raw = make_mode(SRGGB10P, *size, Fraction(1, rate), mbit_s=1, mw=100)
    module = Camera(replace(lens, modes=(raw,)), interval_s=1 / rate)
    source = await ModuleSource.open(DEVICE, FakeTransport(module, memory=None))
    node = MemoryNode((make_mode(NV12, *size, Fraction(1, rate)),))
    measured: list[int] = []
    lost: list[Exception] = []
    pilots: list[Autopilot] = []
    loop = asyncio.get_running_loop()

    def seen(statistics: Statistics) -> None:
        if len(measured) < WARM_UP:
            measured.append(statistics.seq)
        for pilot in pilots:
            loop.call_soon_threadsafe(pilot.observe, measure(statistics, pilot.window))

    pipeline = Pipeline(
        node,
        loop=loop,
        on_lost=lambda generation, why: lost.append(why),
        on_control=lambda generation, control, value: None,
        measured=seen,
    )
    reader = node.open()
    reader.start()
    try:
        mode = await source.configure(raw)
        feed = pipeline.begin(1, mode)
        values, tune = await source.get(), partial(pipeline.tune, 1)
        pilots.append(Autopilot(mode, source.controls, values, source.set, tune=tune, tell=lambda c, v: None))
        await source.start(feed, 1)
        found = await asyncio.to_thread(watch, reader, frames, settle, count, memory_too)
        stats = pipeline.stats()
        found["pipeline_cpu_ms"] = pipeline_s() * 1000 / stats.submitted
        found |= {"submitted": stats.submitted, "dropped": dict(stats.dropped), "measured": bool(measured)}
        if lost:
            raise lost[0]
        found["tuned"] = feed.book.recipe is not None
    finally:
        await source.close()
        await pipeline.close()
        for pilot in pilots:
            await pilot.close()
        node.close()
    after, least_after = await asyncio.to_thread(alone, known, still)
    return found | {"alone_per_s": (by_itself + after) / 2, "alone_cpu_ms": (least + least_after) / 2}


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--settle", type=int, default=WARM_UP, help="frames before anything is watched")
    parser.add_argument("--rate", type=int, default=30, help="0: as many as the pixel kernel makes by itself")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480))
    parser.add_argument("--threads", type=int, default=developing.MAX_THREADS, help="of the pixel kernel, at most")
    parser.add_argument("--count", action="store_true", help="count large allocations")
    chosen = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    size = (chosen.size[0], chosen.size[1])
    with mock.patch.object(developing, "MAX_THREADS", chosen.threads):
        print(json.dumps(asyncio.run(run(chosen.frames, chosen.settle, chosen.rate, size, chosen.count))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
