# SPDX-License-Identifier: GPL-2.0-or-later
"""A logind that comes after the service, goes, or is restarted: the bus tells, and nothing is polled for. Whatever
strangers say counts for nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from maglens_daemon.sleep_guard import LOGIND
from maglens_daemon.system_bus import Part, SystemBus
from tests.unit.private_bus import private_bus
from tests.unit.test_daemon_sleep import WAIT_S, FakeLogind, Guard


class Sleeper:
    """Notes what the guard has it do."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.awake = asyncio.Event()
        self.fails = False

    async def park(self) -> None:
        self.did.append("park")
        if self.fails:
            self.fails = False
            raise ZeroDivisionError("a defect of ours")

    async def unpark(self) -> None:
        self.did.append("unpark")
        self.awake.set()


@asynccontextmanager
async def guarding(address: str, *others: Part) -> AsyncIterator[tuple[Guard, Sleeper]]:
    sleeper = Sleeper()
    guard = Guard(sleeper.park, sleeper.unpark)
    task = asyncio.create_task(SystemBus(guard, *others, address=address).run())
    try:
        yield guard, sleeper
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked(guard: Guard) -> bool:
    """Once it has asked for a lock: whether it has one."""
    async with asyncio.timeout(WAIT_S):
        await guard.took.wait()
    guard.took.clear()
    return guard.holds


@pytest.fixture(autouse=True)
def no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever works here works without a second connection."""
    monkeypatch.setattr("maglens_daemon.system_bus.RETRY_S", 10 * WAIT_S)


def test_a_logind_that_comes_later_is_asked_at_once(tmp_path: Path) -> None:
    async def play(address: str) -> None:
        async with guarding(address) as (guard, _):
            assert not await asked(guard), "there is no logind"
            logind = await FakeLogind.start(address)
            assert await asked(guard)
            logind.stop()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))


def test_a_restarted_logind_is_asked_again_and_parked_streams_go_on(tmp_path: Path) -> None:
    async def play(address: str) -> None:
        logind = await FakeLogind.start(address)
        async with guarding(address) as (guard, sleeper):
            assert await asked(guard)
            await logind.say(True)
            await logind.released()
            assert sleeper.did == ["park"]
            logind.stop()  # it dies before it can say that the system is awake
            async with asyncio.timeout(WAIT_S):
                await sleeper.awake.wait()
            another = await FakeLogind.start(address)
            assert await asked(guard)
            assert len(another.asked) == 1
            await another.say(True)
            await another.released()
            assert sleeper.did == ["park", "unpark", "park"], "it listens to the new one"
            another.stop()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))


async def tell_everybody(stranger: MessageBus, kind: MessageType = MessageType.SIGNAL, /, **signal: object) -> None:
    """Send a signal, or what ``kind`` says, straight to each connection, as the stock policy of the system's bus lets
    every user do; returns when they have heard it."""
    listed = await stranger.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="ListNames",
        )
    )
    assert listed is not None
    for name in listed.body[0]:
        if name.startswith(":") and name != stranger.unique_name:
            await stranger.send(Message(destination=name, message_type=kind, **signal))  # type: ignore[arg-type]
            ping = Message(destination=name, path="/", interface="org.freedesktop.DBus.Peer", member="Ping")
            assert await stranger.call(ping) is not None


def test_what_a_stranger_says_of_sleep_counts_for_nothing(tmp_path: Path) -> None:
    sleep = {"path": "/org/freedesktop/login1", "interface": "org.freedesktop.login1.Manager"}
    owner = {"path": "/org/freedesktop/DBus", "interface": "org.freedesktop.DBus", "member": "NameOwnerChanged"}

    async def play(address: str) -> None:
        logind = await FakeLogind.start(address)
        stranger = await MessageBus(address, BusType.SYSTEM, negotiate_unix_fd=True).connect()
        async with guarding(address) as (guard, sleeper):
            assert await asked(guard)
            await tell_everybody(stranger, **sleep, member="PrepareForSleep", signature="b", body=[True])
            await tell_everybody(stranger, **sleep, member="PrepareForSleep")
            await tell_everybody(stranger, path="/x", interface="a.b", member="PrepareForSleep")
            await tell_everybody(stranger, **owner)
            assert stranger.unique_name is not None
            await tell_everybody(stranger, **owner, signature="sss", body=[LOGIND, "", stranger.unique_name])
            await tell_everybody(stranger, **sleep, member="PrepareForSleep", signature="b", body=[True])
            await tell_everybody(stranger, **owner, signature="sss", body=[LOGIND, stranger.unique_name, ""])
            assert guard.holds
            assert sleeper.did == []
            await logind.say(True)
            await logind.released()
            assert sleeper.did == ["park"], "it listens to logind all the same"
        stranger.disconnect()
        logind.stop()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))


def test_of_logind_too_counts_only_what_it_says_of_sleep(tmp_path: Path) -> None:
    async def play(address: str) -> None:
        logind = await FakeLogind.start(address)
        path, interface = "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
        async with guarding(address) as (guard, sleeper):
            assert await asked(guard)
            for signal in (
                ("/org/freedesktop/login1/seat/seat0", interface, "PrepareForSleep", "b", [True]),
                (path, "org.freedesktop.login1.Session", "PrepareForSleep", "b", [True]),
                (path, interface, "PrepareForShutdown", "b", [True]),
                (path, interface, "PrepareForSleep", "s", ["soon"]),
                (path, interface, "PrepareForSleep", "", []),
            ):
                await tell_everybody(logind.bus, **signal_of(*signal))
            assert guard.holds and sleeper.did == [] and not guard.took.is_set()
            await logind.say(True)
            await logind.released()
            assert sleeper.did == ["park"]
        logind.stop()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))


def signal_of(path: str, interface: str, member: str, signature: str, body: Sequence[object]) -> dict[str, object]:
    return {"path": path, "interface": interface, "member": member, "signature": signature, "body": [*body]}


class Nosy:
    """Another part of the service, that has the bus tell of every name."""

    def __init__(self) -> None:
        self.listens = asyncio.Event()

    async def serve(self, bus: MessageBus) -> None:
        rule = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'"
        message = Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="AddMatch",
            signature="s",
            body=[rule],
        )
        await bus.call(message)
        self.listens.set()
        await asyncio.get_running_loop().create_future()

    async def lost(self, why: str) -> None:
        """Nothing to do."""


def test_who_takes_another_name_is_not_logind(tmp_path: Path) -> None:
    """Parts share a connection: what one has asked to be told of, all of them hear."""

    async def play(address: str) -> None:
        logind = await FakeLogind.start(address)
        stranger = await MessageBus(address, BusType.SYSTEM, negotiate_unix_fd=True).connect()
        nosy = Nosy()
        async with guarding(address, nosy) as (guard, sleeper):
            assert await asked(guard)
            await asyncio.wait_for(nosy.listens.wait(), WAIT_S)
            await stranger.request_name("org.example.Other")
            sleep = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PrepareForSleep", "b", [True])
            await tell_everybody(stranger, **signal_of(*sleep))
            assert guard.holds and sleeper.did == []
            await logind.say(True)
            await logind.released()
            assert sleeper.did == ["park"]
        stranger.disconnect()
        logind.stop()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))


@pytest.mark.parametrize("kind", [MessageType.SIGNAL, MessageType.METHOD_CALL])
def test_descriptors_that_a_stranger_sends_are_closed(kind: MessageType, tmp_path: Path) -> None:
    async def play(address: str) -> None:
        stranger = await MessageBus(address, BusType.SYSTEM, negotiate_unix_fd=True).connect()
        async with guarding(address) as (guard, _):
            assert not await asked(guard)
            ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            await tell_everybody(
                stranger, kind, path="/", interface="a.b", member="C", signature="h", body=[0], unix_fds=[theirs]
            )
            os.close(theirs)
            assert os.read(ours, 1) == b"", "somebody holds the other end still"
            os.close(ours)
        stranger.disconnect()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))


def test_a_defect_of_ours_does_not_end_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maglens_daemon.sleep_guard._AGAIN_S", 0.0)

    async def play(address: str) -> None:
        logind = await FakeLogind.start(address)
        async with guarding(address) as (guard, sleeper):
            assert await asked(guard)
            sleeper.fails = True
            await logind.say(True)
            assert await asked(guard), "it has begun anew"
            assert sleeper.did == ["park", "unpark"]
        logind.stop()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))
