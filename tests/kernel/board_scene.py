# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon's middle with one board's port on gpio-sim, and what it takes to say when something happened."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

from maglens_daemon import status
from maglens_daemon.board import fit
from maglens_daemon.board.boards import Boards
from maglens_daemon.board.gpio import GpioOutput
from maglens_daemon.config import PortConfig
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_daemon.visitors import ModuleVisitor, watch_modules
from maglens_driver.gadget.client import SimClient
from maglens_driver.usb.discovery import Discovery
from tests.kernel.gpio_sim import LABEL, SimChip
from tests.unit.test_daemon_manager import SMALL, Theatre, theatre

LINES = ("MAG_DET", "MAG_EN", "MAG_FLT")
PINS = PortConfig(
    detect="MAG_DET",
    detect_active="high",
    power=f"{LABEL}:1",
    fault="MAG_FLT",
    fault_active="high",
    attach_ms=60,
    removal_ms=40,
    short_test_ms=5,
    settle_ms=5,
)
TOLERANCE_S = 0.02
WAIT_S = 20.0


def note(name: str, figures: object) -> None:
    """Keep figures for the report."""
    path = Path(os.environ.get("OUT", "/tmp")) / "board.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {name: figures}, indent=1) + "\n")


class Rail:
    """The line that feeds the module: when was it driven, as CLOCK_MONOTONIC in seconds after the kernel had done it;
    ``followers`` are called with every change, from whatever thread drives."""

    def __init__(self, chip: SimChip) -> None:
        self.changes: list[tuple[float, bool]] = []
        self.followers: list[Callable[[bool], None]] = []
        self.lies: list[tuple[float, bool]] = []
        self._chip = chip
        self._turn = threading.Condition()

    def driven(self, on: bool) -> None:
        """The kernel was told; it must say the same."""
        now = time.monotonic()
        if self._chip.value("MAG_EN") is not on:
            self.lies.append((now, on))
        with self._turn:
            if self.changes and self.changes[-1][1] is on:
                return
            self.changes.append((now, on))
            self._turn.notify_all()
        for follow in self.followers:
            follow(on)

    def next(self, on: bool, after_s: float) -> float:
        """When it went ``on`` first after ``after_s``."""

        def found() -> list[float]:
            return [at for at, level in self.changes if level is on and at >= after_s]

        with self._turn:
            assert self._turn.wait_for(found, WAIT_S), self.changes
            return found()[0]

    def output(self, name: str, active_low: bool, root: Path) -> GpioOutput:
        """A power switch that tells."""
        rail = self

        class TellingOutput(GpioOutput):
            def set(self, active: bool) -> None:
                super().set(active)
                rail.driven(active)

        return TellingOutput(name, active_low, root)


class Fed:
    """A virtual module that lives on the rail: on USB while it has power, and is seated."""

    def __init__(self, sim: SimClient, rail: Rail) -> None:
        self._sim = sim
        self._todo: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._on_usb = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        rail.followers.append(self._follow)

    def _follow(self, on: bool) -> None:
        self._todo.put(lambda: self._be(on))

    def _work(self) -> None:
        while (do := self._todo.get()) is not None:
            do()

    def _be(self, on: bool) -> None:
        if on is not self._on_usb:
            self._on_usb = on
            (self._sim.attach if on else self._sim.detach)()

    def reset(self) -> None:
        """A brown-out of its own: it leaves USB and comes back, while the rail stays."""
        self._follow(False)
        self._follow(True)

    def close(self) -> None:
        """No more of it."""
        self._todo.put(None)
        self._thread.join()


class Scene:
    """A daemon's middle, with one board's port; an app reads all the while."""

    def __init__(self, t: Theatre, chip: SimChip) -> None:
        self.t, self.chip, self.rail = t, chip, Rail(chip)

    @property
    def port(self) -> status.PortStatus:
        (port,) = status.status(self.t.manager)["ports"]
        return port

    async def until_port(self, state: str) -> None:
        await self.t.until(lambda: self.port["state"] == state, f"port {state}")

    async def until_session(self, state: SessionState) -> Session:
        await self.t.until(lambda: any(s.state is state for s in self.t.manager.sessions), state.value)
        return self.t.manager.sessions[-1]

    async def rail_changes(self, on: bool, after_s: float) -> float:
        return await asyncio.to_thread(self.rail.next, on, after_s)

    def pull(self, line: str, up: bool) -> float:
        """Move a pin; the time just before."""
        now = time.monotonic()
        self.chip.pull(line, up)
        return now


def play(chip: SimChip, scene: Callable[[Scene], Awaitable[None]], settings: PortConfig = PINS) -> None:
    async def run() -> None:
        async with theatre(replace(SMALL, port={"1-1": settings})) as t, Discovery() as discovery:
            made = Scene(t, chip)
            boards = Boards(t.manager)
            with mock.patch.object(fit, "GpioOutput", made.rail.output):
                await boards.apply()
            watching = asyncio.create_task(watch_modules(boards, discovery, ModuleVisitor))
            try:
                await scene(made)
                assert not watching.done(), watching
            finally:
                watching.cancel()
                await t.manager.close()
                await boards.close()
            assert not made.rail.lies

    asyncio.run(run())


class Witness:
    """A process of its own that wants the processor every millisecond, and says when it did not get it: then the
    machine was busy with something else, and what was measured meanwhile says nothing about us."""

    PROGRAM = """
import time
last = time.monotonic()
print("ready", flush=True)
while True:
    time.sleep(0.001)
    now = time.monotonic()
    if now - last > 0.003:
        print(last, now, flush=True)
    last = now
"""

    def __init__(self) -> None:
        command = [sys.executable, "-c", self.PROGRAM]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        os.set_blocking(self._process.stdout.fileno(), False)
        self._gaps: list[tuple[float, float]] = []

    def was_disturbed(self, since_s: float, until_s: float) -> bool:
        """Whether it waited at that time."""
        assert self._process.stdout is not None
        for line in self._process.stdout.readlines():
            begin, end = map(float, line.split())
            self._gaps.append((begin, end))
        return any(begin < until_s and end > since_s for begin, end in self._gaps)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Lateness:
    """What was measured, in seconds; samples that do not count are told apart."""

    def __init__(self, witness: Witness) -> None:
        self.counted: list[float] = []
        self.disturbed: list[float] = []
        self._witness = witness

    def add(self, due_s: float, came_s: float, *, spoilt: bool = False) -> None:
        """Something was due, and came; ``spoilt``: what should have brought it about was late itself."""
        late = came_s - due_s
        disturbed = late > TOLERANCE_S and self._witness.was_disturbed(due_s - 0.01, came_s + 0.01)
        (self.disturbed if disturbed or spoilt else self.counted).append(late)

    def judge(self, name: str, least: int) -> None:
        """Every sample that counts is within the tolerance, and there are enough."""
        shown = {kind: [round(s * 1000, 2) for s in getattr(self, kind)] for kind in ("counted", "disturbed")}
        note(f"{name}_late_ms", shown)
        assert all(-0.001 <= late <= TOLERANCE_S for late in self.counted), shown
        assert len(self.counted) >= least, shown
