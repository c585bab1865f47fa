# SPDX-License-Identifier: GPL-2.0-or-later
"""A keeper with its session, on lines that a test moves. In fake time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import pytest

from maglens_daemon.board.attach import Attach, AttachState, Times
from maglens_daemon.board.failures import FAILURES, Code
from maglens_daemon.board.fake import FakePort
from maglens_daemon.board.hardware import Draw, Fittings, Pin
from maglens_daemon.board.keeper import REOPEN_S, UNCONFIGURED_MW, Keeper
from maglens_daemon.board.overdraw import FAST_S, PATIENCE_S, SLOW_S, Overdraw
from maglens_daemon.board.visitor import BoardVisitor
from maglens_daemon.config import Config
from maglens_daemon.fake import FakeVisitor
from maglens_daemon.port import make_port
from maglens_daemon.session import GONE_GRACE_S, IDENTIFY_TRIES, Session
from maglens_daemon.session_state import SessionState
from maglens_daemon.visitor import Visitor
from maglens_driver.errors import BadModule, Deadline
from maglens_driver.source import Identity
from tests.unit import fake_clock

S = SessionState
TIMES = Times()
OFFERED_MW = 4500


class House:
    """A manager of one port."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.turn = asyncio.Event()
        self.promised: dict[Session, int] = {}

    def admit(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session:
        session = Session(len(self.sessions), make_port(path, speed_mbit_s, Config()), visitor, self)
        self.sessions.append(session)
        self.tasks.append(asyncio.create_task(session.run()))
        return session

    def dismiss(self, path: str) -> None:
        self.sessions[-1].removed()

    def limit_mw(self, session: Session) -> int:
        return session.contract.mw if session.contract else self.promised.get(session, 0)

    def reconsider(self) -> None:
        self.turn.set()

    def reserve(self, session: Session) -> int:
        self.promised[session] = OFFERED_MW
        return OFFERED_MW

    def burst(self, session: Session) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def twin(self, session: Session, identity: Identity) -> Session | None:
        return None

    def control_moved(self, session: Session, control: int, value: int) -> None:
        pass

    def changed(self, session: Session) -> None:
        self.turn.set()


class Bench:
    """The keeper, the board's side, and the module's."""

    def __init__(self, fittings: Fittings | None = None) -> None:
        self.port = FakePort(fittings) if fittings is not None else FakePort()
        self.house = House()
        self.keeper = Keeper(
            "1-2",
            self.port,
            Attach(self.port.fittings, TIMES),
            self.house,
            port_at=lambda speed: make_port("1-2", speed, Config()),
            visit=BoardVisitor,
            reopen=self._reopen,
            tolerance=0.05,
        )
        self.module = FakeVisitor()
        self.ports = [self.port]
        self.trouble: Exception | None = None  # while the pins are taken anew

    def _reopen(self) -> FakePort:
        if self.trouble is not None:
            raise self.trouble
        self.port = FakePort(self.port.fittings)
        self.port.move(Pin.DETECT, True)
        self.ports.append(self.port)
        return self.port

    @property
    def session(self) -> Session:
        return self.house.sessions[-1]

    async def until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                self.house.turn.clear()
                await self.house.turn.wait()

    async def until_attach(self, state: AttachState) -> None:
        await self.until(lambda: self.keeper.attach.state is state)

    async def snap_on(self) -> None:
        """To ready."""
        self.port.move(Pin.DETECT, True)
        await self.until_attach(AttachState.ENUMERATE)
        self.usb()
        await self.until(lambda: self.session.state is S.READY)

    def usb(self) -> None:
        self.module = FakeVisitor()
        self.keeper.arrive(5000, self.module)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def close(self) -> None:
        for session in self.house.sessions:
            session.removed()
        await asyncio.gather(*self.house.tasks)
        await self.keeper.close()


def play(scene: Callable[[Bench], Awaitable[None]], fittings: Fittings | None = None) -> None:
    async def run() -> None:
        bench = Bench(fittings)
        try:
            await scene(bench)
        finally:
            await bench.close()

    fake_clock.run(run())


def test_a_stay() -> None:
    async def scene(bench: Bench) -> None:
        await bench.snap_on()
        assert bench.port.powered and bench.session.port.speed_mbit_s == 5000
        attach, settle = TIMES.attach_s, TIMES.short_test_s
        (tested, limit), (on, _) = bench.port.log[-2:]
        assert limit == UNCONFIGURED_MW, "before a contract"
        assert [tested, on] == pytest.approx([attach, attach + settle])
        report = bench.keeper.report()
        assert report.state is AttachState.PRESENT and report.seated and report.powered
        assert report.limit_mw == OFFERED_MW
        bench.port.move(Pin.DETECT, False)
        bench.keeper.depart()
        lifted = bench.now()
        await bench.until(lambda: bench.session.state is S.GONE)
        at, limit = bench.port.log[-1]
        assert limit is None and at == pytest.approx(lifted + TIMES.removal_s)
        assert bench.keeper.limit_mw == UNCONFIGURED_MW
        await bench.snap_on()
        assert len(bench.house.sessions) == 2

    play(scene)


@pytest.mark.parametrize("pin", [Pin.FAULT, Pin.ALARM])
def test_a_fault_cuts_and_the_module_comes_back_in_its_stay(pin: Pin, caplog: pytest.LogCaptureFixture) -> None:
    code = Code.OVER_CURRENT if pin is Pin.FAULT else Code.CURRENT_ALARM

    async def scene(bench: Bench) -> None:
        await bench.snap_on()
        bench.port.move(pin, True)
        cut = bench.now()
        assert not bench.port.powered
        await bench.until(lambda: bench.session.state is S.ATTACH)
        assert bench.now() == cut
        bench.keeper.depart()
        bench.port.move(pin, False)
        await bench.until(lambda: bench.port.powered)
        assert bench.now() >= cut + FAILURES[code].rule.pause_s
        await bench.until_attach(AttachState.ENUMERATE)
        bench.usb()
        await bench.until(lambda: bench.session.state is S.READY)
        assert len(bench.house.sessions) == 1
        assert bench.keeper.report().counters[code.value] == 1

    with caplog.at_level(logging.WARNING):
        play(scene)
    (record,) = (r for r in caplog.records if "it is tried again" in r.message)
    assert record.__dict__["MAGLENS_CAUSE"] == code.value


def test_a_fault_without_end_is_refused_and_forgotten_when_lifted() -> None:
    async def scene(bench: Bench) -> None:
        for turn in range(FAILURES[Code.OVER_CURRENT].rule.tries):
            if turn == 0:
                await bench.snap_on()
            else:
                await bench.until_attach(AttachState.ENUMERATE)
                bench.usb()
                await bench.until(lambda: bench.session.state is S.READY)
            bench.port.move(Pin.FAULT, True)
            bench.port.move(Pin.FAULT, False)
            await bench.until(lambda: bench.session.state is not S.READY)
            bench.keeper.depart()
        await bench.until(lambda: bench.session.state is S.QUARANTINED)
        assert bench.session.cause == "over_current" and "5 times" in bench.session.reason
        assert not bench.port.powered
        bench.port.move(Pin.DETECT, False)
        await bench.until(lambda: bench.session.state is S.GONE)
        await bench.snap_on()
        assert bench.keeper.report().code is None

    play(scene)


def test_a_short_is_refused_by_its_rule() -> None:
    async def scene(bench: Bench) -> None:
        bench.port.move(Pin.FAULT, True)
        bench.port.move(Pin.DETECT, True)
        await bench.until(lambda: bool(bench.house.sessions) and bench.session.state is S.QUARANTINED)
        assert bench.session.cause == "short"
        assert all(limit is None for _, limit in bench.port.log), "never power"

    play(scene)


def test_metered_draw_over_the_contract_is_cut_after_100_ms() -> None:
    async def scene(bench: Bench) -> None:
        await bench.snap_on()
        assert bench.keeper.limit_mw == OFFERED_MW
        bench.port.draw = Draw(5000, 900, 4500)  # as agreed
        await asyncio.sleep(SLOW_S + 1)
        assert bench.port.powered
        bench.port.draw = Draw(5000, 1000, 5000)
        over = bench.now()
        await bench.until(lambda: not bench.port.powered)
        assert PATIENCE_S - FAST_S <= bench.now() - over <= PATIENCE_S + 2 * FAST_S
        assert bench.keeper.report().code is Code.OVER_DRAW
        await bench.until(lambda: bench.session.state is S.ATTACH)

    play(scene)


def test_a_spike_is_not_cut() -> None:
    async def scene(bench: Bench) -> None:
        await bench.snap_on()
        for _ in range(20):
            bench.port.draw = Draw(5000, 2000, 10_000)
            await asyncio.sleep(PATIENCE_S * 0.7)
            bench.port.draw = Draw(5000, 600, 3000)
            await asyncio.sleep(2 * FAST_S)
        assert bench.port.powered and bench.session.state is S.READY

    play(scene)


def test_metering_rests_while_the_module_does() -> None:
    async def scene(bench: Bench) -> None:
        await asyncio.sleep(10)
        assert bench.port.measured == 0, "nothing is there"
        await bench.snap_on()
        bench.port.draw = Draw(5000, 100, 500)
        await asyncio.sleep(2 * SLOW_S)
        before = bench.port.measured
        await asyncio.sleep(10.0)
        assert bench.port.measured - before == pytest.approx(10 / SLOW_S, abs=1)
        bench.port.draw = Draw(5000, 600, 3000)
        await asyncio.sleep(2 * SLOW_S)
        before = bench.port.measured
        await asyncio.sleep(1.0)
        assert bench.port.measured - before == pytest.approx(1 / FAST_S, abs=2)
        bench.port.move(Pin.DETECT, False)
        await bench.until_attach(AttachState.EMPTY)
        before = bench.port.measured
        await asyncio.sleep(10.0)
        assert bench.port.measured == before

    play(scene)


@pytest.mark.parametrize("source_first", [True, False])
def test_a_brown_out_is_told_apart_from_removal_and_counted(
    source_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        await bench.snap_on()
        old = bench.module
        if source_first:
            old.unplug()
            await bench.until(lambda: bench.session.state is S.ATTACH)
            await asyncio.sleep(0.01)
        bench.keeper.depart()
        await bench.until(lambda: bench.session.state is S.ATTACH)
        assert bench.port.powered
        await asyncio.sleep(1.0)
        bench.usb()
        await bench.until(lambda: bench.session.state is S.READY)
        assert len(bench.house.sessions) == 1
        assert bench.keeper.report().counters == {"edges": 1, "brown_out": 1}
        assert old.source.closed and not bench.module.source.closed

    play(scene)
    (record,) = (r for r in caplog.records if r.levelno == logging.WARNING)
    assert "it reset while it stayed" in record.message and record.__dict__["MAGLENS_CAUSE"] == "brown_out"


def test_a_module_that_is_not_on_usb_in_time() -> None:
    async def scene(bench: Bench) -> None:
        bench.port.move(Pin.DETECT, True)
        await bench.until(lambda: bool(bench.house.sessions) and bench.session.state is S.QUARANTINED)
        rule = FAILURES[Code.NO_USB].rule
        assert bench.session.cause == "no_usb"
        assert bench.now() == pytest.approx(
            rule.tries * (TIMES.enumerate_s + TIMES.short_test_s + TIMES.settle_s)
            + (rule.tries - 1) * rule.pause_s
            + TIMES.attach_s
        )

    play(scene)


def test_a_module_that_does_not_answer_is_power_cycled_twice() -> None:
    async def scene(bench: Bench) -> None:
        rule = FAILURES[Code.NO_ANSWER].rule
        bench.port.move(Pin.DETECT, True)
        for turn in range(1, rule.tries + 1):
            await bench.until_attach(AttachState.ENUMERATE)
            module = FakeVisitor()
            module.steps.fail("open", *[Deadline("no answer")] * IDENTIFY_TRIES)
            bench.keeper.arrive(480, module)
            await bench.until(lambda turn=turn: bench.keeper.attach.counters["no_answer"] == turn)  # type: ignore[misc]
            bench.keeper.depart()
        await bench.until(lambda: bench.session.state is S.QUARANTINED)
        await bench.until(lambda: not bench.port.powered)
        assert bench.session.cause == "no_answer"

    play(scene)


def test_a_module_that_hangs_is_power_cycled() -> None:
    """Its source says that it has gone, and USB says that it is still there."""

    async def scene(bench: Bench) -> None:
        await bench.snap_on()
        bench.module.unplug()
        await bench.until(lambda: bench.session.state is S.ATTACH)
        since = bench.now()
        await bench.until(lambda: not bench.port.powered)
        assert bench.now() - since == pytest.approx(GONE_GRACE_S)
        assert bench.keeper.report().code is Code.NO_ANSWER

    play(scene)


def test_what_the_session_refuses_gets_no_power() -> None:
    async def scene(bench: Bench) -> None:
        bench.port.move(Pin.DETECT, True)
        await bench.until_attach(AttachState.ENUMERATE)
        module = FakeVisitor()
        module.steps.fail("open", BadModule("descriptor_crc", "broken"))
        bench.keeper.arrive(5000, module)
        await bench.until(lambda: bench.session.state is S.QUARANTINED)
        await bench.until(lambda: not bench.port.powered)
        assert bench.session.cause == "descriptor_crc"

    play(scene)


def test_a_board_that_does_not_obey() -> None:
    async def scene(bench: Bench) -> None:
        bench.port.broken = OSError(5, "Input/output error")
        bench.port.move(Pin.DETECT, True)
        await bench.until(lambda: bool(bench.house.sessions) and bench.session.state is S.QUARANTINED)
        assert bench.session.cause == "board_error" and bench.session.hint == "maglens doctor"

    play(scene)


def test_a_board_whose_lines_have_gone() -> None:
    """An expander that was unplugged: nothing is seated as far as anyone can tell, and status still answers."""

    async def scene(bench: Bench) -> None:
        bench.port.move(Pin.DETECT, True)
        await bench.until_attach(AttachState.ENUMERATE)
        bench.port.deaf = OSError(19, "No such device")
        assert bench.keeper.report().seated is False
        await bench.until_attach(AttachState.EMPTY)
        await bench.until(lambda: bench.session.state is S.GONE)
        assert not bench.port.powered

    play(scene)


def test_a_board_whose_lines_cannot_be_read_from_the_first() -> None:
    """The service goes on; the port is empty until its lines can be read."""

    async def scene(bench: Bench) -> None:
        bench.port.deaf = OSError(19, "No such device")
        await bench.close()  # the keeper that play() made; this one begins deaf
        deaf = Keeper(
            "1-2",
            bench.port,
            Attach(bench.port.fittings, TIMES),
            bench.house,
            port_at=lambda speed: make_port("1-2", speed, Config()),
            visit=BoardVisitor,
            reopen=bench._reopen,
            tolerance=0.05,
        )
        assert deaf.attach.state is AttachState.EMPTY and deaf.report().seated is False
        await deaf.close()

    play(scene)


def test_a_port_whose_interlock_has_ended_stays_off_until_its_pins_were_taken_anew() -> None:
    async def scene(bench: Bench) -> None:
        await bench.snap_on()
        before = bench.port
        bench.trouble = OSError(121, "Remote I/O error")
        before.end(OSError(5, "Input/output error"))  # its lines can be read still
        await bench.until_attach(AttachState.RECOVER)
        bench.keeper.depart()
        await asyncio.sleep(10 * REOPEN_S)
        assert before.closed and not before.powered
        assert bench.keeper.report().code is Code.BOARD_ERROR and not bench.keeper.report().powered
        bench.trouble = None
        await bench.until_attach(AttachState.ENUMERATE)
        assert len(bench.ports) == 2 and bench.port.powered
        bench.usb()
        await bench.until(lambda: bench.session.state is S.READY)
        bench.port.move(Pin.FAULT, True)
        await bench.until_attach(AttachState.RECOVER)
        assert bench.keeper.report().code is Code.OVER_CURRENT

    play(scene)


def test_a_fault_line_that_cannot_be_read_counts_as_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(bench: Bench) -> None:
        level = bench.port.level

        def no_fault_line(pin: Pin) -> bool:
            if pin is Pin.FAULT:
                raise OSError(19, "No such device")
            return level(pin)

        monkeypatch.setattr(bench.port, "level", no_fault_line)
        bench.port.move(Pin.DETECT, True)
        await bench.until(lambda: bool(bench.house.sessions) and bench.session.state is S.QUARANTINED)
        assert bench.session.cause == "short" and not bench.port.powered

    play(scene)


def test_a_meter_without_a_switch_refuses() -> None:
    """It cannot cut; what it can is not to use the module."""

    async def scene(bench: Bench) -> None:
        bench.usb()
        await bench.until(lambda: bool(bench.house.sessions) and bench.session.state is S.READY)
        bench.port.draw = Draw(5000, 2000, 10_000)
        await bench.until(lambda: bench.session.state is S.QUARANTINED)
        assert bench.session.cause == "over_draw"
        bench.keeper.depart()
        await bench.until(lambda: bench.session.state is S.GONE)

    play(scene, Fittings(meter=True))


def test_a_reading_that_fails_once_does_not_end_metering() -> None:
    """Without a switch the module's power stays, and with it the meter's task."""

    async def scene(bench: Bench) -> None:
        bench.usb()
        await bench.until(lambda: bool(bench.house.sessions) and bench.session.state is S.READY)
        bench.port.broken = OSError(121, "Remote I/O error")
        await bench.until_attach(AttachState.RECOVER)
        assert bench.keeper.report().code is Code.BOARD_ERROR
        bench.port.broken = None
        await bench.until(lambda: bench.session.state is S.READY)
        bench.port.draw = Draw(5000, 2000, 10_000)
        await bench.until(lambda: bench.session.state is S.QUARANTINED)
        assert bench.session.cause == "over_draw"

    play(scene, Fittings(meter=True))


def test_a_meter_that_stays_broken_is_no_way_past_the_rule(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(bench: Bench) -> None:
        bench.usb()
        await bench.until(lambda: bool(bench.house.sessions) and bench.session.state is S.READY)
        bench.port.broken = OSError(121, "Remote I/O error")
        await bench.until(lambda: bench.session.state is S.QUARANTINED)
        assert bench.session.cause == "board_error"
        await asyncio.sleep(10 * SLOW_S)
        assert caplog.text.count("Remote I/O error") == 1

    play(scene, Fittings(meter=True))


def test_overdraw_judges_every_sample() -> None:
    judge = Overdraw(0.0)
    assert not judge.judge(2501, 2500, 0.0)
    assert not judge.judge(2501, 2500, 0.099)
    assert not judge.judge(2500, 2500, 0.1)
    assert not judge.judge(2501, 2500, 0.11)
    assert judge.judge(2501, 2500, 0.211)
