# SPDX-License-Identifier: GPL-2.0-or-later
"""A logind that comes after the service, goes, or is restarted: the bus tells, and nothing is polled for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from maglens_daemon.system_bus import SystemBus
from tests.unit.private_bus import private_bus
from tests.unit.test_daemon_sleep import WAIT_S, FakeLogind, Guard


class Sleeper:
    """Notes what the guard has it do."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.awake = asyncio.Event()

    async def park(self) -> None:
        self.did.append("park")

    async def unpark(self) -> None:
        self.did.append("unpark")
        self.awake.set()


@asynccontextmanager
async def guarding(address: str) -> AsyncIterator[tuple[Guard, Sleeper]]:
    sleeper = Sleeper()
    guard = Guard(sleeper.park, sleeper.unpark)
    task = asyncio.create_task(SystemBus(guard, address=address).run())
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
            another.stop()

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))
