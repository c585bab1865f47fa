# SPDX-License-Identifier: MIT
"""Module: any Source behind a FunctionFS function. It answers requests, streams, and tells of events.

Threads: the caller's asyncio loop, in which the source lives; one for endpoint 0; one for frames; one for events.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from maglens_driver.errors import Gone
from maglens_driver.gadget import functionfs, mutation
from maglens_driver.gadget.clock import ModuleClock
from maglens_driver.gadget.events import Events
from maglens_driver.gadget.faults import DESCRIPTOR_FAULTS, Fault, Faults
from maglens_driver.gadget.functionfs import Ep0Event, Ep0EventType, FunctionFs, Setup
from maglens_driver.gadget.power import Sink
from maglens_driver.gadget.responder import Responder
from maglens_driver.gadget.stay import Stay
from maglens_driver.gadget.streamer import Streamer
from maglens_driver.gadget.writer import Writer
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.payload import usable_mbit
from maglens_driver.link.wire import EventKind, Op
from maglens_driver.mode import Mode
from maglens_driver.source import Source

log = logging.getLogger(__name__)

T = TypeVar("T")
WORK_S: Final = 5.0  # a source that takes longer is broken; the host loses patience earlier, after REPLY_S
_VENDOR_TO_INTERFACE: Final = 0x41  # of the request type, without the direction
_TYPE_MASK: Final = 0x60
_VENDOR: Final = 0x40
_WITHDRAWN: Final = (errno.EIDRM, errno.ESHUTDOWN, errno.EL2HLT, errno.EOVERFLOW)  # the host did not wait, or left
_PACKET: Final = {12: 64, 480: 512, 5000: 1024, 10_000: 1024}


@dataclass(frozen=True, slots=True)
class Link:
    """``trained_mbit()``: signalling rate of the bus now; ``claimed_mbit``: the most that the module says it can."""

    trained_mbit: Callable[[], int]
    claimed_mbit: int


class _Works:
    """What the responder lets the module do."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def module_time(self) -> int:
        return self._module.clock.now()

    def configure(self, mode: Mode) -> None:
        self._module.wait(self._module.source.configure(mode))

    def start(self, epoch: int) -> None:
        module = self._module
        without_ms = module.faults.take(Fault.BROWN_OUT, 50)
        if without_ms is not None:
            module.on_brown_out(without_ms / 1000)
        module.streamer.start(epoch)
        module.wait(module.source.start(module.streamer, module.stay.generation))

    def stop(self) -> None:
        self._module.streamer.stop()
        self._module.wait(self._module.source.stop())

    def flush(self, epoch: int) -> None:
        self._module.streamer.flush(epoch)

    def controls(self) -> Mapping[int, int]:
        return self._module.wait(self._module.source.get())

    def set_controls(self, values: Mapping[int, int]) -> Mapping[int, int]:
        return self._module.wait(self._module.source.set(values))


class Module:
    """One power-up of a module on an open function that is not bound yet. :meth:`begin`, bind, unbind, :meth:`end`.

    ``stranger``: the function is not ours; every vendor request is counted and refused.
    """

    def __init__(
        self,
        source: Source,
        descriptor: Descriptor,
        link: Link,
        files: FunctionFs,
        *,
        stay: Stay,
        faults: Faults,
        stranger: bool = False,
    ) -> None:
        self.source = source
        self.stay = stay
        self.faults = faults
        self.clock = ModuleClock()
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._descriptor = descriptor
        prices = [m.mw for m in descriptor.modes] or [descriptor.power.standby_mw]
        self.sink = Sink(max(prices), min(prices), peak_mw=descriptor.power.peak_mw)
        self.responder = Responder(
            descriptor.pack(), descriptor.modes, self.sink, _Works(self), link_mbit_s=usable_mbit(link.claimed_mbit)
        )
        self._files = files
        self._stranger = stranger
        self.streamer = Streamer(Writer(files.bulk), self.clock, faults, stay, files.halt_bulk)
        self.events = Events(Writer(files.interrupt), self.clock, faults)
        self.on_brown_out: Callable[[float], None] = lambda seconds: None
        self._power_silent_until = 0.0
        self.streamer.on_control = lambda control, value: self.events.push(EventKind.CONTROL, control, value)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=body, name=name, daemon=True)
            for body, name in ((self._serve, "ep0"), (self.streamer.run, "frames"), (self.events.run, "events"))
        ]

    def begin(self) -> None:
        """Start the threads; the function can be bound now."""
        for thread in self._threads:
            thread.start()

    async def end(self) -> None:
        """Stop everything. The function must have been unbound before; it stays open for the next power-up."""
        self._over.set()
        self.faults.wake()
        self._files.wake()
        await asyncio.to_thread(self._end)
        await self.source.stop()

    def _end(self) -> None:
        self.streamer.end()
        self.events.end()
        for thread in self._threads:
            thread.join()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Result of a coroutine of the source, for a thread. ``TimeoutError`` after ``WORK_S``."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WORK_S)

    # Endpoint 0 -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._over.is_set():
            for event in self._files.events():
                self._handle(event)

    def _handle(self, event: Ep0Event) -> None:
        match event.type:
            case Ep0EventType.ENABLE:
                self._enable()
            case Ep0EventType.DISABLE | Ep0EventType.UNBIND:
                self._disable()
            case Ep0EventType.SETUP if event.setup is not None:
                self._request(event.setup)
            case _:  # BIND, SUSPEND, RESUME: nothing is to be done; standby keeps USB active
                log.debug("%s", event.type.name)

    def _enable(self) -> None:
        trained = self._link.trained_mbit()
        usable = usable_mbit(min(trained or self._link.claimed_mbit, self._link.claimed_mbit))
        self.streamer.packet = _PACKET.get(trained, functionfs.BULK_PACKET)
        self.streamer.link_mbit_s = self.responder.link_mbit_s = usable
        self.stay.enabled_ns = time.monotonic_ns()
        self.events.enable()

    def _disable(self) -> None:
        self.events.disable()
        self.responder.reset()
        if (fault := self._take_fault("the end of its stream")) is not None:
            self.streamer.on_lost(fault)  # no host is there to hear of it

    def _request(self, setup: Setup) -> None:
        if setup.request_type & _TYPE_MASK == _VENDOR:
            self.stay.vendor_requests += 1
        if self._stranger or setup.request_type & 0x7F != _VENDOR_TO_INTERFACE:
            self._files.stall(setup)
            return
        if self._silent():
            return
        if setup.request in (Op.POWER_SEND, Op.POWER_RECEIVE):
            self._set_manners()
        try:
            if setup.to_host:
                self._files.reply(self._damaged(self._answer(setup))[: setup.length])
            else:
                self.responder.write(setup.request, self._files.receive(setup.length))
                if self.sink.has_message:
                    self.events.push(EventKind.POWER, 0, 0)
        except OSError as error:
            level = logging.DEBUG if error.errno in _WITHDRAWN else logging.WARNING
            log.log(level, "request %#04x went wrong on its way: %s", setup.request, error)
        fault = self._take_fault(f"request {setup.request:#04x}")
        if isinstance(fault, Gone):  # its camera left while nothing was sent, and it is seen only now
            self.streamer.on_lost(fault)

    def _take_fault(self, what: str) -> Exception | None:
        """What broke inside the module as that was done; it is logged."""
        fault, self.responder.fault = self.responder.fault, None
        if fault is not None:
            log.error("%s broke the module", what, exc_info=fault)
        return fault

    def _silent(self) -> bool:
        """Whether the request is not to be answered; waits, for the next look at endpoint 0 would stall it."""
        if self.faults.has(Fault.HANG):
            self.faults.wait_cleared(Fault.HANG, self._over.is_set)
            return True
        silent_ms = self.faults.take(Fault.REPLY_NEVER, 1000)
        if silent_ms is not None:
            self._over.wait(silent_ms / 1000)
        return silent_ms is not None

    def _set_manners(self) -> None:
        """How the sink behaves now, by the faults asked for."""
        now, manners = time.monotonic(), self.sink.manners
        late_ms = self.faults.take(Fault.POWER_LATE, 800) if self.sink.has_message else None
        if late_ms is not None:
            self._power_silent_until = now + late_ms / 1000
        manners.greedy_mw = self.faults.value(Fault.POWER_GREEDY, 1000) or 0
        manners.stubborn = self.faults.has(Fault.POWER_STUBBORN)
        manners.silent = self.faults.has(Fault.POWER_SILENT) or now < self._power_silent_until

    def _answer(self, setup: Setup) -> bytes:
        if setup.request == Op.INFO:
            self._mutate()
        return self.responder.read(setup.request, setup.value)

    def _mutate(self) -> None:
        raw = self._descriptor.pack()
        for fault in DESCRIPTOR_FAULTS:
            if self.faults.take(fault) is not None:
                if fault is Fault.DESCRIPTOR_CRC:
                    self.responder.announce(raw, crc=0)
                else:
                    self.responder.announce(mutation.mutate(raw, fault))
                return
        self.responder.announce(raw)

    def _damaged(self, reply: bytes) -> bytes:
        take = self.faults.take
        if (late := take(Fault.REPLY_LATE, 800)) is not None:
            self._over.wait(late / 1000)
        if (less := take(Fault.REPLY_SHORT, 4)) is not None:
            reply = reply[: max(0, len(reply) - less)]
        if (more := take(Fault.REPLY_LONG, 16)) is not None:
            reply += bytes(more)
        if take(Fault.REPLY_MAGIC) is not None:
            reply = b"XX" + reply[2:]
        if take(Fault.REPLY_TAG) is not None:
            reply = reply[:6] + b"\xee\xee" + reply[8:]
        return reply
