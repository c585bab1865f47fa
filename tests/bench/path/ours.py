# SPDX-License-Identifier: GPL-2.0-or-later
"""Ours: a module's frames through USB source, pipeline and kernel node, as in the daemon but for its choices.

    python -m tests.bench.path.ours FOURCC WIDTH HEIGHT RATE

Takes the module that is there, prints the node's path once frames come (an app shall see no card), and plays to
whoever watches until standard input ends; then prints a line of JSON: its counters, and the processor time it took.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from fractions import Fraction

import numpy as np

from maglens_driver.errors import MaglensError
from maglens_driver.mode import NV12, RAW, fourcc, make_mode
from maglens_driver.usb.discovery import DeviceEventKind, Discovery
from maglens_driver.usb.source import ModuleSource
from maglens_v4l2.convert import make_converter
from maglens_v4l2.developing import DevelopConverter
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.pipeline import Pipeline

FIND_S = 20.0
FIRST_S = 20.0
ALONE_FRAMES = 30


def cpu_s() -> float:
    """Processor time of this process so far."""
    used = os.times()
    return used.user + used.system


async def find() -> ModuleSource:
    """The module that is there."""
    async with Discovery() as discovery, asyncio.timeout(FIND_S):
        for device in discovery.present():
            return await ModuleSource.open(device)
        async for event in discovery.events():
            if event.kind is DeviceEventKind.ADDED and event.device is not None:
                return await ModuleSource.open(event.device)
    raise MaglensError("no module is there")


def alone(source: ModuleSource, mode_text: str, size: tuple[int, int], rate: int) -> float:
    """Frames per second of the pixel kernel by itself, statistics included, on as many threads as in the pipeline."""
    from maglens_driver.frame import Frame

    class Memory:
        view = memoryview(bytearray(np.random.default_rng(2).integers(0, 256, size[0] * size[1] * 2, dtype=np.uint8)))

        def release(self) -> None:
            """Nothing to give back."""

    mode = source.descriptor.with_facts(make_mode(fourcc(mode_text), *size, Fraction(1, rate)))
    shown = make_mode(NV12, *size, Fraction(1, rate))
    converter = make_converter(mode, shown, None, lambda statistics: None)
    assert isinstance(converter, DevelopConverter)
    frame, out = Frame(Memory(), mode.nbytes, mode, 0, 0, 1), memoryview(bytearray(shown.nbytes))
    converter.run(frame, out)
    began = time.monotonic()
    for _ in range(ALONE_FRAMES):
        converter.run(frame, out)
    return ALONE_FRAMES / (time.monotonic() - began)


async def run(text: str, size: tuple[int, int], rate: int) -> None:
    """See the module."""
    source = await find()
    code = fourcc(text)
    raw = code in RAW
    want = next(
        m for m in source.modes if (m.fourcc, m.width, m.height, m.interval) == (code, *size, Fraction(1, rate))
    )
    shown = make_mode(NV12 if raw else code, *size, Fraction(1, rate))
    figures: dict[str, object] = {}
    if raw:
        figures["alone_per_s"] = alone(source, text, size, rate)
    node = KernelNode.create(shown, "ours", camera_id="ours", formats=(shown,))
    lost: list[Exception] = []
    pipeline = Pipeline(
        node,
        loop=asyncio.get_running_loop(),
        on_lost=lambda generation, why: lost.append(why),
        on_control=lambda generation, control, value: None,
        measured=lambda statistics: None,
    )
    mode = await source.configure(want)
    await source.start(pipeline.begin(1, mode), 1)
    async with asyncio.timeout(FIRST_S):
        while not pipeline.stats().frames_in:  # noqa: ASYNC110 counters have no event
            await asyncio.sleep(0.005)
    print(node.path, flush=True)
    before = cpu_s()
    await asyncio.to_thread(sys.stdin.read)
    figures["cpu_s"] = cpu_s() - before
    stats = pipeline.stats()
    figures |= {
        "submitted": stats.submitted,
        "repeated": stats.repeated,
        "dropped": dict(stats.dropped),
        "counters": dict(source.counters),
        "lost": [str(why) for why in lost],
    }
    await source.close()
    await pipeline.close()
    node.close()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], (int(sys.argv[2]), int(sys.argv[3])), int(sys.argv[4])))
