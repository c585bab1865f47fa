# SPDX-License-Identifier: GPL-2.0-or-later
"""Power shared out at run time: who gives way to whom, what motors get, what is told. On the bench, in fake time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from maglens_daemon import status
from maglens_daemon.allotment import BURST_WAIT_S
from maglens_daemon.board.attach import AttachState
from maglens_daemon.board.hardware import Draw
from maglens_daemon.budget import Ledger
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_driver.control import Cid
from maglens_driver.errors import Gone, Refused
from maglens_driver.link import limits
from maglens_driver.link.pd import PdMessage, PdType
from maglens_driver.link.wire import CapabilityLevel
from tests.faults.bench import HEALTHY, SICK, Bench, bench
from tests.faults.loop import run
from tests.faults.module import BIG, MIDDLE, PEAK_MW, SMALL, STANDBY_MW


def play(scene: Callable[[Bench, Session], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with bench() as it:
            it.sick.snap_on(it.ports[SICK])
            await it.reach("streaming")
            session = it.session(SICK)
            assert session is not None
            await scene(it, session)
            assert it.overdrawn == []

    run(whole())


def test_power_is_ready_before_motors_move_and_given_back_after() -> None:
    async def scene(it: Bench, session: Session) -> None:
        allotment, visitor = it.manager.allotment, it.sick.visitor
        assert visitor is not None
        limit = allotment.limit_mw(session)
        visitor.steps.hold("set")
        writing = asyncio.create_task(session.write({int(Cid.FOCUS_ABSOLUTE): 100}))
        await visitor.steps.reached("set")
        assert allotment.limit_mw(session) == PEAK_MW == limit + 600, "raised before the module is told"
        assert allotment.granted_mw == PEAK_MW
        visitor.steps.free("set")
        await writing
        await asyncio.sleep(limits.BURST_S * 0.9)
        assert allotment.limit_mw(session) == PEAK_MW
        await asyncio.sleep(limits.BURST_S * 0.2)
        assert allotment.limit_mw(session) == allotment.granted_mw == limit

    play(scene)


def test_each_movement_has_its_time() -> None:
    async def scene(it: Bench, session: Session) -> None:
        allotment = it.manager.allotment
        limit = allotment.limit_mw(session)
        await session.write({int(Cid.FOCUS_ABSOLUTE): 100})
        await asyncio.sleep(limits.BURST_S * 0.9)
        await session.write({int(Cid.FOCUS_ABSOLUTE): 200})
        await asyncio.sleep(limits.BURST_S * 0.9)
        assert allotment.limit_mw(session) == PEAK_MW
        await asyncio.sleep(limits.BURST_S * 0.2)
        assert allotment.limit_mw(session) == allotment.granted_mw == limit

    play(scene)


def test_no_movement_ends_beneath_one_that_is_being_told() -> None:
    async def scene(it: Bench, session: Session) -> None:
        allotment = it.manager.allotment
        limit = allotment.limit_mw(session)
        await session.write({int(Cid.FOCUS_ABSOLUTE): 100})
        await asyncio.sleep(limits.BURST_S * 0.9)
        async with allotment.burst(session):
            await asyncio.sleep(limits.BURST_S * 0.5)  # the module is slow to answer
            assert allotment.limit_mw(session) == PEAK_MW
        await asyncio.sleep(limits.BURST_S * 0.9)
        assert allotment.limit_mw(session) == PEAK_MW
        await asyncio.sleep(limits.BURST_S * 0.2)
        assert allotment.limit_mw(session) == allotment.granted_mw == limit

    play(scene)


def test_what_waits_twice_for_power_is_given_it_once() -> None:
    async def scene(it: Bench, session: Session) -> None:
        allotment = it.manager.allotment
        _spare(it, BIG.mw)
        await it.pass_time(1.0)

        async def move() -> None:
            async with allotment.burst(session):
                assert allotment.granted_mw == PEAK_MW

        moving = [asyncio.create_task(move()) for _ in range(2)]
        await it.pass_time(0.1)
        assert not any(task.done() for task in moving)
        _spare(it, 6000)
        await asyncio.gather(*moving)
        await asyncio.sleep(limits.BURST_S * 1.1)
        assert allotment.granted_mw == BIG.mw

    play(scene)


def test_a_movement_of_the_stay_before_ends_none_of_the_next() -> None:
    """A module that is powered up again on the board goes on as the same session."""

    async def scene(it: Bench, session: Session) -> None:
        allotment = it.manager.allotment
        async with allotment.burst(session):
            pass
        await asyncio.sleep(limits.BURST_S * 0.5)
        allotment.forget(session)
        allotment.reserve(session)
        async with allotment.burst(session):
            pass
        before = allotment.granted_mw
        await asyncio.sleep(limits.BURST_S * 0.7)
        assert allotment.granted_mw == before
        await asyncio.sleep(limits.BURST_S * 0.5)
        assert allotment.granted_mw == before - (PEAK_MW - BIG.mw)

    play(scene)


def test_one_that_is_woken_may_draw_its_contract_at_once() -> None:
    """A sensor that starts draws more than standby before the first frame."""

    async def scene(it: Bench, session: Session) -> None:
        assert session.contract is not None
        it.watch(False)
        await it.reach("standby")
        assert it.manager.allotment.limit_mw(session) == STANDBY_MW
        visitor = it.sick.visitor
        assert visitor is not None
        visitor.steps.hold("start")
        it.watch(True)
        await visitor.steps.reached("start")
        it.ports[SICK].draw = Draw(5000, 240, 1200)
        await it.pass_time(1.0)
        assert it.attach_state(SICK) is AttachState.PRESENT
        assert not it.counters(SICK).get("over_draw")
        visitor.steps.free("start")
        await it.reach("streaming")

    play(scene)


def test_motors_wait_for_power_and_then_are_refused() -> None:
    async def scene(it: Bench, session: Session) -> None:
        it.manager.config = replace(it.manager.config, power=replace(it.manager.config.power, budget_mw=2100))
        it.uevent()
        await it.pass_time(1.0)
        assert session.contract is not None
        before = asyncio.get_running_loop().time()
        with pytest.raises(Refused, match="no power for its motors"):
            await session.write({int(Cid.FOCUS_ABSOLUTE): 100})
        assert asyncio.get_running_loop().time() - before == pytest.approx(BURST_WAIT_S, abs=0.1)
        it.manager.config = replace(it.manager.config, power=replace(it.manager.config.power, budget_mw=6000))
        it.uevent()
        await it.pass_time(1.0)
        assert await session.write({int(Cid.FOCUS_ABSOLUTE): 100})

    play(scene)


def test_what_has_no_motor_needs_no_power_for_it() -> None:
    async def scene(it: Bench, session: Session) -> None:
        with pytest.raises(Refused, match="no other control"):
            await session.write({int(Cid.BRIGHTNESS): 1})
        assert it.manager.allotment.granted_mw == BIG.mw

    play(scene)


def test_a_newcomer_that_is_served_first_has_the_other_squeezed() -> None:
    async def scene(it: Bench, session: Session) -> None:
        config = it.manager.config
        ports = {**config.port, HEALTHY: replace(config.port[HEALTHY], priority=10)}
        it.manager.config = replace(config, port=ports, power=replace(config.power, budget_mw=3000))
        it.uevent()
        it.healthy.snap_on(it.ports[HEALTHY])
        await it.pass_time(8.0)
        other = it.session(HEALTHY)
        assert other is not None and other.contract is not None and session.contract is not None
        assert other.contract.operating_mw == BIG.mw
        assert session.contract.mw <= 3000 - BIG.mw
        assert it.state() == "streaming", "it plays on, in a smaller mode"
        assert session.mode is not None and session.mode.mw <= session.contract.operating_mw
        assert "less power" in it.notes()
        it.healthy.lift_off()
        await it.pass_time(5.0)
        assert session.contract.operating_mw == BIG.mw
        assert session.mode == BIG
        assert "less power" not in it.notes()

    play(scene)


def test_a_module_that_is_silent_holds_up_nobody_elses_share() -> None:
    async def scene(it: Bench, session: Session) -> None:
        def spare(mw: int) -> None:
            config = it.manager.config
            it.manager.config = replace(config, power=replace(config.power, budget_mw=mw))
            it.uevent()

        config = it.manager.config
        ports = {**config.port, HEALTHY: replace(config.port[HEALTHY], priority=10)}
        it.manager.config = replace(config, port=ports)
        it.healthy.snap_on(it.ports[HEALTHY])
        await it.pass_time(5.0)
        other = it.session(HEALTHY)
        assert other is not None and other.contract is not None and other.contract.mw == BIG.mw
        it.sick.silent = True
        spare(PEAK_MW + MIDDLE.mw)
        await it.pass_time(0.6)
        assert session.feed is not None and not session.feed.is_settled, "it is asked to give back, and says nothing"
        spare(2 * MIDDLE.mw)
        await it.pass_time(0.4)
        assert not session.feed.is_settled
        assert other.contract is not None and other.contract.mw < BIG.mw
        it.sick.silent = False
        await it.pass_time(10.0)

    play(scene)


def test_a_critical_battery_leaves_standby_power_and_says_so() -> None:
    async def scene(it: Bench, session: Session) -> None:
        it.battery(3)
        it.uevent()
        await it.pass_time(8.0)
        assert session.state in (SessionState.READY, SessionState.STANDBY)
        assert session.contract is not None
        assert session.contract.mw == STANDBY_MW
        text = "the battery is at 3 %"
        assert text in it.notes()
        card = it.pipeline.card
        assert any(text in line for line in card.lines), card
        told = status.status(it.manager)["power"]
        assert (told["level"], told["reason"], told["battery_percent"]) == ("critical", text, 3)
        it.healthy.snap_on(it.ports[HEALTHY])
        await it.pass_time(3.0)
        newcomer = it.session(HEALTHY)
        assert newcomer is not None
        assert newcomer.contract is None, "newcomers get nothing"
        it.battery(60)
        it.uevent()
        await it.reach("streaming")
        await it.pass_time(2.0)
        assert session.mode == BIG
        assert newcomer.contract is not None

    play(scene)


def test_what_a_module_says_of_its_standby_does_not_let_it_out_of_a_squeeze() -> None:
    async def scene(it: Bench, session: Session) -> None:
        it.healthy.standby_mw = limits.MAX_POWER_MW
        it.healthy.snap_on(it.ports[HEALTHY])
        await it.pass_time(3.0)
        greedy = it.session(HEALTHY)
        assert greedy is not None and greedy.contract is not None and greedy.contract.mw == BIG.mw
        it.battery(3)
        it.uevent()
        await it.pass_time(8.0)
        assert session.contract is not None and session.contract.mw == STANDBY_MW
        assert greedy.contract.mw == limits.MAX_STANDBY_MW
        assert greedy.state is SessionState.STANDBY
        assert it.manager.allotment.limit_mw(greedy) == limits.MAX_STANDBY_MW

    play(scene)


def test_a_contract_that_shrinks_lowers_at_once_what_may_be_asked_for() -> None:
    async def scene(it: Bench, session: Session) -> None:
        visitor, feed = it.sick.visitor, session.feed
        assert visitor is not None and feed is not None
        visitor.sink.want_mw = SMALL.mw
        visitor.sink.ask()
        await session.hear_power()
        assert session.contract is not None and session.contract.mw == SMALL.mw
        assert feed.supply.ceiling_mw == SMALL.mw == it.manager.allotment.granted_mw, "before run() has had a turn"

    play(scene)


def test_a_module_at_rest_is_held_to_its_standby_power() -> None:
    async def scene(it: Bench, session: Session) -> None:
        it.watch(False)
        await it.reach("standby")
        assert it.manager.allotment.limit_mw(session) == STANDBY_MW
        assert session.contract is not None
        assert session.contract.mw == BIG.mw, "what it needs to play again is kept for it"
        async with it.manager.allotment.burst(session):
            assert it.manager.allotment.limit_mw(session) == STANDBY_MW + PEAK_MW - BIG.mw
        await asyncio.sleep(limits.BURST_S * 1.1)
        assert it.manager.allotment.limit_mw(session) == STANDBY_MW
        it.watch(True)
        await it.reach("streaming")
        assert it.manager.allotment.limit_mw(session) == BIG.mw

    play(scene)


def test_a_hot_module_plays_smaller_then_not_at_all() -> None:
    async def scene(it: Bench, session: Session) -> None:
        it.sick.say(CapabilityLevel.REDUCED)
        await it.pass_time(2.0)
        assert session.mode == SMALL
        it.sick.say(CapabilityLevel.DISABLED)
        await it.pass_time(2.0)
        assert it.state() == "ready"
        assert "it is too hot" in it.notes()
        it.sick.say(CapabilityLevel.FULL)
        await it.reach("streaming")
        assert session.mode == BIG

    play(scene)


def _spare(it: Bench, mw: int) -> None:
    """The budget from now on."""
    config = it.manager.config
    it.manager.config = replace(config, power=replace(config.power, budget_mw=mw))
    it.uevent()


def test_a_newcomer_that_refuses_what_it_is_offered_later_is_refused_itself() -> None:
    async def whole() -> None:
        async with bench() as it:
            _spare(it, 1300)
            it.healthy.snap_on(it.ports[HEALTHY])
            await it.pass_time(3.0)
            it.sick.picky = True
            it.sick.snap_on(it.ports[SICK])
            await it.reach("ready")
            visitor, session = it.sick.visitor, it.session(SICK)
            assert visitor is not None and session is not None and session.contract is None
            it.healthy.lift_off()
            await it.pass_time(60.0)
            assert visitor.steps.passed["agree"] <= 2
            assert it.state() == "quarantined"
            assert "wants nothing of what it is offered" in it.message()
            assert it.manager.allotment.granted_mw == 0

    run(whole())


def test_a_newcomer_that_was_only_put_off_stays() -> None:
    """It asked for what it was offered; that there is less by now is no fault of its."""

    async def whole() -> None:
        async with bench() as it:
            _spare(it, 1300)
            it.healthy.snap_on(it.ports[HEALTHY])
            await it.pass_time(3.0)
            it.sick.snap_on(it.ports[SICK])
            await it.reach("ready")
            visitor, session = it.sick.visitor, it.session(SICK)
            assert visitor is not None and session is not None and session.feed is not None
            supply = session.feed.supply
            answers: list[PdType] = []
            send = visitor.sink.receive

            def late(message: PdMessage) -> bool:
                """The budget shrinks while it thinks."""
                answers.append(message.type)
                if message.type is PdType.SOURCE_CAPABILITIES and answers.count(message.type) == 1:
                    supply.ceiling_mw = 500
                return send(message)

            visitor.sink.receive = late  # type: ignore[method-assign]
            it.healthy.lift_off()
            await it.reach("streaming")
            assert answers[:2] == [PdType.SOURCE_CAPABILITIES, PdType.WAIT]
            assert session.contract is not None and session.contract.mw == 1300

    run(whole())


def test_less_power_than_an_offer_can_say_is_not_offered() -> None:
    async def whole() -> None:
        async with bench() as it:
            _spare(it, PEAK_MW + 20)
            it.healthy.snap_on(it.ports[HEALTHY])
            await it.pass_time(3.0)
            it.sick.modes = (replace(SMALL, mw=0),)
            it.sick.snap_on(it.ports[SICK])
            await it.reach("ready", "standby", "streaming")
            visitor, session = it.sick.visitor, it.session(SICK)
            assert visitor is not None and session is not None
            await it.pass_time(10.0)
            assert session.contract is None
            assert visitor.steps.passed["agree"] == 0

    run(whole())


def test_a_module_that_leaves_while_its_motors_wait_takes_no_power_with_it() -> None:
    async def scene(it: Bench, session: Session) -> None:
        it.healthy.snap_on(it.ports[HEALTHY])
        await it.pass_time(3.0)
        other = it.session(HEALTHY)
        assert other is not None and other.contract is not None and other.contract.burst_mw == PEAK_MW - BIG.mw
        _spare(it, PEAK_MW + BIG.mw)
        await it.pass_time(1.0)
        await other.write({int(Cid.FOCUS_ABSOLUTE): 100})
        writing = asyncio.create_task(session.write({int(Cid.FOCUS_ABSOLUTE): 100}))
        await it.pass_time(0.1)
        it.sick.lift_off()
        with pytest.raises(Gone):
            await writing
        await it.pass_time(3.0)
        assert it.manager.allotment.granted_mw == BIG.mw

    play(scene)


@pytest.mark.parametrize("what", ["larger budget", "other leaves", "smaller contract"])
def test_motors_move_as_soon_as_there_is_power_for_them(what: str) -> None:
    async def scene(it: Bench, session: Session) -> None:
        it.healthy.snap_on(it.ports[HEALTHY])
        await it.pass_time(3.0)
        other = it.session(HEALTHY)
        assert other is not None
        _spare(it, PEAK_MW + BIG.mw)
        await it.pass_time(1.0)
        await other.write({int(Cid.FOCUS_ABSOLUTE): 100})
        before = asyncio.get_running_loop().time()
        writing = asyncio.create_task(session.write({int(Cid.FOCUS_ABSOLUTE): 100}))
        await it.pass_time(0.1)
        assert not writing.done(), "the other's motors have it"
        if what == "larger budget":
            _spare(it, 6000)
        elif what == "other leaves":
            it.healthy.lift_off()
        else:
            visitor = it.healthy.visitor
            assert visitor is not None
            visitor.sink.want_mw = SMALL.mw
            visitor.sink.ask()
            await other.hear_power()
        await writing
        assert asyncio.get_running_loop().time() - before < limits.BURST_S * 0.8

    play(scene)


def test_a_module_that_ignores_a_smaller_offer_is_not_played_as_large_as_before() -> None:
    async def scene(it: Bench, session: Session) -> None:
        visitor = it.sick.visitor
        assert visitor is not None and session.contract is not None
        it.sick.picky = True  # what it asks for is rejected, and its contract stays
        _spare(it, MIDDLE.mw)
        await it.pass_time(10.0)
        assert session.contract.mw == BIG.mw
        assert session.mode == MIDDLE
        assert "less power" in it.notes()
        it.sick.picky = False
        _spare(it, 6000)
        await it.pass_time(10.0)
        assert session.mode == BIG
        assert "less power" not in it.notes()

    play(scene)


def test_a_module_that_says_it_needs_nothing_at_rest_is_squeezed_all_the_same() -> None:
    async def scene(it: Bench, session: Session) -> None:
        it.healthy.standby_mw = 0
        it.healthy.snap_on(it.ports[HEALTHY])
        await it.pass_time(3.0)
        other = it.session(HEALTHY)
        assert other is not None and other.contract is not None and other.contract.mw == BIG.mw
        it.battery(3)
        it.uevent()
        await it.pass_time(8.0)
        assert other.contract.mw == 50, "the least that can be offered"
        assert other.state is SessionState.STANDBY
        assert it.manager.allotment.limit_mw(other) == 50

    play(scene)


def test_a_port_that_may_give_more_gives_it_at_once_and_one_that_may_give_less_takes_it() -> None:
    async def whole() -> None:
        async with bench() as it:

            async def contract_of(mw: int) -> int:
                config = it.manager.config
                it.manager.apply(replace(config, port={**config.port, SICK: replace(config.port[SICK], max_mw=mw)}))
                if it.sick.port is None:
                    it.sick.snap_on(it.ports[SICK])
                await it.pass_time(5.0)
                session = it.session(SICK)
                assert session is not None and session.contract is not None and it.state() == "streaming"
                assert session.mode is not None and session.mode.mw == session.contract.mw
                return session.contract.mw

            assert await contract_of(MIDDLE.mw) == MIDDLE.mw
            assert await contract_of(4500) == BIG.mw
            assert await contract_of(MIDDLE.mw) == MIDDLE.mw
            assert it.overdrawn == []

    run(whole())


def test_the_ledger_gives_nobody_what_is_not_there() -> None:
    ledger = Ledger(5000)
    assert ledger.reserve("a", 500, 3000) == 3000
    assert ledger.reserve("b", 2500, 4000) == 0
    assert ledger.reserve("b", 500, 4000) == 2000
    assert not ledger.begin_burst("a", 1)
    ledger.settle("b", 1500)
    assert ledger.begin_burst("a", 500)
    ledger.total_mw = 4000
    assert ledger.reserve("a", 500, 3000) == 3000, "what is promised stays promised"
    assert ledger.ceiling("b", 1500) == 1500
    with pytest.raises(ValueError, match="never promised"):
        ledger.settle("b", 1600)
    ledger.settle("a", 0)
    assert ledger.promised_mw == 1500
