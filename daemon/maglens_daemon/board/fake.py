# SPDX-License-Identifier: GPL-2.0-or-later
"""Fake: a port of a board whose lines a test moves by hand. In fake time or real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from maglens_daemon.board.hardware import Draw, Fittings, Pin, PinEvent

EVERYTHING = Fittings(detect=True, switch=True, fault=True, meter=True)


class FakePort:
    """``log`` holds what was done to the switch, as ``(loop time, limit in mW or None)``; ``draw`` is what is
    measured next; ``broken`` is raised by the switch and the meter as long as it is there, ``deaf`` by the lines.
    :meth:`end` is what the end of a board's interlock looks like."""

    def __init__(self, fittings: Fittings = EVERYTHING, *, powered: bool = False) -> None:
        self.log: list[tuple[float, int | None]] = []
        self.draw = Draw(5000, 0, 0)
        self.measured = 0
        self.broken: OSError | None = None
        self.deaf: OSError | None = None
        self.closed = False
        self._fittings = fittings
        self._powered = powered or not fittings.switch
        self._levels = dict.fromkeys(Pin, False)
        self._events: asyncio.Queue[PinEvent | OSError | None] = asyncio.Queue()

    @property
    def fittings(self) -> Fittings:
        return self._fittings

    @property
    def powered(self) -> bool:
        return self._powered

    def level(self, pin: Pin) -> bool:
        if self.deaf is not None:
            raise self.deaf
        return self._levels[pin]

    async def power(self, limit_mw: int | None) -> None:
        if self._fittings.switch:
            if self.broken is not None:
                raise self.broken
            self._powered = limit_mw is not None
        self.log.append((asyncio.get_running_loop().time(), limit_mw))

    async def measure(self) -> Draw | None:
        if self.broken is not None:
            raise self.broken
        if not self._fittings.meter:
            return None
        self.measured += 1
        return replace(self.draw, alarm=self._levels[Pin.ALARM])

    async def events(self) -> AsyncIterator[PinEvent]:
        while (event := await self._events.get()) is not None:
            if isinstance(event, OSError):
                raise event
            yield event

    async def close(self) -> None:
        self.closed = True
        self._events.put_nowait(None)

    def end(self, why: OSError) -> None:
        """No edge is told or acted on any more."""
        self._events.put_nowait(why)

    def move(self, pin: Pin, active: bool) -> None:
        """An edge, now. A fault or an alarm that begins takes the power away, as a board's interlock does."""
        if self._levels[pin] is active:
            return
        self._levels[pin] = active
        now = asyncio.get_running_loop().time()
        if pin.cuts and active and self._fittings.switch:
            self._powered = False
            self.log.append((now, None))
        self._events.put_nowait(PinEvent(pin, active, now))
