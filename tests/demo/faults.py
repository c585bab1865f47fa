# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults: ``make demo-faults``, one picture of power, link, state and the app's frames through a bad minute.

The manager, its boards, directors and pipeline are the daemon's own and run in real time; port, battery and module
are those of the fault bench, the app reads the node in memory. Into ``build/demo/faults.png`` and ``faults.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from maglens_v4l2.memory_node import MemoryReader
from tests.faults.bench import SICK, Bench, bench
from tests.faults.module import INTERVAL

SAMPLE_S: Final = 0.02
STATES: Final = ("empty", "debounce", "attach", "identify", "contract", "ready", "streaming", "quarantined")
BOUNCES_MS: Final = (20, 5, 35, 12, 8)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. Seconds, mW, Mbit/s; ``mbit_s`` 0 without a module on USB."""

    at: float
    drawn_mw: int
    limit_mw: int
    mbit_s: int
    mode_mbit_s: int
    state: str


@dataclass(slots=True)
class Story:
    """What is drawn."""

    samples: list[Sample] = field(default_factory=list)
    frames: list[float] = field(default_factory=list)  # when the app got one
    scenes: list[tuple[float, str]] = field(default_factory=list)


class App(threading.Thread):
    """Reads the node as any app does, and notes when."""

    def __init__(self, reader: MemoryReader, frames: list[float], began: float) -> None:
        super().__init__(name="app", daemon=True)
        self._reader, self._frames, self._began = reader, frames, began
        self.ended = threading.Event()

    def run(self) -> None:
        """Until :attr:`ended`."""
        while not self.ended.is_set():
            if self._reader.copy(0.5) is not None:
                self._frames.append(time.monotonic() - self._began)


def look(it: Bench, began: float) -> Sample:
    """What is now."""
    session, port = it.session(SICK), it.ports[SICK]
    on_usb = it.sick.visitor is not None
    limit = it.manager.allotment.limit_mw(session) if session is not None and port.powered else 0
    mode = session.mode if session is not None else None
    return Sample(
        time.monotonic() - began,
        port.draw.mw,
        limit,
        it.sick.speed_mbit_s if on_usb else 0,
        mode.mbit_s if mode is not None and on_usb else 0,
        it.state(),
    )


async def play(it: Bench, story: Story, began: float) -> None:
    """The scenes, one after the other."""
    sick, port = it.sick, it.ports[SICK]

    async def scene(name: str, seconds: float) -> None:
        story.scenes.append((time.monotonic() - began, name))
        await asyncio.sleep(seconds)

    await scene("no module", 1.5)
    story.scenes.append((time.monotonic() - began, "bounces"))
    sick.snap_on(port)
    for open_ms in BOUNCES_MS:
        await asyncio.sleep(open_ms / 1000)
        await sick.bounce(open_ms / 1000, 0.0, 1)
    await asyncio.sleep(4.5)
    sick.over_current()
    await scene("over-current", 5.5)
    it.battery(10)
    it.uevent()
    await scene("battery 10 %", 4.5)
    it.battery(80, "Charging")
    it.uevent()
    await scene("charger", 4.0)
    sick.lift_off()
    await asyncio.sleep(0.3)
    sick.speed_mbit_s = 480
    sick.snap_on(port)
    await scene("half seated", 4.0)
    sick.lift_off()
    await asyncio.sleep(0.3)
    sick.speed_mbit_s = 5000
    sick.snap_on(port)
    await scene("pressed home", 4.0)
    sick.excess_mw = 1500
    sick.measure()
    await scene("draws too much", 1.0)
    sick.excess_mw = 0
    sick.measure()
    await scene("recovers", 5.0)
    sick.lift_off()
    await scene("lifted off", 1.5)


async def film() -> Story:
    """The whole of it."""
    story, began = Story(), time.monotonic()
    async with bench(fake_time=False) as it:
        assert it.node is not None
        reader = it.node.open()
        reader.start()
        app = App(reader, story.frames, began)
        app.start()
        playing = asyncio.create_task(play(it, story, began))
        while not playing.done():
            story.samples.append(look(it, began))
            await asyncio.sleep(SAMPLE_S)
        playing.result()
        app.ended.set()
        await asyncio.to_thread(app.join)
    return story


def draw(story: Story, path: Path) -> None:
    """One figure, four rows above one axis of time."""
    importlib.import_module("matplotlib").use("Agg")
    plot: Any = importlib.import_module("matplotlib.pyplot")
    figure, rows = plot.subplots(
        4, 1, figsize=(15, 9.5), sharex=True, gridspec_kw={"height_ratios": [3, 1.6, 2, 1.8]}, constrained_layout=True
    )
    at = [sample.at for sample in story.samples]
    power, link, state, cadence = rows
    power.step(at, [s.limit_mw / 1000 for s in story.samples], where="post", color="tab:orange", label="port's limit")
    power.fill_between(
        at, [s.drawn_mw / 1000 for s in story.samples], step="post", color="tab:blue", alpha=0.6, label="drawn"
    )
    power.set_ylabel("power, W")
    power.legend(loc="upper right")
    link.step(at, [max(s.mbit_s, 1) for s in story.samples], where="post", color="tab:green", label="trained")
    link.step(at, [max(s.mode_mbit_s, 1) for s in story.samples], where="post", color="tab:purple", label="mode")
    link.set_yscale("log")
    link.set_yticks([1, 100, 480, 5000], ["none", "100", "480", "5000"])
    link.minorticks_off()
    link.set_ylabel("link, Mbit/s")
    link.legend(loc="upper right")
    state.step(at, [_level(s.state) for s in story.samples], where="post", color="black")
    state.set_yticks(range(len(STATES)), STATES)
    state.set_ylabel("state")
    gaps = [(b - a) * 1000 for a, b in zip(story.frames, story.frames[1:], strict=False)]
    cadence.plot(story.frames[1:], gaps, ".", color="tab:red", markersize=4)
    cadence.axhline(float(INTERVAL) * 1000, color="grey", linewidth=0.8)
    cadence.set_ylim(0, max(250, *gaps))
    cadence.set_ylabel("app: ms between\ntwo frames")
    cadence.set_xlabel("seconds")
    for number, (when, name) in enumerate(story.scenes):
        for row in rows:
            row.axvline(when, color="grey", linewidth=0.6, linestyle=":")
        power.annotate(
            name,
            (when, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 4 + 11 * (number % 2)),
            textcoords="offset points",
            fontsize=9,
        )
    figure.suptitle("One module, one bad minute: the app's frames go on", fontsize=13)
    figure.savefig(path, dpi=110)


def _level(state: str) -> int:
    return STATES.index(state) if state in STATES else STATES.index("attach")


def verdict(story: Story) -> Sequence[str]:
    """What the picture must show; empty when it does."""
    wrong = []
    gaps = [b - a for a, b in zip(story.frames, story.frames[1:], strict=False)]
    if max(gaps) > 4 * float(INTERVAL):
        wrong.append(f"the app waited {max(gaps):.2f} s for a frame")
    names = [name for _, name in story.scenes]
    for name, end in (
        ("over-current", "battery 10 %"),
        ("recovers", "lifted off"),
        ("pressed home", "draws too much"),
    ):
        at = story.scenes[names.index(end)][0]
        before = [sample for sample in story.samples if sample.at < at][-1]
        if before.state != "streaming":
            wrong.append(f"it did not recover from {name}: {before.state}")
    return wrong


def main() -> int:
    """Exit status 1 where the picture does not show what it should."""
    parser = argparse.ArgumentParser(prog="make demo-faults", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    story = asyncio.run(film())
    (options.out / "faults.json").write_text(json.dumps(asdict(story)) + "\n")
    draw(story, options.out / "faults.png")
    wrong = verdict(story)
    for text in wrong:
        print(f"demo-faults: NOT KEPT: {text}")
    print(f"demo-faults: {options.out}/faults.png, {len(story.frames)} frames, {len(story.samples)} looks")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
