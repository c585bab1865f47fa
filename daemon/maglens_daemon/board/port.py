# SPDX-License-Identifier: GPL-2.0-or-later
"""The ports there are: of USB alone, and of a board."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Final

from maglens_daemon.board.hardware import Draw, Fittings, Pin, PinEvent
from maglens_daemon.board.inputs import Input, Output
from maglens_daemon.board.interlock import Interlock
from maglens_daemon.board.meter import Meter

MAX_WAITING: Final = 64  # edges told and not taken yet; a contact that chatters faster tells nothing new


class UsbPort:
    """A port without anything beside USB: always on, never measured, never an edge."""

    fittings = Fittings()
    powered = True

    def __init__(self) -> None:
        self._closed = asyncio.Event()

    def level(self, pin: Pin) -> bool:
        return False

    async def power(self, limit_mw: int | None) -> None:
        """USB alone has no switch."""

    async def measure(self) -> Draw | None:
        return None

    async def events(self) -> AsyncIterator[PinEvent]:
        await self._closed.wait()
        nothing: tuple[PinEvent, ...] = ()
        for event in nothing:
            yield event

    async def close(self) -> None:
        self._closed.set()


class BoardPort:
    """A port whose pins the board has; made by :func:`maglens_daemon.board.fit.open_port`, in the loop. ``OSError``
    where one of them does not answer."""

    def __init__(
        self,
        name: str,
        *,
        detect: Sequence[Input] = (),
        switch: Output | None = None,
        fault: Input | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._switch = switch
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[PinEvent | OSError | None] = asyncio.Queue()
        self._waiting = 0  # edges in there or on their way
        self._newest: dict[tuple[Pin, bool], PinEvent] = {}  # of those for which there was no room
        self._lock = threading.Lock()  # guards both
        self._closed = False
        inputs: dict[Input, Pin] = dict.fromkeys(detect, Pin.DETECT)
        if fault is not None:
            inputs[fault] = Pin.FAULT
        alarms = meter.alarms() if meter is not None else []
        inputs |= dict.fromkeys(alarms, Pin.ALARM)
        self._fittings = Fittings(bool(detect), switch is not None, fault is not None, meter is not None)
        try:
            self._interlock = Interlock(name, inputs, switch, self._tell)
        except OSError:  # an input that cannot be read; the others are whose they were
            for alarm in alarms:
                alarm.close()
            raise
        self._interlock.start()

    def _tell(self, event: PinEvent | OSError) -> None:
        """In the interlock's thread."""
        if isinstance(event, PinEvent):
            with self._lock:
                if self._waiting >= MAX_WAITING or self._newest:
                    self._newest[event.pin, event.active] = event
                    return
                self._waiting += 1
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _taken(self) -> Sequence[PinEvent]:
        """An edge was taken: what came meanwhile, once there is nothing older."""
        with self._lock:
            self._waiting -= 1
            if self._waiting:
                return ()
            newest, self._newest = self._newest, {}
        return sorted(newest.values(), key=lambda event: event.at_s)

    @property
    def fittings(self) -> Fittings:
        return self._fittings

    @property
    def powered(self) -> bool:
        return self._switch is None or self._switch.get()

    def level(self, pin: Pin) -> bool:
        return self._interlock.level(pin)

    async def power(self, limit_mw: int | None) -> None:
        if self._switch is not None:
            self._switch.set(limit_mw is not None)

    async def measure(self) -> Draw | None:
        if self._meter is None:
            return None
        return await asyncio.to_thread(self._meter.read)  # a bus that hangs must not hold up the loop

    async def events(self) -> AsyncIterator[PinEvent]:
        while (event := await self._events.get()) is not None:
            if isinstance(event, OSError):
                raise event
            yield event
            for later in self._taken():
                yield later

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._interlock.close)
        if self._switch is not None:
            self._switch.close()
        self._events.put_nowait(None)
