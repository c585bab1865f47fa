# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeper: one port of a board. It runs the port's :class:`attach.Attach` machine: gives it edges, timers, USB and
measurements, and does what it asks for. All of it in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from maglens_daemon.board.attach import Attach, AttachState, Do
from maglens_daemon.board.failures import FAILURES, AttachFailed, Code
from maglens_daemon.board.hardware import Draw, Pin, PinEvent, PortHardware
from maglens_daemon.board.overdraw import SLOW_S, Overdraw
from maglens_daemon.board.report import Report
from maglens_daemon.journal import about
from maglens_daemon.port import SUPPLY_MV, UNCONFIGURED_MA, Port
from maglens_daemon.session import GONE_GRACE_S, Session
from maglens_daemon.visitor import Visitor
from maglens_driver.errors import Deadline, Gone, MaglensError

log = logging.getLogger(__name__)

UNCONFIGURED_MW: Final = SUPPLY_MV * UNCONFIGURED_MA // 1000
REOPEN_S: Final = 2.0  # between two tries to take a port's pins anew


class House(Protocol):
    """What a keeper needs of the manager, by way of :class:`boards.Boards`."""

    def admit(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session | None:
        """A module is seated: its stay begins."""
        ...

    def dismiss(self, path: str) -> None:
        """It was lifted off."""
        ...

    def limit_mw(self, session: Session) -> int:
        """What its port lets through: the contract as it is now, and what was kept ready for its motors."""
        ...

    def reconsider(self) -> None: ...


class Keeper:
    """``port_at(speed)`` is what the port may promise at a link speed in Mbit/s. ``visit`` makes the session's
    visitor. ``reopen`` takes the pins anew, after they were given back; it may raise ``MaglensError`` or
    ``OSError``."""

    def __init__(
        self,
        path: str,
        hardware: PortHardware,
        attach: Attach,
        house: House,
        *,
        port_at: Callable[[int], Port],
        visit: Callable[[Keeper], Visitor],
        reopen: Callable[[], PortHardware],
        tolerance: float,
    ) -> None:
        self.path = path
        self.attach = attach
        self.session: Session | None = None
        self._hardware = hardware
        self._house = house
        self._port_at = port_at
        self._visit = visit
        self._reopen = reopen
        self._is_deaf = False  # the pins tell nothing any more, faults included; nothing may be powered
        self._overdraw = Overdraw(tolerance)
        self._draw: Draw | None = None
        self._module: Visitor | None = None  # on USB
        self._speed_mbit_s = 0
        self._seat = 0  # counts Do.SEATED; 0 of them: nothing may be opened
        self._open_seat: int | None = None  # the seat that may be opened now
        self._taken_seat: int | None = None  # the one that the session has opened last
        self._refused: AttachFailed | None = None
        self._told = attach.state
        self._brown_outs = 0  # told of
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._switching: asyncio.Queue[int | None] = asyncio.Queue()
        self._meter: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks = [
            asyncio.create_task(self._listen(), name=f"pins-{path}"),
            asyncio.create_task(self._switch(), name=f"switch-{path}"),
        ]
        seated = self._level(Pin.DETECT)
        self._obey(attach.start(self._loop.time(), seated=seated, powered=self._powered()))

    @property
    def label(self) -> str:
        """The port as people know it."""
        return self._port_at(self._speed_mbit_s).label

    @property
    def limit_mw(self) -> int:
        """What may be drawn now: nothing was agreed on yet, or what the session was offered or has by contract."""
        promised = self._house.limit_mw(self.session) if self.session is not None else 0
        contract = self.session.contract if self.session is not None else None
        return promised if contract is not None else max(promised, UNCONFIGURED_MW)

    def report(self) -> Report:
        """For status."""
        fittings = self._hardware.fittings
        return Report(
            path=self.path,
            name=self._port_at(self._speed_mbit_s).name,
            state=self.attach.state,
            code=self.attach.code,
            failures=self.attach.failures,
            seated=self._level(Pin.DETECT) if fittings.detect else None,
            powered=self._powered(),
            limit_mw=self.limit_mw,
            draw=self._draw,
            counters=dict(self.attach.counters),
        )

    # USB.

    def arrive(self, speed_mbit_s: int, module: Visitor) -> None:
        """A module is on USB."""
        self._module, self._speed_mbit_s = module, speed_mbit_s
        self._obey(self.attach.usb(True, self._loop.time()))

    def depart(self) -> None:
        """It has gone from USB."""
        self._module = None
        self._obey(self.attach.usb(False, self._loop.time()))

    # For the visitor, which is the session's.

    async def seat(self) -> Visitor:
        """The module, once it may be opened: each time that it came on USB, once. Raises :class:`AttachFailed`."""
        while True:
            self._news.clear()
            if self._refused is not None:
                raise self._refused
            if self._open_seat is None:
                await self._news.wait()
            elif self._open_seat != self._taken_seat and self._module is not None:
                self._taken_seat = self._open_seat
                return self._module
            else:
                await self._still_there()

    async def _still_there(self) -> None:
        """Its source says that it has gone; USB follows at once, or it hangs."""
        try:
            async with asyncio.timeout(GONE_GRACE_S):
                await self._news.wait()
        except TimeoutError:
            self._obey(self.attach.fail(Code.NO_ANSWER, self._loop.time()))

    def again(self, why: Exception) -> bool:
        """A step of the session failed: whether the stay goes on with :meth:`seat`."""
        if isinstance(why, Deadline):
            self._obey(self.attach.fail(Code.NO_ANSWER, self._loop.time()))
            return True
        return isinstance(why, Gone)

    def reopen(self) -> None:
        """What is on USB may be opened once more: the system sleeps, and the session has given it back."""
        self._taken_seat = None
        self._news.set()

    def refused(self) -> None:
        """The session refuses the module: no power for it until it is lifted off."""
        self._obey(self.attach.refuse(self._loop.time()))

    # What the board tells.

    async def _listen(self) -> None:
        while True:
            try:
                async for event in self._hardware.events():
                    self._on_pin(event)
                return
            except OSError as error:
                self._is_deaf = True
                self._board_error(error)
            await self._take_anew()

    async def _take_anew(self) -> None:
        """Nobody cuts at a fault's edge now: the port stays off until its pins were taken once more."""
        try:
            await self._hardware.power(None)
        except OSError as error:
            log.error("port %s: it cannot be switched off: %s", self.label, error, extra=about(port=self.path))
        await self._hardware.close()
        told = False
        while True:
            await asyncio.sleep(REOPEN_S)  # a board does not tell when it is back
            try:
                self._hardware = self._reopen()
                await self._hardware.power(None)
                break
            except (MaglensError, OSError) as error:
                if not told:
                    log.error(
                        "port %s: its pins cannot be taken anew, it stays off: %s",
                        self.label,
                        error.explain() if isinstance(error, MaglensError) else error,
                        extra=about(port=self.path, cause="board_error"),
                    )
                told = True
                await self._hardware.close()
        self._is_deaf = False
        log.info("port %s: its pins were taken anew", self.label, extra=about(port=self.path))
        if self._hardware.fittings.detect:  # whatever has moved meanwhile
            self._obey(self.attach.detect(self._level(Pin.DETECT), self._loop.time()))
        self._set_timer()

    def _on_pin(self, event: PinEvent) -> None:
        if event.pin is Pin.DETECT:
            self._obey(self.attach.detect(event.active, event.at_s))
        elif event.active:
            code = Code.OVER_CURRENT if event.pin is Pin.FAULT else Code.CURRENT_ALARM
            self._obey(self.attach.cut(event.at_s, code))

    def _on_timer(self) -> None:
        self._timer = None
        seated, fault = self._level(Pin.DETECT), self._level(Pin.FAULT)
        self._obey(self.attach.timer(self._loop.time(), seated=seated, fault=fault))

    def _level(self, pin: Pin) -> bool:
        """A line that cannot be read counts as what is safe: no module, a fault. Its device has gone, which
        :meth:`_listen` tells."""
        try:
            return self._hardware.level(pin) if not self._is_deaf else pin is Pin.FAULT
        except OSError:
            return pin is Pin.FAULT

    def _powered(self) -> bool:
        try:
            return self._hardware.powered and not self._is_deaf
        except OSError:
            return False

    def _board_error(self, error: OSError, *, told: bool = False) -> None:
        level = logging.DEBUG if told else logging.ERROR
        log.log(level, "port %s: the board: %s", self.label, error, extra=about(port=self.path, cause="board_error"))
        self._obey(self.attach.fail(Code.BOARD_ERROR, self._loop.time()))

    async def _switch(self) -> None:
        """The switch's changes, in order."""
        while True:
            limit_mw = await self._switching.get()
            if self._is_deaf:
                continue  # it is off
            try:
                await self._hardware.power(limit_mw)
            except OSError as error:
                self._board_error(error)
            self._house.reconsider()

    async def _measure(self) -> None:
        """Meter what a module draws, while it has power; often only while it draws more than standby. A reading that
        fails is a failure each time; without a switch the module has its power all the while."""
        told = False
        while True:
            try:
                draw = await self._hardware.measure()
            except OSError as error:
                self._board_error(error, told=told)
                told = True
                await asyncio.sleep(SLOW_S)
                continue
            if draw is None:
                return
            told = False
            self._draw, limit_mw, now = draw, self.limit_mw, self._loop.time()
            if draw.alarm:
                self._obey(self.attach.fail(Code.CURRENT_ALARM, now))
            elif self._overdraw.judge(draw.mw, limit_mw, now):
                log.warning("port %s: draws %d mW, %d are allowed", self.label, draw.mw, limit_mw)
                self._obey(self.attach.fail(Code.OVER_DRAW, now))
            # Not an event that could be awaited: a meter has to be asked.
            await asyncio.sleep(self._overdraw.interval_s(draw.mw, limit_mw))

    # What the machine asks for.

    def _obey(self, things: Sequence[Do]) -> None:
        for do in things:
            self._do(do)
        self._set_timer()
        self._set_meter()
        if self.attach.code is not None and self.attach.state is AttachState.RECOVER and Do.OFF in things:
            self._tell_failure()
        if self.attach.counters[Code.BROWN_OUT.value] > self._brown_outs:
            self._tell_brown_out()
        if things or self.attach.state is not self._told:
            self._told = self.attach.state
            self._news.set()
            self._house.reconsider()

    def _do(self, do: Do) -> None:
        match do:
            case Do.TEST_POWER | Do.POWER:
                self._switching.put_nowait(self.limit_mw)
            case Do.OFF:
                self._switching.put_nowait(None)
                self._open_seat = None
            case Do.BEGIN:
                self._refused, self._taken_seat = None, None
                self.session = self._house.admit(self.path, self._speed_mbit_s, self._visit(self))
            case Do.SEATED:
                self._seat += 1
                self._open_seat = self._seat
                if self.session is not None:
                    self.session.port = self._port_at(self._speed_mbit_s)
            case Do.LOST:
                self._open_seat = None
                if self.session is not None:
                    self.session.interrupted()
            case Do.REFUSE:
                assert self.attach.code is not None
                self._refused = AttachFailed(self.attach.code, f"{self.attach.failures} times")
            case Do.END:
                self.session = None
                self._open_seat = None
                self._house.dismiss(self.path)

    def _tell_failure(self) -> None:
        code = self.attach.code
        assert code is not None
        log.warning(
            "port %s: %s; it is tried again (failure %d)",
            self.label,
            FAILURES[code].message,
            self.attach.failures,
            extra=about(port=self.path, state=self.attach.state.value, cause=code.value),
        )

    def _tell_brown_out(self) -> None:
        self._brown_outs = self.attach.counters[Code.BROWN_OUT.value]
        log.warning(
            "port %s: %s (%d in all)",
            self.label,
            FAILURES[Code.BROWN_OUT].message,
            self._brown_outs,
            extra=about(port=self.path, state=self.attach.state.value, cause=Code.BROWN_OUT.value),
        )

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self.attach.deadline_s
        self._timer = None if at is None or self._is_deaf else self._loop.call_at(at, self._on_timer)

    def _set_meter(self) -> None:
        wanted = self._hardware.fittings.meter and self.attach.is_supplied
        if wanted and self._meter is None:
            self._overdraw.reset()
            self._meter = asyncio.create_task(self._measure(), name=f"meter-{self.path}")
        elif not wanted and self._meter is not None:
            self._meter.cancel()
            self._meter, self._draw = None, None

    async def close(self) -> None:
        """Leave the port as it is, power included; the session is the manager's to end."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [*self._tasks, *((self._meter,) if self._meter is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._hardware.close()
