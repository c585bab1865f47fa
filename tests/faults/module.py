# SPDX-License-Identifier: GPL-2.0-or-later
"""Module: contacts, power and USB of one module as a hand, a port and its own faults move them, in fake time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Final

from maglens_daemon.board.boards import Boards
from maglens_daemon.board.fake import FakePort
from maglens_daemon.board.hardware import Draw, Pin
from maglens_daemon.contract import Contract
from maglens_daemon.fake import FakeSource, FakeVisitor
from maglens_daemon.power_feed import Begin
from maglens_daemon.session import Session
from maglens_driver.errors import BadModule, Gone
from maglens_driver.gadget.power import Sink
from maglens_driver.link.descriptor import Descriptor, PowerNeeds
from maglens_driver.link.document import example_descriptor
from maglens_driver.link.pd import PdType, Rdo
from maglens_driver.link.wire import CapabilityLevel, CapabilityReason
from maglens_driver.mode import NV12, Mode, make_mode
from maglens_driver.source import FrameSink, Identity, Source

INTERVAL: Final = Fraction(1, 10)
BIG: Final = make_mode(NV12, 64, 48, INTERVAL, mbit_s=900, mw=2000)
MIDDLE: Final = make_mode(NV12, 48, 36, INTERVAL, mbit_s=300, mw=1200)
SMALL: Final = make_mode(NV12, 32, 24, INTERVAL, mbit_s=100, mw=700)
MODES: Final = (BIG, MIDDLE, SMALL)
STANDBY_MW: Final = 100
PEAK_MW: Final = 2600
IDLE_MW: Final = 300
BOOT_S: Final = 0.3  # from power to USB
SUPPLY_MV: Final = 5000


class BenchPort(FakePort):
    """A board's port, and what its contacts do to the module on it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.module: BenchModule | None = None
        self.switched_on = asyncio.Event()

    async def power(self, limit_mw: int | None) -> None:
        await super().power(limit_mw)
        self._note()
        if self.module is not None:
            self.module.supplied()

    def move(self, pin: Pin, active: bool) -> None:
        super().move(pin, active)
        self._note()
        if pin.cuts and self.module is not None:
            self.module.supplied()

    def _note(self) -> None:
        if self.powered:
            self.switched_on.set()
        else:
            self.switched_on.clear()


class BenchSource(FakeSource):
    """Frames by the clock; of ten, so many are damaged or left out as its module says."""

    def __init__(self, visitor: BenchVisitor, module: BenchModule) -> None:
        super().__init__(visitor.steps, module.serial, module.modes)
        self.module = module
        self.identity = Identity("bench", "module", module.serial)
        self.counters: Counter[str] = Counter()
        self.descriptor: Descriptor = replace(
            example_descriptor(),
            modes=module.modes,
            identity=self.identity,
            power=PowerNeeds(module.standby_mw, PEAK_MW),
        )
        self._timer: asyncio.TimerHandle | None = None
        self._taken = 0

    @property
    def mode_mw(self) -> int:
        """What the sensor draws now."""
        return self._mode.mw if self.sink is not None else 0

    async def start(self, sink: FrameSink, generation: int) -> None:
        await super().start(sink, generation)
        self.module.started()
        self._timer = asyncio.get_running_loop().call_later(float(INTERVAL), self._tick)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await super().stop()
        self.module.measure()

    def lose(self, why: Exception) -> None:
        if self.sink is not None:
            super().lose(why)
            self.module.measure()

    def _tick(self) -> None:
        if self.sink is None:
            return
        self._timer = asyncio.get_running_loop().call_later(float(INTERVAL), self._tick)
        if self.module.stalled:
            return
        self._taken += 1
        if self._taken % 10 < self.module.damaged and self._mode.mbit_s > self.module.clean_mbit_s:
            self.counters["payload_crc"] += 1
        elif (
            self._taken * self.module.left_out % 10 < self.module.left_out
            and self._mode.width > self.module.kept_width
        ):
            self.counters["left_out"] += 1
        elif self.frame():
            self.counters["frames"] += 1


class BenchSink(Sink):
    """``picky``: it asks for an offer that was not made."""

    picky = False

    def _send(self, kind: PdType, *objects: int) -> None:
        if kind is PdType.REQUEST and self.picky:
            objects = (replace(Rdo.unpack(objects[0]), position=7).pack(),)
        super()._send(kind, *objects)


class BenchVisitor(FakeVisitor):
    """One power-up of a module."""

    def __init__(self, module: BenchModule) -> None:
        super().__init__(module.serial, module.modes)
        self.module = module
        self.source: BenchSource = BenchSource(self, module)
        self.sink: BenchSink = BenchSink(BIG.mw, SMALL.mw, peak_mw=PEAK_MW)
        self.told: asyncio.Queue[tuple[CapabilityReason, CapabilityLevel] | None] = asyncio.Queue()

    async def open(self) -> Source:
        source = await super().open()
        if self.module.broken:
            raise BadModule("descriptor_crc", "descriptor fails the CRC that the module gave for it")
        return source

    async def converse(self, source: Source, begin: Begin) -> Contract | None:
        manners, module = self.sink.manners, self.module
        manners.greedy_mw, manners.stubborn = module.greedy_mw, module.stubborn
        manners.silent = module.silent or module.late_s > 0
        self.sink.picky = module.picky
        if module.late_s:
            asyncio.get_running_loop().call_later(module.late_s, self._speak)
        try:
            return await super().converse(source, begin)
        finally:
            module.measure()

    def _speak(self) -> None:
        self.sink.manners.silent = self.module.silent

    async def attend(self, source: Source, session: Session) -> None:
        await self.steps.step("attend")
        while (said := await self.told.get()) is not None:
            session.hear_capability(*said)
        raise Gone("unplugged")

    async def standby(self, source: Source) -> bool:
        rests = await super().standby(source)
        self.module.resting = True
        self.module.measure()
        return rests

    def unplug(self) -> None:
        super().unplug()
        self.told.put_nowait(None)


class BenchModule:
    """One module. The attributes are its faults."""

    def __init__(self, serial: str, boards: Boards) -> None:
        self.serial = serial
        self.speed_mbit_s = 5000
        self.modes: tuple[Mode, ...] = MODES
        self.shorted = False
        self.broken = False  # its descriptor
        self.stalled = False
        self.browns_out = 0  # times, as its sensor starts
        self.greedy_mw = 0
        self.stubborn = self.picky = False
        self.silent = False
        self.late_s = 0.0
        self.standby_mw = STANDBY_MW  # as it says
        self.excess_mw = 0  # drawn on top of everything
        self.damaged = 0  # of ten frames, in modes of more than ``clean_mbit_s``
        self.clean_mbit_s = 0
        self.left_out = 0  # of ten frames, in modes wider than ``kept_width`` pixels
        self.kept_width = 0
        self.resting = False
        self.visitor: BenchVisitor | None = None  # while it is on USB
        self.port: BenchPort | None = None
        self.held: tuple[str, ...] = ()  # steps at which its next visitor stops
        self._boards = boards
        self._boot: asyncio.TimerHandle | None = None

    def well_again(self) -> None:
        """No faults any more."""
        self.speed_mbit_s = 5000
        self.shorted = self.broken = self.stalled = self.stubborn = self.picky = self.silent = False
        self.browns_out = self.greedy_mw = self.excess_mw = self.damaged = self.clean_mbit_s = 0
        self.left_out = self.kept_width = 0
        self.late_s = 0.0

    # A hand.

    def snap_on(self, port: BenchPort) -> None:
        """The contacts close."""
        self.port, port.module = port, self
        port.move(Pin.DETECT, True)
        self.supplied()

    def lift_off(self) -> None:
        """They open."""
        port = self.port
        assert port is not None
        port.move(Pin.DETECT, False)
        port.module, self.port = None, None
        self._down(port)
        port.draw = Draw(SUPPLY_MV, 0, 0)

    async def bounce(self, open_s: float, closed_s: float, times: int) -> None:
        """The detect contact chatters; it is the shortest, so power and data stay."""
        for _ in range(times):
            if self.port is None:
                return
            self.port.move(Pin.DETECT, False)
            await asyncio.sleep(open_s)
            self.port.move(Pin.DETECT, True)
            await asyncio.sleep(closed_s)

    # Power.

    def supplied(self) -> None:
        """The port's switch may have changed."""
        port = self.port
        if port is None:
            return
        if port.powered and self.shorted:
            asyncio.get_running_loop().call_soon(self._trip)
        elif port.powered and self._boot is None and self.visitor is None:
            self._boot = asyncio.get_running_loop().call_later(BOOT_S, self._up)
        elif not port.powered:
            self._down(port)
        self.measure()

    def _trip(self) -> None:
        """The switch protects itself, and is well again at once: it is off then."""
        if self.port is not None and self.port.powered:
            self.port.move(Pin.FAULT, True)
            self.port.move(Pin.FAULT, False)

    def over_current(self) -> None:
        """A moment in which it draws too much."""
        self._trip()

    def brown_out(self) -> None:
        """It resets where it sits, with the port's power on."""
        port = self.port
        if port is not None and self.visitor is not None:
            self._down(port)
            self.supplied()

    def _up(self) -> None:
        self._boot = None
        port = self.port
        if port is None or not port.powered:
            return
        self.resting = False
        self.visitor = BenchVisitor(self)
        for step in self.held:
            self.visitor.steps.hold(step)
        self._boards.arrive(port.path, self.speed_mbit_s, self.visitor)
        self.measure()

    def _down(self, port: BenchPort) -> None:
        if self._boot is not None:
            self._boot.cancel()
            self._boot = None
        visitor, self.visitor = self.visitor, None
        if visitor is not None:
            visitor.source.lose(Gone("unplugged"))
            visitor.unplug()
            self._boards.depart(port.path)

    def started(self) -> None:
        """The sensor draws its first current."""
        self.resting = False
        self.measure()
        if self.browns_out > 0:
            self.browns_out -= 1
            asyncio.get_running_loop().call_soon(self.brown_out)

    def measure(self) -> None:
        """What the port's meter sees from now on."""
        port, visitor = self.port, self.visitor
        if port is None:
            return
        mw = 0
        if port.powered and visitor is not None:
            mw = visitor.source.mode_mw or (min(STANDBY_MW, self.standby_mw) if self.resting else IDLE_MW)
            mw += self.excess_mw if visitor.source.sink is not None else 0
        port.draw = Draw(SUPPLY_MV, mw * 1000 // SUPPLY_MV, mw)

    def say(self, level: CapabilityLevel) -> None:
        """It is warm, too hot, or cool again."""
        if self.visitor is not None:
            self.visitor.told.put_nowait((CapabilityReason.TEMPERATURE, level))

    def counters(self) -> Mapping[str, int]:
        """Of the present power-up."""
        return self.visitor.source.counters if self.visitor is not None else {}
