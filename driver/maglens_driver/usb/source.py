# SPDX-License-Identifier: GPL-2.0-or-later
"""ModuleSource: a module on a USB port as a Source."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Self, TypeVar

from maglens_driver.described import Described
from maglens_driver.errors import BadModule, Deadline, Gone, MaglensError, Refused, WrongState
from maglens_driver.link import limits, wire
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import MJPG, Mode, frame_bytes, min_stride, nearest_mode
from maglens_driver.source import FrameSink
from maglens_driver.usb.checks import Expected
from maglens_driver.usb.clock import ClockSample, ModuleClock
from maglens_driver.usb.control import ModuleControl
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.job import Job
from maglens_driver.usb.libusb import LibusbTransport
from maglens_driver.usb.plan import Plan, plan
from maglens_driver.usb.requests import Requests
from maglens_driver.usb.stream import DRAIN_S, StreamEngine
from maglens_driver.usb.transport import Transport

log = logging.getLogger(__name__)

T = TypeVar("T")

_EVENTS_KEPT: Final = 256  # for a reader that is late; the oldest go first
_MOST_BLOCKS: Final = -(-limits.MAX_DESCRIPTOR_BYTES // limits.DESCRIPTOR_BLOCK_BYTES)
_U32: Final = 0xFFFFFFFF
_STOP_S: Final = DRAIN_S + 2 * limits.REPLY_S  # a FLUSH may be under way


class State(enum.Enum):
    """What may be asked of the source now. Unplugging is orthogonal to it."""

    IDLE = "idle"
    CONFIGURED = "configured"
    STREAMING = "streaming"
    CLOSED = "closed"


class ModuleSource(Described):
    """One module. :meth:`open` identifies it and claims nothing; the interface is claimed, and events are listened
    to, from the first :meth:`configure` or :meth:`events` until :meth:`close`."""

    def __init__(self, device: UsbDevice, transport: Transport, control: ModuleControl) -> None:
        self.device = device
        self.control = control
        self.clock = ModuleClock()
        self._transport = transport
        self._descriptor: Descriptor | None = None
        self._info: wire.Info | None = None
        self._loop = asyncio.get_running_loop()
        self._engine: StreamEngine | None = None
        self._opening: asyncio.Future[None] | None = None
        self._state = State.IDLE
        self._gone: MaglensError | None = None
        self._configured: tuple[Mode, Expected, Plan] | None = None
        self._epoch = 0
        self._events: asyncio.Queue[wire.Event | None] = asyncio.Queue(_EVENTS_KEPT)

    @classmethod
    async def open(cls, device: UsbDevice, transport: Transport | None = None) -> Self:
        """Identify a module: INFO and DESCRIPTOR, nothing else.

        Raises ``Gone``, ``Deadline``, ``Refused("ACCESS")``, and ``BadModule`` for everything that is wrong with it.
        """
        way = transport or LibusbTransport(device)
        control = ModuleControl(device, way)
        source = cls(device, way, control)
        try:
            source._info, source._descriptor = await control.run(_identify, 1 + _MOST_BLOCKS)
        except BaseException:
            await control.close()
            raise
        return source

    @property
    def descriptor(self) -> Descriptor:
        """All facts about the module."""
        assert self._descriptor is not None
        return self._descriptor

    @property
    def boot_id(self) -> int:
        """New at every power-up of the module."""
        assert self._info is not None
        return int(self._info.boot_id)

    @property
    def counters(self) -> Mapping[str, int]:
        """``frames``, ``left_out`` (by the module, which had no time for them), ``lost`` (as a broken stream was
        mended), and dropped frames and damaged events by cause."""
        return MappingProxyType(dict(self._engine.counters) if self._engine is not None else {})

    # --- Source -----------------------------------------------------------------------------------------------

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        """See :class:`~maglens_driver.source.Source`. Besides: ``Refused`` (``NO_CONTRACT``, ``NO_MEM``,
        ``CLAIMED``), ``BadModule("configured")`` for an answer that does not add up."""
        self._check(State.IDLE, State.CONFIGURED)
        request = _configure_request(self.descriptor.modes, want, test_only)
        if test_only:
            _, answer = await self._guard(self.control.configure(request))
            return _mode_of(answer)
        stale = self._epoch == 0 and self._info is not None and self._info.state == wire.ModuleState.STREAMING
        sampled = self.clock.fit is not None

        def work(requests: Requests) -> tuple[wire.Configured, tuple[int, int, int] | None]:
            if stale:
                requests.stop()  # a host before us died while the module was streaming
            sample = None if sampled else requests.clock_sample()
            return requests.configure(request)[1], sample

        (answer, sample), _ = await asyncio.gather(self._guard(self.control.run(work, 3)), self._claim())
        if sample is not None:
            self.clock.add(ClockSample(*sample))
        mode = self.descriptor.with_facts(_mode_of(answer))
        expected = Expected(mode.fourcc, mode.width, mode.height, mode.stride, mode.nbytes, mode.stride != 0)
        memory = self._transport.transfer_memory()
        cut = plan(mode.nbytes, self.device.bulk.max_packet, memory, fixed=expected.fixed)
        self._configured = (mode, expected, cut)
        assert self._engine is not None
        self._engine.prepare(cut)
        self._state = State.CONFIGURED
        return mode

    async def start(self, sink: FrameSink, generation: int) -> None:
        """See :class:`~maglens_driver.source.Source`. Returns as soon as the module accepted START; the transfers are
        queued meanwhile."""
        self._check(State.CONFIGURED)
        assert self._configured is not None
        assert self._engine is not None
        mode, expected, cut = self._configured
        self._epoch = self._epoch % 0xFFFFFFFF + 1
        first_frame = time.monotonic() + limits.FIRST_FRAME_S + float(mode.interval)
        fresh = self._epoch == 1 and self._info is not None and self._info.state == wire.ModuleState.IDLE
        job = Job(sink, generation, mode, expected, cut, self._epoch, first_frame, fresh, self._engine.counters)
        self._state = State.STREAMING
        queued = self._engine.start(job)
        try:
            await self._guard(self.control.start(self._epoch))
            await self._guard(asyncio.wrap_future(queued))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """See :class:`~maglens_driver.source.Source`."""
        if self._state is not State.STREAMING:
            return
        self._state = State.CONFIGURED
        assert self._engine is not None
        try:
            async with asyncio.timeout(_STOP_S):
                await asyncio.wrap_future(self._engine.stop())
        except TimeoutError as error:
            raise Deadline(f"port {self.device.port}: transfers did not come back within {_STOP_S} s") from error
        self._epoch = self._engine.epoch
        if self._gone is not None:
            return
        try:
            await self._guard(self.control.stop())
        except Gone as why:
            log.info("port %s: %s", self.device.port, why)

    async def get(self) -> Mapping[int, int]:
        """See :class:`~maglens_driver.source.Source`."""
        self._check(State.IDLE, State.CONFIGURED, State.STREAMING)
        return await self._guard(self.control.controls())

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """See :class:`~maglens_driver.source.Source`."""
        self._check(State.IDLE, State.CONFIGURED, State.STREAMING)
        known = {c.id for c in self.controls}
        for control in values:
            if control not in known:
                raise Refused("INVALID", f"the module has no control {control:#010x}")
        return await self._guard(self.control.set_controls(values)) if values else {}

    async def close(self) -> None:
        """See :class:`~maglens_driver.source.Source`."""
        if self._state is State.CLOSED:
            return
        try:
            await self.stop()
        finally:
            self._state = State.CLOSED
            self._put_event(None)
            try:
                if self._engine is not None:
                    await asyncio.to_thread(self._engine.close)
            finally:
                await self.control.close()

    # --- more than a Source -----------------------------------------------------------------------------------

    async def events(self) -> AsyncIterator[wire.Event]:
        """What the module tells by itself, for one reader. Ends when the source is closed or unplugged.

        Events of the kind CONTROL also go to the sink while streaming.
        """
        if self._gone is None:
            await self._claim()
        while (event := await self._events.get()) is not None:
            yield event

    # --- inside -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What may be asked of it now."""
        lost = self._engine is not None and self._engine.has_ended
        return State.CONFIGURED if self._state is State.STREAMING and lost else self._state

    def _check(self, *legal: State) -> None:
        if self._gone is not None:
            raise Gone(str(self._gone)) from self._gone
        if self.state not in legal:
            raise WrongState(f"port {self.device.port}: not legal while {self.state.value}")

    async def _guard(self, work: Awaitable[T]) -> T:
        """Await ``work``; once the device is gone, every later call says so."""
        try:
            return await work
        except Gone as why:
            self._set_gone(why)
            raise

    async def _claim(self) -> None:
        """Claim the interface and listen; tried again by the next call where it failed."""
        if self._engine is None:
            self._engine = StreamEngine(
                self.device,
                self._transport,
                self.control,
                self.clock,
                on_event=self._on_event,
                on_gone=self._on_gone,
            )
            self._opening = asyncio.ensure_future(asyncio.wrap_future(self._engine.open()))
        assert self._opening is not None
        try:
            await self._guard(asyncio.shield(self._opening))
        except Exception:
            self._engine, self._opening = None, None
            raise

    def _on_gone(self, why: Exception) -> None:
        self._loop.call_soon_threadsafe(self._set_gone, why)

    def _set_gone(self, why: Exception) -> None:
        if self._gone is None:
            self._gone = why if isinstance(why, MaglensError) else Gone(str(why))
            self._put_event(None)

    def _on_event(self, event: wire.Event) -> None:
        self._loop.call_soon_threadsafe(self._put_event, event)

    def _put_event(self, event: wire.Event | None) -> None:
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(event)


def _identify(requests: Requests) -> tuple[wire.Info, Descriptor]:
    info = requests.info()
    return info, requests.descriptor(info)


def _configure_request(modes: Sequence[Mode], want: Mode, test_only: bool) -> wire.Configure:
    """CONFIGURE for the mode nearest to ``want``: format first, then size, then rate."""
    if not modes:
        raise Refused("UNSUPPORTED", "the module has no sensor and sends no pictures")
    near = nearest_mode(modes, want)
    interval = want.interval if max(want.interval.as_integer_ratio()) <= _U32 else near.interval
    flags = wire.ConfigureFlag.TEST_ONLY if test_only else wire.ConfigureFlag.NONE
    return wire.Configure(
        modes.index(near), flags, near.fourcc, near.width, near.height, interval.numerator, interval.denominator
    )


def _mode_of(answer: wire.Configured) -> Mode:
    """What the module will send; cause ``configured`` where that is impossible."""
    sane = (
        0 < answer.width <= limits.MAX_WIDTH
        and 0 < answer.height <= limits.MAX_HEIGHT
        and 0 < answer.payload_bytes <= limits.MAX_FRAME_BYTES
        and answer.interval_numerator > 0
        and answer.interval_denominator > 0
    )
    least = min_stride(answer.fourcc, answer.width)
    if sane and least:
        exact = frame_bytes(answer.fourcc, answer.stride, answer.height)
        sane = answer.stride >= least and answer.payload_bytes == exact
    elif sane and answer.fourcc == MJPG:
        sane = answer.stride == 0 and answer.width * answer.height <= limits.MAX_JPEG_PIXELS
    interval = Fraction(answer.interval_numerator, answer.interval_denominator) if sane else Fraction(1)
    if not sane or not Fraction(1, limits.MAX_RATE_FPS) <= interval <= limits.MAX_INTERVAL_S:
        raise BadModule("configured", f"the module's answer to CONFIGURE is impossible: {answer}")
    return Mode(
        answer.fourcc,
        answer.width,
        answer.height,
        answer.stride,
        answer.payload_bytes,
        interval,
        answer.mbit_s,
        answer.mw,
    )
