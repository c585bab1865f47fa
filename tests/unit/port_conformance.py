# SPDX-License-Identifier: GPL-2.0-or-later
"""What every PortHardware promises. A suite is a rig: a port, and hands on the board's pins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from maglens_daemon.board.hardware import Pin, PinEvent, PortHardware

LIMIT_MW = 2500
PATIENCE_S = 5.0


class Rig(Protocol):
    """The board's side. Levels begin inactive, the switch off."""

    port: PortHardware

    def move(self, pin: Pin, active: bool) -> None:
        """An edge on a pin that is there."""
        ...

    def rail(self) -> bool:
        """Whether the switch truly feeds the contacts."""
        ...

    def draw(self, mv: int, ma: int) -> None:
        """What the meter sees from now on."""
        ...


OpenRig = Callable[[], AbstractAsyncContextManager[Rig]]


class PortConformance:
    """Subclass it as ``TestX`` with a fixture ``open_rig``: a function that opens a rig in the running loop."""

    @staticmethod
    async def _next(events: AsyncIterator[PinEvent]) -> PinEvent:
        async with asyncio.timeout(PATIENCE_S):
            return await anext(events)

    @staticmethod
    def play(open_rig: OpenRig, scene: Callable[[Rig], Awaitable[None]]) -> None:
        async def run() -> None:
            async with open_rig() as rig:
                await scene(rig)

        asyncio.run(run())

    def test_power_follows(self, open_rig: OpenRig) -> None:
        async def scene(rig: Rig) -> None:
            port = rig.port
            if not port.fittings.switch:
                assert port.powered and rig.rail()
                await port.power(None)
                assert port.powered, "there is nothing to switch"
                return
            assert not port.powered and not rig.rail()
            for limit_mw in (LIMIT_MW, LIMIT_MW, 2 * LIMIT_MW, None, None, LIMIT_MW):
                await port.power(limit_mw)
                assert port.powered is (limit_mw is not None)
                assert rig.rail() is (limit_mw is not None)

        self.play(open_rig, scene)

    def test_every_edge_is_told_in_order_with_its_time(self, open_rig: OpenRig) -> None:
        async def scene(rig: Rig) -> None:
            if not rig.port.fittings.detect:
                assert not rig.port.level(Pin.DETECT)
                return
            events = aiter(rig.port.events())
            before = asyncio.get_running_loop().time()
            for active in (True, False, True):
                rig.move(Pin.DETECT, active)
                event = await self._next(events)
                assert (event.pin, event.active) == (Pin.DETECT, active)
                assert rig.port.level(Pin.DETECT) is active
                assert before <= event.at_s <= asyncio.get_running_loop().time()
                before = event.at_s

        self.play(open_rig, scene)

    @pytest.mark.parametrize("pin", [Pin.FAULT, Pin.ALARM])
    def test_power_is_off_before_a_fault_is_told(self, open_rig: OpenRig, pin: Pin) -> None:
        async def scene(rig: Rig) -> None:
            port = rig.port
            if not (port.fittings.fault if pin is Pin.FAULT else port.fittings.meter):
                assert not port.level(pin)
                return
            await port.power(LIMIT_MW)
            events = aiter(port.events())
            rig.move(pin, True)
            event = await self._next(events)
            assert (event.pin, event.active) == (pin, True)
            assert not port.fittings.switch or not (rig.rail() or port.powered)
            rig.move(pin, False)
            event = await self._next(events)
            assert (event.pin, event.active) == (pin, False)
            assert not port.fittings.switch or not rig.rail(), "it does not come back by itself"

        self.play(open_rig, scene)

    def test_a_meter_measures(self, open_rig: OpenRig) -> None:
        async def scene(rig: Rig) -> None:
            if not rig.port.fittings.meter:
                assert await rig.port.measure() is None
                return
            rig.draw(5010, 842)
            draw = await rig.port.measure()
            assert draw is not None
            assert (draw.mv, draw.ma, draw.alarm) == (5010, 842, False)
            assert abs(draw.mw - 4218) <= 1

        self.play(open_rig, scene)

    def test_close_ends_events_and_leaves_power(self, open_rig: OpenRig) -> None:
        async def scene(rig: Rig) -> None:
            await rig.port.power(LIMIT_MW)
            on = rig.rail()
            await rig.port.close()
            await rig.port.close()
            async with asyncio.timeout(PATIENCE_S):
                assert [event async for event in rig.port.events()] == []
            assert rig.rail() is on

        self.play(open_rig, scene)
