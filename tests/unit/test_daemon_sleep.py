# SPDX-License-Identifier: GPL-2.0-or-later
"""Sleep: a logind of the test's own on a private bus, and what the manager does with its streams."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from maglens_daemon.fake import FakeVisitor
from maglens_daemon.session_state import SessionState
from maglens_daemon.sleep_guard import LOGIND, SleepGuard
from maglens_daemon.supply import SupplyState
from maglens_daemon.system_bus import SystemBus
from tests.unit.private_bus import private_bus
from tests.unit.test_daemon_manager import theatre

WAIT_S = 20.0


class Guard(SleepGuard):
    """Tells when it holds a lock: then logind's reply has arrived, and nothing of it is on its way any more."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.took = asyncio.Event()

    async def _take(self, bus: MessageBus) -> None:
        await super()._take(bus)
        self.took.set()


class FakeLogind:
    """Hands out locks, and says that the system goes to sleep."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.asked: list[list[str]] = []
        self.ends: list[int] = []
        self._lent: list[int] = []  # our copies of what was sent

    @classmethod
    async def start(cls, address: str) -> FakeLogind:
        bus = await MessageBus(address, BusType.SYSTEM, negotiate_unix_fd=True).connect()
        made = cls(bus)
        bus.add_message_handler(made._handle)
        await bus.request_name(LOGIND)
        return made

    def _handle(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or message.member != "Inhibit":
            return None
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        self.asked.append(list(message.body))
        self.ends.append(ours)
        self._lent.append(theirs)
        return Message.new_method_return(message, "h", [0], unix_fds=[theirs])

    async def say(self, going: bool) -> None:
        self._close_copies()
        await self.bus.send(
            Message.new_signal(
                "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PrepareForSleep", "b", [going]
            )
        )

    async def released(self) -> None:
        """The last lock was given back: its pipe has no writer any more."""
        loop, end = asyncio.get_running_loop(), self.ends[-1]
        closed = loop.create_future()

        def readable() -> None:
            loop.remove_reader(end)
            closed.set_result(os.read(end, 1))

        loop.add_reader(end, readable)
        assert await asyncio.wait_for(closed, WAIT_S) == b""

    def _close_copies(self) -> None:
        while self._lent:
            os.close(self._lent.pop())

    def stop(self) -> None:
        for end in self.ends:
            os.close(end)
        self.bus.disconnect()


def test_sleep_waits_until_the_streams_are_parked(tmp_path: Path) -> None:
    order: list[str] = []

    async def play(address: str) -> None:
        logind = await FakeLogind.start(address)
        parks, may_park = asyncio.Event(), asyncio.Event()

        async def park() -> None:
            order.append("park")
            parks.set()
            await may_park.wait()
            order.append("parked")

        async def unpark() -> None:
            order.append("unpark")

        guard = Guard(park, unpark)
        task = asyncio.create_task(SystemBus(guard, address=address).run())
        await asyncio.wait_for(guard.took.wait(), WAIT_S)
        assert logind.asked == [["sleep", "maglens", "camera streams are parked", "delay"]]
        await logind.say(True)
        await asyncio.wait_for(parks.wait(), WAIT_S)
        assert guard.holds, "sleep may not begin before the streams are parked"
        may_park.set()
        await logind.released()
        assert order == ["park", "parked"]
        guard.took.clear()
        await logind.say(False)
        await asyncio.wait_for(guard.took.wait(), WAIT_S)
        assert order == ["park", "parked", "unpark"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        logind._close_copies()
        await logind.released()
        logind.stop()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))


def test_streams_go_on_when_the_bus_is_lost_during_sleep(tmp_path: Path) -> None:
    async def play(address: str) -> None:
        logind = await FakeLogind.start(address)
        unparked, buses = asyncio.Event(), []

        class Bus(MessageBus):
            """One whose socket the test can close."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                buses.append(self)

        async def park() -> None:
            return

        async def unpark() -> None:
            unparked.set()

        guard = Guard(park, unpark)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("maglens_daemon.system_bus.MessageBus", Bus)
            task = asyncio.create_task(SystemBus(guard, address=address).run())
            await asyncio.wait_for(guard.took.wait(), WAIT_S)
            await logind.say(True)
            await logind.released()
            assert not unparked.is_set()
            buses[0].disconnect()
            await asyncio.wait_for(unparked.wait(), WAIT_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        logind.stop()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))


def test_streams_are_parked_and_go_on_with_a_new_contract() -> None:
    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            visitor = FakeVisitor()
            session = t.arrive(visitor)
            await t.until_playing(session)
            assert session.feed is not None
            node = t.nodes[-1]
            offers_before = session.feed.supply.offered
            await t.manager.park()
            assert session.state is SessionState.ATTACH
            assert visitor.source.closed, "sleep ends all transfers, and may reset what is on USB"
            assert t.manager.stage.playing is None
            assert t.manager.allotment.granted_mw == 0
            visitor.sink.contract = visitor.sink._default  # the port was without power meanwhile
            await t.manager.unpark()
            await t.until_playing(session)
            assert visitor.steps.passed["open"] == 2
            assert session.feed.supply.state is SupplyState.CONTRACT
            assert session.feed.supply.offered == offers_before
            assert visitor.sink.allowed_mw == session.contract.mw if session.contract else False
            assert t.nodes == [node], "the node was never put away"
            assert await asyncio.to_thread(app.copy, WAIT_S) is not None

    asyncio.run(play())


def test_nothing_begins_to_play_while_the_system_goes_to_sleep() -> None:
    async def play() -> None:
        async with theatre() as t:
            await t.manager.park()
            t.watch()
            visitor = FakeVisitor()
            session = t.arrive(visitor)
            t.manager.reconsider()
            await asyncio.sleep(0.05)
            assert session.lies and visitor.steps.passed["open"] == 0
            await t.manager.unpark()
            await t.until_playing(session)

    asyncio.run(play())


def test_a_webcam_is_left_open_during_sleep() -> None:
    """Its driver brings it back; there is no contract to make."""

    async def play() -> None:
        async with theatre() as t:
            visitor = FakeVisitor()
            visitor.needs_power = False
            session = t.arrive(visitor)
            await t.until(lambda: session.state is SessionState.READY)
            await t.manager.park()
            assert session.state is SessionState.READY and not visitor.source.closed
            t.watch()
            await t.manager.unpark()
            await t.until_playing(session)
            assert visitor.steps.passed["open"] == 1

    asyncio.run(play())


def test_a_sleep_that_nobody_announced_is_told_by_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a logind there is no word of it, and all transfers end."""
    slept = 0.0
    monkeypatch.setattr("maglens_daemon.session.slept_s", lambda: slept)

    async def play() -> None:
        nonlocal slept
        async with theatre() as t:
            t.watch()
            visitor = FakeVisitor()
            session = t.arrive(visitor)
            await t.until_playing(session)
            transfers, visitor._unplugged = visitor._unplugged, asyncio.Event()
            slept = 60.0
            transfers.set()
            await t.until(lambda: visitor.steps.passed["open"] == 2)
            await t.until_playing(session)
            visitor.unplug()
            await t.until(lambda: session.unplugged)
            assert visitor.steps.passed["open"] == 2, "there was no sleep this time"

    asyncio.run(play())
