# SPDX-License-Identifier: GPL-2.0-or-later
"""Bench: the manager, its boards and directors over two played ports on one budget and a battery, in fake time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final
from unittest.mock import patch

from maglens_daemon import budget, status
from maglens_daemon.board.attach import AttachState
from maglens_daemon.board.boards import Boards
from maglens_daemon.config import Config, LinkConfig, NodeConfig, PolicyConfig, PortConfig, PowerConfig, Rule
from maglens_daemon.manager import Manager
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_driver.frame import Frame, Lease
from maglens_v4l2.memory_node import MemoryNode
from maglens_v4l2.node import Node
from maglens_v4l2.store import Store
from tests.faults.module import INTERVAL, PEAK_MW, SMALL, BenchModule, BenchPort
from tests.faults.pipeline import App, BenchPipeline

SICK: Final = "1-1"
HEALTHY: Final = "1-2"
BUDGET_MW: Final = 6000
SETTLE_S: Final = 5.0
LOOK_S: Final = 0.25  # at least so often is looked, where nothing is told


class HealthySink:
    """Where the healthy module streams to, past the stage: when its frames came. Into memory of its own."""

    class _Buffer:
        view = memoryview(bytearray(SMALL.nbytes))

        def release(self) -> None: ...

    def __init__(self) -> None:
        self.losses: list[Exception] = []
        self._last: float | None = None
        self._longest = 0.0

    def lease(self, nbytes: int) -> Lease | None:
        return self._Buffer()

    def deliver(self, frame: Frame) -> None:
        self._longest = self.longest_gap()
        self._last = asyncio.get_running_loop().time()

    def control(self, generation: int, control: int, value: int) -> None: ...

    def active(self, generation: int, control: int, active: bool) -> None: ...

    def dropped(self, generation: int, cause: str) -> None: ...

    def lost(self, generation: int, why: Exception) -> None:
        self.losses.append(why)

    def pause(self) -> None:
        """It is known that none comes for a while."""
        self._longest, self._last = self.longest_gap(), None

    def longest_gap(self) -> float:
        """Seconds between two frames, up to now."""
        now = asyncio.get_running_loop().time()
        return max(self._longest, 0.0 if self._last is None else now - self._last)


def port_config() -> PortConfig:
    """All that a board can have."""
    return PortConfig(detect="gpiochip0:1", power="gpiochip0:2", fault="gpiochip0:3", meter="/sys/meter", max_mw=4500)


CONFIG: Final = Config(
    node=NodeConfig(width=64, height=48, rate=1 / INTERVAL),
    power=PowerConfig(budget_mw=BUDGET_MW),
    link=LinkConfig(quiet_s=10),
    policy=PolicyConfig(dwell_ms=0, rule=(Rule(port=HEALTHY, use="never"),)),
    port={SICK: port_config(), HEALTHY: port_config()},
)


class WatchedLedger(budget.Ledger):
    """Looked at after every promise, however short it lasts."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def reserve(self, port: str, least_mw: int, most_mw: int) -> int:
        try:
            return super().reserve(port, least_mw, most_mw)
        finally:
            self._check()

    def begin_burst(self, port: str, mw: int) -> bool:
        try:
            return super().begin_burst(port, mw)
        finally:
            self._check()


class Bench:
    """``sick`` plays on the stage; ``healthy`` streams beside it. ``app``: who watches, if anybody does."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.battery(80)
        self.manager = Manager(CONFIG, self._open_node, Store(folder / "store"), root=folder)
        self.ports = {path: BenchPort(path) for path in CONFIG.port}
        self.boards = Boards(self.manager, open_port=lambda path, settings: self.ports[path])
        self.sick = BenchModule("sick", self.boards)
        self.healthy = BenchModule("healthy", self.boards)
        self.node: MemoryNode | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.missed: list[str] = []  # what should have been told meanwhile, and was not
        self.overdrawn: list[str] = []  # times and figures of promises over the budget
        self.app: App | None = None
        self._most_mw = BUDGET_MW
        self._news = asyncio.Event()
        self.manager.allotment.ledger = WatchedLedger(self.check)
        self.manager.listeners.append(self._changed)

    async def _open_node(self, name: str, settings: NodeConfig) -> Node:
        self.node = MemoryNode([settings.mode])
        return self.node

    # The board.

    def battery(self, percent: int, status: str = "Discharging") -> None:
        """What its battery says from now on; tell the manager by :meth:`uevent`."""
        folder = self.root / "sys/class/power_supply/BAT0"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("type", "Battery"), ("capacity", str(percent)), ("status", status)):
            (folder / name).write_text(text + "\n")

    def zone(self, celsius: int) -> None:
        """Its one thermal zone."""
        folder = self.root / "sys/class/thermal/thermal_zone0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "type").write_text("cpu-thermal\n")
        (folder / "temp").write_text(f"{celsius * 1000}\n")

    def uevent(self) -> None:
        """The kernel tells of either."""
        self.manager.conditions.hint()

    # What is.

    @property
    def pipeline(self) -> BenchPipeline:
        pipeline = self.manager.stage.pipeline
        assert isinstance(pipeline, BenchPipeline)
        return pipeline

    def watch(self, on: bool) -> None:
        """An app begins, or ends, to read."""
        if on and self.app is None:
            assert self.node is not None
            self.app = self.pipeline.app = App(self.node.open())
        elif not on and self.app is not None:
            self.app.close()
            self.app = self.pipeline.app = None

    def session(self, path: str) -> Session | None:
        """The latest stay on a port."""
        return next((s for s in reversed(self.manager.sessions) if s.port.path == path), None)

    def attach_state(self, path: str) -> AttachState:
        return next(r.state for r in self.manager.reports() if r.path == path)

    def counters(self, path: str) -> dict[str, int]:
        return next(dict(r.counters) for r in self.manager.reports() if r.path == path)

    def state(self) -> str:
        """Where the sick module has come to, in one word."""
        session, attach = self.session(SICK), self.attach_state(SICK)
        if session is None:
            return "empty" if attach is AttachState.EMPTY else str(attach.value)
        if session.state is SessionState.STREAMING:
            playing = self.manager.stage.playing
            return "streaming" if playing is not None and playing.session is session else "stopping"
        return str(session.state.value)

    def notes(self) -> str:
        """What status says of the sick module, its obstacle and the card included."""
        session = self.session(SICK)
        if session is None:
            return ""
        told = status.module_status(self.manager, session)
        card = self.pipeline.card
        return "; ".join((*told["notes"], told["obstacle"], card.title, *card.lines))

    def message(self) -> str:
        """Why it is not let in."""
        session = self.session(SICK)
        return session.reason if session is not None else ""

    def hint(self) -> str:
        """What to do about it."""
        session = self.session(SICK)
        return session.hint if session is not None else ""

    def seen(self, where: str, what: str) -> None:
        """Now ``what`` has to be told."""
        if what not in where:
            self.missed.append(f"{what!r} was not told, but {where!r}")

    def within_declaration(self) -> None:
        """The sick module has no more than it has declared, whatever it asked for."""
        session = self.session(SICK)
        if session is not None and session.contract is not None and session.contract.mw > PEAK_MW:
            self.missed.append(f"a contract of {session.contract.mw} mW, {PEAK_MW} were declared")

    def _changed(self) -> None:
        self.check()
        self._news.set()

    async def _change(self, limit_s: float) -> None:
        """Wait until something has changed, ``LOOK_S`` at most."""
        self._news.clear()
        timer = asyncio.get_running_loop().call_later(min(LOOK_S, limit_s), self._news.set)
        await self._news.wait()
        timer.cancel()

    def check(self) -> None:
        """At any time: no promise over the budget, no draw over a port's limit left standing by us."""
        ledger = self.manager.allotment.ledger
        total = BUDGET_MW if ledger.total_mw is None else ledger.total_mw
        now = asyncio.get_running_loop().time()
        if ledger.promised_mw > max(total, self._most_mw):
            self.overdrawn.append(f"{now:.2f} s: {ledger.promised_mw} of {total} mW")
        self._most_mw = ledger.promised_mw
        limits = sum(self.manager.allotment.limit_mw(s) for s in self.manager.sessions if s.contract is not None)
        if limits > ledger.promised_mw:
            self.overdrawn.append(f"{now:.2f} s: limits of {limits} mW for promises of {ledger.promised_mw}")

    async def power_comes(self) -> None:
        """Wait until the sick module's port is switched on, which a port in quarantine never is."""
        if self.attach_state(SICK) is not AttachState.QUARANTINED:
            await self.ports[SICK].switched_on.wait()

    async def pass_time(self, seconds: float) -> None:
        """Every change is looked at meanwhile."""
        await asyncio.sleep(seconds)

    async def reach(self, *states: str, limit_s: float = 60.0) -> float:
        """Wait until the sick module is in one of these states; seconds it took. ``TimeoutError`` with what is."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while self.state() not in states:
            if loop.time() > begun + limit_s:
                text = status.status(self.manager)
                for task in self.tasks:
                    if task.done():
                        task.result()
                raise TimeoutError(f"{self.state()} instead of {' or '.join(states)}: {text}")
            await self._change(limit_s)
        return loop.time() - begun

    async def steady(self, seconds: float = SETTLE_S, limit_s: float = 600.0) -> tuple[str, float]:
        """Wait until the state has not changed for so long: the state, and the seconds until it was reached."""
        loop = asyncio.get_running_loop()
        begun = since = loop.time()
        before = (self.state(), self.attach_state(SICK))
        while loop.time() < since + seconds:
            if loop.time() > begun + limit_s:
                raise TimeoutError(f"never at rest, now {before}")
            await self._change(since + seconds - loop.time())
            now = (self.state(), self.attach_state(SICK))
            if now != before:
                before, since = now, loop.time()
        return before[0], since - begun

    async def begin_healthy(self) -> HealthySink:
        """The healthy module streams its smallest mode, and must go on doing so."""
        self.healthy.snap_on(self.ports[HEALTHY])
        sink = HealthySink()
        await self.stream_healthy(sink)
        return sink

    async def stream_healthy(self, sink: HealthySink) -> None:
        """Once it is ready."""
        while (session := self.session(HEALTHY)) is None or session.state is not SessionState.READY:
            await self._change(SETTLE_S)
        await session.configure(SMALL)
        await session.start(sink, 1_000_000)

    async def close(self) -> None:
        """Everybody leaves."""
        self.watch(False)
        for session in self.manager.sessions:
            session.removed()
        await self.manager.close()
        await self.boards.close()


@asynccontextmanager
async def bench(*, fake_time: bool = True) -> AsyncIterator[Bench]:
    """A bench at work. Without ``fake_time`` the pipeline has its thread, and an app of one's own has to read."""
    with (
        tempfile.TemporaryDirectory(prefix="maglens-bench-") as folder,
        patch("maglens_daemon.stage.Pipeline", BenchPipeline) if fake_time else nullcontext(),
    ):
        made = Bench(Path(folder))
        tasks = made.tasks = [asyncio.create_task(made.manager.run()), asyncio.create_task(made.boards.run())]
        await made.manager.settled()
        await made.boards.apply()
        made.watch(fake_time)
        try:
            yield made
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            await made.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
