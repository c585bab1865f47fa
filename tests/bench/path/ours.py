# SPDX-License-Identifier: GPL-2.0-or-later
"""Ours: a module's frames through USB source, pipeline and kernel node, as in the daemon but for its choices.

    python -m tests.bench.path.ours FOURCC WIDTH HEIGHT RATE [MODULES]

Takes as many modules as asked for (1), each with a node of its own, prints the nodes' paths once frames come (an app
shall see no card), and plays to whoever watches until standard input ends; then prints a line of JSON: what was
counted, and the processor time it took.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from fractions import Fraction

import numpy as np

from maglens_daemon.main import SWITCH_INTERVAL_S
from maglens_driver.mode import NV12, RAW, Mode, fourcc, make_mode
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


async def find(count: int = 1) -> list[ModuleSource]:
    """The modules that are there, once they are."""
    async with Discovery() as discovery, asyncio.timeout(FIND_S):
        found = [await ModuleSource.open(device) for device in discovery.present()[:count]]
        events = discovery.events()
        while len(found) < count:
            event = await anext(events)
            if event.kind is DeviceEventKind.ADDED and event.device is not None:
                found.append(await ModuleSource.open(event.device))
    return found


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


class Node(KernelNode):
    """Tells when it has its card: drawing one of the largest size takes seconds of the only processor."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.has_card = threading.Event()

    def placeholder(self, image: bytes, format: Mode) -> None:
        super().placeholder(image, format)
        self.has_card.set()


class Stage:
    """One module, its pipeline and its node."""

    def __init__(self, source: ModuleSource, number: int, shown: Mode) -> None:
        self.source = source
        self.lost: list[Exception] = []
        name = f"ours-{number}"
        self.node = Node.create(shown, name, camera_id=name, formats=(shown,))
        self.pipeline = Pipeline(
            self.node,
            loop=asyncio.get_running_loop(),
            on_lost=lambda generation, why: self.lost.append(why),
            on_control=lambda generation, control, value: None,
            measured=lambda statistics: None,
        )

    async def play(self, want: Mode) -> None:
        """Frames come when this is done."""
        assert isinstance(self.node, Node)
        if not await asyncio.to_thread(self.node.has_card.wait, FIRST_S):
            raise RuntimeError(f"no card was drawn within {FIRST_S} s")
        mode = await self.source.configure(want)
        await self.source.start(self.pipeline.begin(1, mode), 1)
        async with asyncio.timeout(FIRST_S):
            while not self.pipeline.stats().frames_in:  # noqa: ASYNC110 counters have no event
                await asyncio.sleep(0.005)

    def counted(self) -> dict[str, object]:
        """How it went."""
        stats = self.pipeline.stats()
        return {
            "frames_in": stats.frames_in,
            "submitted": stats.submitted,
            "repeated": stats.repeated,
            "filled": stats.filled,
            "dropped": dict(stats.dropped),
            "counters": dict(self.source.counters),
            "lost": [str(why) for why in self.lost],
        }

    async def close(self) -> None:
        """End it."""
        await self.source.close()
        await self.pipeline.close()
        self.node.close()


async def run(text: str, size: tuple[int, int], rate: int, modules: int) -> None:
    """See the module."""
    sources = await find(modules)
    code = fourcc(text)
    raw = code in RAW
    wanted = (code, *size, Fraction(1, rate))
    want = next(m for m in sources[0].modes if (m.fourcc, m.width, m.height, m.interval) == wanted)
    shown = make_mode(NV12 if raw else code, *size, Fraction(1, rate))
    figures: dict[str, object] = {}
    if raw:
        figures["alone_per_s"] = alone(sources[0], text, size, rate)
    stages = [Stage(source, number, shown) for number, source in enumerate(sources)]
    for stage in stages:
        await stage.play(want)
    print(" ".join(stage.node.path for stage in stages), flush=True)
    before = cpu_s()
    await asyncio.to_thread(sys.stdin.read)
    figures["cpu_s"] = cpu_s() - before
    figures["stages"] = [stage.counted() for stage in stages]
    for stage in stages:
        await stage.close()
    print(json.dumps(figures), flush=True)


def main() -> None:
    """See the module."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    text, width, height, rate, *more = sys.argv[1:]
    asyncio.run(run(text, (int(width), int(height)), int(rate), int(more[0]) if more else 1))


if __name__ == "__main__":
    main()
