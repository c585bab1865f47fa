# SPDX-License-Identifier: GPL-2.0-or-later
"""A session's stay: the table against its diagram, removal in every state, failures at every step. In fake time."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from maglens_daemon import session_state
from maglens_daemon.board.failures import AttachFailed, Code
from maglens_daemon.config import Config
from maglens_daemon.fake import MODE, FakeSeat, FakeVisitor
from maglens_daemon.port import make_port
from maglens_daemon.restraint import RESEAT
from maglens_daemon.session import (
    CLOSE_S,
    CONFIGURE_S,
    GONE_GRACE_S,
    IDENTIFY_TRIES,
    TELL_MAKER,
    Session,
)
from maglens_daemon.session_state import TRANSITIONS, SessionState
from maglens_driver.errors import BadModule, Deadline, Gone, MaglensError, Refused, WrongState
from maglens_driver.frame import Frame, Lease
from maglens_driver.link.pd import PdMessage, PdType
from maglens_driver.source import Identity
from tests.unit import fake_clock

S = SessionState


class FakeHost:
    """A manager that has power and no twins, and remembers the states it was told of."""

    bursts = 0

    def __init__(self) -> None:
        self.states: list[SessionState] = []
        self.other: Session | None = None
        self.turn = asyncio.Event()
        self.power_mw = 4500

    def reserve(self, session: Session) -> int:
        return self.power_mw

    @asynccontextmanager
    async def burst(self, session: Session) -> AsyncIterator[None]:
        self.bursts += 1
        yield

    def twin(self, session: Session, identity: Identity) -> Session | None:
        return self.other

    def control_moved(self, session: Session, control: int, value: int) -> None:
        pass

    def changed(self, session: Session) -> None:
        if not self.states or self.states[-1] is not session.state:
            self.states.append(session.state)
        self.turn.set()


class NullSink:
    """Takes nothing."""

    def lease(self, nbytes: int) -> Lease | None:
        return None

    def deliver(self, frame: Frame) -> None:
        frame.lease.release()

    def control(self, generation: int, control: int, value: int) -> None: ...

    def active(self, generation: int, control: int, active: bool) -> None: ...

    def dropped(self, generation: int, cause: str) -> None: ...

    def lost(self, generation: int, why: Exception) -> None: ...


class Stage:
    """One session in its loop."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.visitor = FakeVisitor()
        self.session = Session(1, make_port("1-2", 5000, Config()), self.visitor, self.host)
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.task = asyncio.create_task(self.session.run())

    async def until(self, state: SessionState) -> None:
        async with asyncio.timeout(60):
            while self.session.state is not state:
                self.host.turn.clear()
                await self.host.turn.wait()

    async def to_ready(self) -> None:
        self.begin()
        await self.until(S.READY)

    async def to_streaming(self) -> None:
        await self.to_ready()
        await self.session.configure(MODE)
        await self.session.start(NullSink(), 1)

    async def end(self) -> None:
        assert self.task is not None
        self.session.removed()
        await self.task


# --- the table and its diagram ---------------------------------------------------------------------------------


def diagram() -> set[tuple[SessionState, SessionState]]:
    """The transitions that the module's doc comment draws."""
    found: set[tuple[SessionState, SessionState]] = set()
    words = "|".join(s.value for s in S)
    for line in (session_state.__doc__ or "").splitlines():
        if not re.fullmatch(rf"\s+(\*|{words})( <?-> ({words}))+", line):
            continue
        parts = line.split()
        for left, arrow, right in zip(parts[0::2], parts[1::2], parts[2::2], strict=False):
            lefts = [s for s in S if s not in (S.QUARANTINED, S.GONE)] if left == "*" else [S(left)]
            found |= {(state, S(right)) for state in lefts}
            if arrow == "<->":
                found |= {(S(right), S(left))}
    return found


def test_the_diagram_is_the_table() -> None:
    assert diagram() == {(a, b) for a, targets in TRANSITIONS.items() for b in targets}


def test_every_state_is_in_the_table_and_has_a_meaning() -> None:
    assert set(TRANSITIONS) == set(S)
    assert all(S.GONE in TRANSITIONS[s] for s in S if s is not S.GONE)
    assert {s for s in S if s.is_playable} == {S.READY, S.STREAMING, S.STANDBY}
    assert {s for s in S if s.is_end} == {S.QUARANTINED, S.GONE}


def test_a_transition_that_is_not_in_the_table_is_an_error() -> None:
    async def play() -> None:
        stage = Stage()
        with pytest.raises(WrongState, match="no way from detected to streaming"):
            stage.session._enter(S.STREAMING)

    fake_clock.run(play())


def test_a_quiet_stay() -> None:
    async def play() -> None:
        stage = Stage()
        await stage.to_streaming()
        await stage.session.stop()
        await stage.session.standby()
        assert stage.session.contract is not None
        assert stage.session.contract.mw == 4500
        await stage.session.configure(MODE)
        await stage.session.start(NullSink(), 2)
        await stage.end()
        played = [S.READY, S.STREAMING]
        assert stage.host.states == [S.IDENTIFY, S.CONTRACT, *played, S.READY, S.STANDBY, *played, S.GONE]
        assert stage.visitor.source.closed

    fake_clock.run(play())


# --- removal in every state ------------------------------------------------------------------------------------

Reach = Callable[[Stage], Awaitable[None]]


async def in_detected(stage: Stage) -> None:
    stage.begin()


def held_at(step: str) -> Reach:
    async def reach(stage: Stage) -> None:
        stage.visitor.steps.hold(step)
        stage.begin()
        await stage.visitor.steps.reached(step)

    return reach


def held_doing(step: str) -> Reach:
    """While the manager waits for the source."""

    async def reach(stage: Stage) -> None:
        await (stage.to_streaming() if step == "stop" else stage.to_ready())
        stage.visitor.steps.hold(step)
        work = {
            "configure": lambda: stage.session.configure(MODE),
            "start": lambda: stage.session.start(NullSink(), 9),
            "stop": stage.session.stop,
            "standby": stage.session.standby,
        }[step]
        task = asyncio.ensure_future(work())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await stage.visitor.steps.reached(step)

    return reach


async def in_attach(stage: Stage) -> None:
    stage.visitor.seat = FakeSeat(stage.visitor.steps)
    await held_at("taken")(stage)


async def in_standby(stage: Stage) -> None:
    await stage.to_ready()
    await stage.session.standby()
    assert stage.session.state is S.STANDBY


async def in_quarantine(stage: Stage) -> None:
    stage.visitor.steps.fail("open", BadModule("descriptor_crc", "broken"))
    stage.begin()
    await stage.until(S.QUARANTINED)


PLACES: dict[str, tuple[Reach, SessionState]] = {
    "detected": (in_detected, S.DETECTED),
    "attach": (in_attach, S.ATTACH),
    "identify": (held_at("open"), S.IDENTIFY),
    "contract": (held_at("agree"), S.CONTRACT),
    "ready": (Stage.to_ready, S.READY),
    "ready, configuring": (held_doing("configure"), S.READY),
    "ready, starting": (held_doing("start"), S.READY),
    "ready, going to rest": (held_doing("standby"), S.READY),
    "streaming": (Stage.to_streaming, S.STREAMING),
    "streaming, stopping": (held_doing("stop"), S.STREAMING),
    "standby": (in_standby, S.STANDBY),
    "quarantined": (in_quarantine, S.QUARANTINED),
}


def test_every_state_but_gone_is_among_the_places() -> None:
    assert {state for _, state in PLACES.values()} == set(S) - {S.GONE}


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("source_first", [False, True], ids=["port first", "source first"])
@pytest.mark.parametrize("place", PLACES)
def test_removal_is_legal_in_every_state(place: str, source_first: bool, twice: bool) -> None:
    reach, state = PLACES[place]

    async def play() -> None:
        stage = Stage()
        await reach(stage)
        assert stage.session.state is state
        if source_first:
            stage.visitor.unplug()
            stage.visitor.steps.fail("configure", Gone("unplugged"))
            await asyncio.sleep(0.01)
        for _ in range(1 + twice):
            stage.session.removed()
        assert stage.task is not None
        begun = asyncio.get_running_loop().time()
        await asyncio.wait_for(stage.task, 60)
        assert stage.session.state is S.GONE
        assert stage.host.states[-1] is S.GONE
        assert stage.visitor.source.closed == (stage.visitor.steps.passed["open"] > 0)
        assert asyncio.get_running_loop().time() - begun <= CONFIGURE_S + 2 * CLOSE_S
        assert not stage.session.is_playable
        with pytest.raises(Gone):
            await stage.session.configure(MODE)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [t.get_name() for t in left if "1-2" in t.get_name()]

    fake_clock.run(play())


# --- failures --------------------------------------------------------------------------------------------------

FAILURES = [
    ("open", BadModule("descriptor_crc", "broken"), "descriptor_crc", 1),
    ("open", Refused("ACCESS", "no permission", hint="maglens doctor"), "refused", 1),
    ("open", OSError(5, "Input/output error"), "oserror", 1),
    ("agree", Refused("POWER", "asked 3 times"), "refused", 1),
    ("agree", BadModule("pd_unexpected", "what?"), "pd_unexpected", 1),
    ("attend", BadModule("event_magic", "broken"), "event_magic", 1),
    ("open", ZeroDivisionError("a defect of ours"), "zerodivisionerror", 1),
]


@pytest.mark.parametrize(("step", "error", "cause", "times"), FAILURES, ids=[f"{f[0]} {f[2]}" for f in FAILURES])
def test_a_failure_is_quarantine_with_its_cause(
    step: str, error: Exception, cause: str, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> Stage:
        stage = Stage()
        stage.visitor.steps.fail(step, *itertools.repeat(error, times))
        stage.begin()
        await stage.until(S.QUARANTINED)
        await asyncio.sleep(0.01)
        assert (stage.session.cause, stage.session.reason) == (cause, str(error))
        assert stage.session.hint == ((error.hint if isinstance(error, MaglensError) else "") or TELL_MAKER)
        assert stage.visitor.source.closed == (step != "open")
        assert stage.session.contract is None
        with pytest.raises(WrongState):
            await stage.session.configure(MODE)
        await stage.end()
        return stage

    fake_clock.run(play())
    (told,) = [r for r in caplog.records if "refused" in r.getMessage()]
    assert vars(told)["MAGLENS_PORT"] == "1-2"
    assert vars(told)["MAGLENS_CAUSE"] == cause
    if isinstance(error, ZeroDivisionError):
        assert any(r.exc_info for r in caplog.records), "a defect of ours is logged with its trace"


def test_a_late_answer_is_tried_again() -> None:
    async def play() -> None:
        stage = Stage()
        stage.visitor.steps.fail("open", *[Deadline("late")] * (IDENTIFY_TRIES - 1))
        stage.visitor.steps.fail("agree", Deadline("late"))
        await stage.to_ready()
        await stage.end()

    fake_clock.run(play())


@pytest.mark.parametrize(
    ("step", "what"), [("open", "did not answer 3 times"), ("agree", "no power contract after 2")]
)
def test_late_every_time_is_quarantine(step: str, what: str) -> None:
    async def play() -> None:
        stage = Stage()
        stage.visitor.steps.fail(step, *[Deadline("late")] * IDENTIFY_TRIES)
        stage.begin()
        await stage.until(S.QUARANTINED)
        assert what in stage.session.reason
        assert stage.session.hint
        await stage.end()

    fake_clock.run(play())


@pytest.mark.parametrize("step", ["open", "agree"])
def test_a_step_that_never_ends_is_ended(step: str) -> None:
    async def play() -> None:
        stage = Stage()
        stage.visitor.steps.hold(step)
        stage.begin()
        await stage.until(S.QUARANTINED)
        await stage.end()

    fake_clock.run(play())


@pytest.mark.parametrize("work", ["hear_power", "squeeze"])
def test_one_late_answer_about_power_does_not_end_a_stay_that_plays(
    work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        stage = Stage()
        await stage.to_streaming()
        before = stage.session.contract
        assert before is not None and before.least_mw < before.mw
        stage.visitor.steps.fail("agree", Deadline("late"))
        heard, receive = [], stage.visitor.sink.receive

        def hear(message: PdMessage) -> bool:
            heard.append(message.type)
            return receive(message)

        monkeypatch.setattr(stage.visitor.sink, "receive", hear)
        await getattr(stage.session, work)()
        assert heard[0] is PdType.SOFT_RESET
        after = stage.session.contract
        assert stage.session.state is S.STREAMING and after is not None
        assert after.mw == (before.mw if work == "hear_power" else before.least_mw)
        assert stage.visitor.sink.allowed_mw == after.mw
        stage.visitor.steps.fail("agree", *[Deadline("late")] * 2)
        await stage.session.hear_power()
        await stage.until(S.QUARANTINED)
        assert "no power contract after 2" in stage.session.reason
        await stage.end()

    fake_clock.run(play())


def test_a_slow_link_is_told_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    async def play(speed_mbit_s: int) -> None:
        stage = Stage()
        stage.visitor.source.modes = (replace(MODE, mbit_s=2000),)
        stage.session.port = make_port("1-2", speed_mbit_s, Config())
        await stage.to_ready()
        await stage.end()

    fake_clock.run(play(5000))
    assert "the link came up" not in caplog.text
    fake_clock.run(play(480))
    (told,) = [r for r in caplog.records if "the link came up at 480 Mbit/s only" in r.getMessage()]
    assert told.levelname == "WARNING" and RESEAT in told.getMessage()


def test_no_rest_for_what_begins_to_play_meanwhile() -> None:
    async def play() -> None:
        stage = Stage()
        await stage.to_ready()
        stage.visitor.steps.hold("start")
        await stage.session.configure(MODE)
        start = asyncio.create_task(stage.session.start(NullSink(), 1))
        await stage.visitor.steps.reached("start")
        rest = asyncio.create_task(stage.session.standby())
        await asyncio.sleep(0)
        stage.visitor.steps.free("start")
        await asyncio.gather(start, rest)
        assert stage.session.state is S.STREAMING
        assert stage.visitor.steps.passed["standby"] == 0
        await stage.end()

    fake_clock.run(play())


@pytest.mark.parametrize("step", ["configure", "start"])
def test_what_the_manager_asks_for_has_a_deadline(step: str) -> None:
    async def play() -> None:
        stage = Stage()
        await stage.to_ready()
        stage.visitor.steps.hold(step)
        for snapped, advice in ((True, "lift it off"), (False, "it is tried again")):
            stage.visitor.snapped = snapped
            with pytest.raises(Deadline, match="took more than") as late:
                await stage.session.configure(MODE)
                await stage.session.start(NullSink(), 1)
            assert late.value.hint.startswith(advice)
        await stage.end()

    fake_clock.run(play())


def test_stop_and_close_that_hang_do_not_hold_up_the_end() -> None:
    async def play() -> None:
        stage = Stage()
        await stage.to_streaming()
        stage.visitor.steps.hold("stop")
        stage.visitor.steps.hold("close")
        await stage.session.stop()
        await stage.end()
        assert stage.host.states[-2:] == [S.READY, S.GONE]

    fake_clock.run(play())


def test_gone_without_removal_is_quarantine_after_a_moment() -> None:
    async def play() -> None:
        stage = Stage()
        await stage.to_ready()
        stage.visitor.unplug()
        await asyncio.sleep(GONE_GRACE_S / 2)
        assert stage.session.state is S.READY
        assert not stage.session.is_playable
        await stage.until(S.QUARANTINED)
        assert "still there" in stage.session.reason
        await stage.end()

    fake_clock.run(play())


def test_the_first_cause_stays() -> None:
    async def play() -> None:
        stage = Stage()
        await stage.to_streaming()
        stage.session.fail(Deadline("first"))
        stage.session.fail(Deadline("second"))
        assert stage.session.reason == "first"
        await asyncio.sleep(0.01)
        assert stage.visitor.source.closed
        await stage.end()

    fake_clock.run(play())


def test_a_twin_is_refused_and_both_ports_are_named() -> None:
    async def play() -> None:
        first, second = Stage(), Stage()
        await first.to_ready()
        second.session.port = make_port("3-4", 5000, Config())
        second.host.other = first.session
        second.begin()
        await second.until(S.QUARANTINED)
        assert "3-4" in second.session.reason
        assert "1-2" in second.session.reason
        assert second.session.cause == "identity"
        assert first.session.state is S.READY
        await first.end()
        await second.end()

    fake_clock.run(play())


def test_what_may_not_be_talked_to_is_not_opened() -> None:
    async def play() -> None:
        stage = Stage()
        stage.visitor.refusal = BadModule("unconfigured_power", "draws too much")
        stage.begin()
        await stage.until(S.QUARANTINED)
        assert stage.visitor.steps.passed["open"] == 0
        assert stage.host.states == [S.QUARANTINED]
        await stage.end()

    fake_clock.run(play())


def test_the_offer_is_what_the_host_reserved() -> None:
    async def play() -> None:
        stage = Stage()
        stage.host.power_mw = 1500
        await stage.to_ready()
        assert stage.session.feed is not None
        assert [(o.mv, o.ma) for o in stage.session.feed.supply.offered] == [(5000, 300)]
        await stage.end()

    fake_clock.run(play())


# --- on a board's port -----------------------------------------------------------------------------------------


def test_a_board_takes_the_module_away_and_lets_it_in_again() -> None:
    """In whatever step, in one stay, and with a contract of its own."""

    async def play(step: str) -> None:
        stage = Stage()
        seat = stage.visitor.seat = FakeSeat(stage.visitor.steps)
        seat.goes_on = True
        steps = stage.visitor.steps
        steps.hold(step)
        stage.begin()
        await steps.reached(step)
        steps.hold("taken")
        stage.session.interrupted()
        assert not stage.session.is_playable
        await stage.until(S.ATTACH)
        assert stage.session.contract is None
        assert isinstance(seat.failures[0], Gone)
        steps.free(step)
        steps.free("taken")
        await stage.until(S.READY)
        assert steps.passed["taken"] == 2
        stage.session.playable()
        await stage.end()
        assert seat.refusals == 0

    for step in ("open", "agree", "attend"):
        fake_clock.run(play(step))


def test_a_stream_that_is_cut_off() -> None:
    async def play() -> None:
        stage = Stage()
        seat = stage.visitor.seat = FakeSeat(stage.visitor.steps)
        seat.goes_on = True
        await stage.to_streaming()
        stage.visitor.steps.hold("taken")
        stage.session.interrupted()
        stage.session.fail(Gone("the echo"))  # the director, of the stream that has ended
        await stage.until(S.ATTACH)
        stage.session.fail(Deadline("a later echo"))
        stage.visitor.steps.free("taken")
        await stage.until(S.READY)
        assert stage.visitor.steps.passed["close"] == 1
        await stage.session.start(NullSink(), 2)
        await stage.until(S.STREAMING)
        await stage.end()

    fake_clock.run(play())


def test_what_the_board_does_not_try_again_is_refused() -> None:
    async def play() -> None:
        stage = Stage()
        seat = stage.visitor.seat = FakeSeat(stage.visitor.steps)
        stage.visitor.steps.fail("taken", AttachFailed(Code.SHORT, "8 times"))
        stage.begin()
        await stage.until(S.QUARANTINED)
        assert "contacts are shorted" in stage.session.reason
        assert stage.session.hint.startswith("lift it off")
        assert seat.refusals == 1
        await stage.end()

    fake_clock.run(play())
