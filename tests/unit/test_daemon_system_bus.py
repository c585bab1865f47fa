# SPDX-License-Identifier: GPL-2.0-or-later
"""The system bus: one connection for all who need it, again and again, until one of them fails."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from dbus_fast.aio import MessageBus

from maglens_daemon import system_bus
from maglens_daemon.cli.client import Client
from maglens_daemon.errors import AlreadyRunning, Unavailable
from maglens_daemon.system_bus import SystemBus
from tests.unit.private_bus import private_bus

WAIT_S = 20.0


class Part:
    """Notes what it is told; fails where it was told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.buses: list[MessageBus] = []
        self.losses: list[str] = []
        self.left = 0
        self.news = asyncio.Event()
        self._error = error

    async def serve(self, bus: MessageBus) -> None:
        self.buses.append(bus)
        self.news.set()
        if self._error is not None:
            raise self._error
        try:
            await asyncio.Event().wait()
        finally:
            self.left += 1

    async def lost(self, why: str) -> None:
        self.losses.append(why)
        self.news.set()

    async def hear(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.news.wait()
        self.news.clear()


def test_parts_share_a_connection_and_are_served_again_when_the_bus_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(system_bus, "RETRY_S", 0.01)

    async def play() -> None:
        one, two = Part(), Part()
        with private_bus(tmp_path) as address:
            task = asyncio.create_task(SystemBus(one, two, address=address).run())
            await one.hear()
            await two.hear()
            assert one.buses == two.buses
        (tmp_path / "bus").unlink(missing_ok=True)
        while len(one.losses) < 3:  # the bus has gone, and there is none
            await one.hear()
        assert (one.left, two.left) == (1, 1)
        with private_bus(tmp_path):
            while len(two.buses) < 2:
                await two.hear()
            assert one.buses == two.buses
            assert one.buses[0] is not one.buses[1]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert (one.left, two.left) == (2, 2)

    with caplog.at_level(logging.WARNING):
        asyncio.run(play())
    assert caplog.text.count("no system bus") == 1, "that is told once"


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A bus that lets nobody in."""
    await reader.readline()
    writer.write(b"REJECTED EXTERNAL\r\n")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("path", ["bus", None], ids=["refused", "no address"])
def test_a_bus_that_refuses_us_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    monkeypatch.setattr(system_bus, "RETRY_S", 0.0)

    async def play() -> None:
        part = Part()
        async with await asyncio.start_unix_server(refuse, tmp_path / "bus"):
            address = f"unix:path={tmp_path / path}" if path else "/run/dbus/system_bus_socket"
            task = asyncio.create_task(SystemBus(part, address=address).run())
            while len(part.losses) < 2:
                await part.hear()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert not part.buses

    asyncio.run(play())


@pytest.mark.parametrize("path", ["bus", None], ids=["refused", "no address"])
def test_people_are_told_of_a_bus_that_refuses_them(tmp_path: Path, path: str | None) -> None:
    async def play() -> None:
        address = f"unix:path={tmp_path / path}" if path else "/run/dbus/system_bus_socket"
        async with await asyncio.start_unix_server(refuse, tmp_path / "bus"), Client(address):
            raise AssertionError("nobody is let in")

    with pytest.raises(Unavailable, match="there is no system bus"):
        asyncio.run(play())


def test_a_part_that_fails_ends_it(tmp_path: Path) -> None:
    async def play(address: str) -> None:
        well, broken = Part(), Part(AlreadyRunning())
        with pytest.raises(AlreadyRunning):
            await asyncio.wait_for(SystemBus(well, broken, address=address).run(), WAIT_S)
        assert well.left == 1
        assert not well.losses

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))


def test_a_part_whose_bus_has_gone_is_served_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_bus, "RETRY_S", 0.01)

    async def play(address: str) -> None:
        part = Part(ConnectionResetError("gone"))
        task = asyncio.create_task(SystemBus(part, address=address).run())
        while len(part.buses) < 3:
            await part.hear()
        assert part.losses[:2] == ["gone", "gone"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with private_bus(tmp_path) as address:
        asyncio.run(play(address))
