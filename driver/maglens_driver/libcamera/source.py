# SPDX-License-Identifier: GPL-2.0-or-later
"""LibcameraSource: a camera behind libcamera, as a source. All of libcamera is in the child process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from maglens_driver.control import ControlFlag, ControlInfo, ControlType
from maglens_driver.errors import BadModule, Deadline, Gone, Interrupted, MaglensError, Refused, WrongState
from maglens_driver.libcamera import control_map
from maglens_driver.libcamera.delivery import Delivery
from maglens_driver.libcamera.limits import Limits, RestartGate
from maglens_driver.libcamera.packet import ControlBody, DeviceBody, Kind, ModeBody, ValueBody
from maglens_driver.libcamera.process import Answer, ChildProcess, texts
from maglens_driver.link.limits import MAX_FRAME_BYTES, MAX_HEIGHT, MAX_INTERVAL_S, MAX_MODES, MAX_RATE_FPS, MAX_WIDTH
from maglens_driver.mode import MJPG, NV12, YUYV, Mode, frame_bytes, min_stride
from maglens_driver.source import FrameSink, Identity
from maglens_driver.ycbcr import Matrix, YCbCr, unless_told

log = logging.getLogger(__name__)


class LibcameraSource:
    """One libcamera camera. Idle, configured, streaming as every source; a child that dies takes it to idle.

    ``counters``: ``frames`` delivered, ``spoiled`` (lost inside libcamera), ``no_buffer`` (the sink had no memory for
    a picture that had to be copied together), ``children`` started.
    """

    def __init__(self, camera_id: str, limits: Limits, environment: Mapping[str, str] | None) -> None:
        """Use :meth:`open`."""
        self._camera_id = camera_id
        self._limits = limits
        self._environment = environment
        self._gate = RestartGate(limits)
        self._identity = Identity("libcamera", camera_id, camera_id)
        self._modes: tuple[Mode, ...] = ()
        self._controls: dict[int, ControlInfo] = {}
        self._values: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._child: ChildProcess | None = None
        self._delivery: Delivery | None = None
        self._closed = False
        self._busy = asyncio.Lock()  # one call at a time
        self.counters: Counter[str] = Counter()

    @classmethod
    async def open(
        cls, camera_id: str, *, limits: Limits | None = None, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Start a child and learn what the camera is. Claims nothing: that is done by ``configure``.

        ``MissingDependency`` without libcamera's bindings, ``Gone`` without such a camera. ``environment`` is added
        to the child's.
        """
        source = cls(camera_id, limits or Limits(), environment)
        try:
            await source._running()
        except BaseException:
            await source.close()
            raise
        return source

    @property
    def identity(self) -> Identity:
        """Model and id as libcamera has them; its ids stay the same over reboots."""
        return self._identity

    @property
    def modes(self) -> Sequence[Mode]:
        """NV12 first."""
        return self._modes

    @property
    def controls(self) -> Sequence[ControlInfo]:
        """What the camera offers, in V4L2's terms."""
        return tuple(self._controls.values())

    @property
    def child_pid(self) -> int | None:
        """The present child's process id, None if there is none just now."""
        return self._child.pid if self._child is not None and self._child.alive else None

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        """Choose a mode. After the child's end this starts a new one, as often as ``Limits`` allow. ``OSError`` EBUSY
        where another program uses the camera."""
        async with self._busy:
            if self._delivery is not None and self._delivery.streaming:
                raise WrongState("the camera streams", hint="stop it first")
            child, delivery = await self._running()
            answer = await child.ask(Kind.CONFIGURE, _mode_body(want, test_only), self._limits.configure_s)
            try:
                bodies = [body for body in answer.bodies(Kind.MODE) if isinstance(body, ModeBody)]
                if len(bodies) != 1:
                    raise BadModule("child_answer", "the libcamera child did not answer CONFIGURE with a mode")
                mode = mode_of(bodies[0])
                if not test_only:
                    buffers = answer.buffers()
                    answer.descriptors.clear()
                    delivery.adopt(mode, bodies[0].epoch, buffers)
            except BadModule as error:
                child.end(error)
                raise
            finally:
                answer.discard()
            return mode

    async def start(self, sink: FrameSink, generation: int) -> None:
        """Begin to deliver; returns when libcamera has started."""
        async with self._busy:
            child, delivery = self._child, self._delivery
            if self._closed or (delivery is not None and delivery.streaming):
                raise WrongState("the source is closed or streams already")
            if child is None or delivery is None or delivery.mode is None or not child.alive:
                raise WrongState("the camera is not configured", hint="configure it; its process may have ended")
            delivery.begin(sink, generation)
            try:
                await child.ask(Kind.START, None, self._limits.start_s)
            except asyncio.CancelledError:
                # Whether it streams cannot be known now.
                delivery.detach()
                self._gate.forgive()
                child.end(Interrupted("a start was called off"))
                raise
            except BaseException:
                delivery.detach()
                raise

    async def stop(self) -> None:
        """End delivery. A child that does not stop in time is killed, which ends delivery just as well.

        Frames that the sink has got stay whole until it releases them: a later start leaves their buffers out.
        """
        async with self._busy:
            await self._stop()

    async def get(self) -> Mapping[int, int]:
        """Present values; those that the automatics move are as of the last frame."""
        if self._closed:
            raise WrongState("the source is closed")
        return dict(self._values)

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """Write controls; they apply from one of the next frames on, and again after a new start. A camera that
        rests does so again afterwards."""
        async with self._busy:
            for cid in values:
                info = self._controls.get(cid)
                if info is None or info.flags & ControlFlag.READ_ONLY:
                    raise Refused("INVALID", f"the camera has no control {cid:#x} that can be written")
            rests = self._child is None
            child, _ = await self._running()
            try:
                return await self._write(child, values)
            finally:
                if rests:
                    await self._rest()

    async def rest(self) -> None:
        """End the child until the camera is configured again, and let go of its buffers; what was written is written
        again then."""
        async with self._busy:
            await self._rest()

    async def _rest(self) -> None:
        child, delivery = self._child, self._delivery
        if delivery is None or delivery.streaming or child is None:
            return
        self._child = None
        self._gate.forgive()
        try:
            await _end(child, Gone("the camera rests"), self._limits)
        finally:
            delivery.forget()

    async def close(self) -> None:
        """End the child, and wait for that as long as a stop may take."""
        async with self._busy:
            if self._closed:
                return
            try:
                await self._stop()
            finally:
                self._closed = True
                child, self._child = self._child, None
                if self._delivery is not None:
                    self._delivery.forget()
                if child is not None:
                    await _end(child, Gone("the source was closed"), self._limits)

    async def _stop(self) -> None:
        child, delivery = self._child, self._delivery
        if delivery is None:
            return
        if delivery.detach() and child is not None and child.alive:
            try:
                await child.ask(Kind.STOP, None, self._limits.stop_s)
            except (Gone, Deadline, BadModule) as error:
                log.warning("the libcamera process was lost while it stopped: %s", error)
            except (Refused, OSError) as error:
                # Whether it still writes into its buffers cannot be known now.
                child.end(Interrupted(f"libcamera did not stop: {error}"))

    async def _running(self) -> tuple[ChildProcess, Delivery]:
        """The child, started anew if there is none."""
        if self._closed:
            raise WrongState("the source is closed")
        if self._child is not None and self._delivery is not None and self._child.alive:
            return self._child, self._delivery
        wait_s = self._gate.wait_s(time.monotonic())
        if wait_s > 0:
            raise Interrupted(
                f"the libcamera process ended {self._limits.restarts} times; "
                f"it may be started again in {wait_s:.0f} s",
                hint="cam --list; journalctl -u maglensd",
            )
        if self._delivery is not None:
            self._delivery.forget()
        self._gate.started(time.monotonic())
        self.counters["children"] += 1
        delivery = Delivery(self._limits, self.counters, self._values)
        child = ChildProcess(delivery, self._environment)
        delivery.attach(child)
        self._child, self._delivery = child, delivery
        try:
            self._learn(await child.ask(Kind.OPEN, self._camera_id, self._limits.open_s))
            await self._write(child, self._written)
        except asyncio.CancelledError:
            # What was written before may be missing in it, and nobody could tell later.
            self._gate.forgive()
            child.end(Interrupted("the opening of the camera was called off"))
            raise
        except (MaglensError, OSError) as error:  # one without its camera is of no use
            child.end(error if isinstance(error, MaglensError) else Interrupted(str(error)))
            raise
        return child, delivery

    async def _write(self, child: ChildProcess, values: Mapping[int, int]) -> dict[int, int]:
        now: dict[int, int] = {}
        for cid, value in values.items():
            answer = await child.ask(Kind.SET, ValueBody(id=cid, value=value), self._limits.set_s)
            for body in answer.bodies(Kind.VALUE):
                if isinstance(body, ValueBody) and body.id in self._controls:
                    now[body.id] = self._controls[body.id].clamp(body.value)
        self._values.update(now)
        kept = {c: v for c, v in now.items() if self._controls[c].type != ControlType.BUTTON}
        self._written = {**self._written, **kept}
        return now

    def _learn(self, answer: Answer) -> None:
        """Take over what the child says of its camera; nonsense is ``BadModule``."""
        modes = [mode_of(body) for body in answer.bodies(Kind.MODE) if isinstance(body, ModeBody)]
        if not 0 < len(modes) <= MAX_MODES:
            raise BadModule("child_answer", f"the libcamera child tells of {len(modes)} modes")
        controls: dict[int, ControlInfo] = {}
        for body in answer.bodies(Kind.CONTROL):
            info = control_map.info_of(body) if isinstance(body, ControlBody) else None
            if info is None or info.id in controls:
                raise BadModule("child_answer", "the libcamera child tells of a control that makes no sense")
            controls[info.id] = info
        model = next(iter(texts(answer.bodies(Kind.TEXT))), self._camera_id)
        self._identity = Identity("libcamera", model, self._camera_id)
        self._modes, self._controls = tuple(modes), controls
        self._values.clear()
        self._values.update({cid: info.default for cid, info in controls.items()})
        self._written = {cid: value for cid, value in self._written.items() if cid in controls}


@dataclass(frozen=True, slots=True)
class Seen:
    """A camera that libcamera sees: its id, and its video nodes as (major, minor) as far as libcamera tells."""

    id: str
    devices: frozenset[tuple[int, int]] = frozenset()


async def camera_ids(
    *, limits: Limits | None = None, environment: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Ids of the cameras that libcamera sees now."""
    return tuple(camera.id for camera in await cameras(limits=limits, environment=environment))


async def cameras(*, limits: Limits | None = None, environment: Mapping[str, str] | None = None) -> tuple[Seen, ...]:
    """The cameras that libcamera sees now. Its bindings tell nothing of hot-plug: ask again on a uevent.

    ``MissingDependency`` without the bindings."""
    allowed = limits or Limits()
    child = ChildProcess(Delivery(allowed, Counter(), {}), environment)
    try:
        answer = await child.ask(Kind.LIST, None, allowed.open_s)
    finally:
        await _end(child, Gone("the list was made"), allowed)
    seen: list[Seen] = []
    for packet in answer.packets:
        if packet.kind == Kind.CAMERA and isinstance(packet.body, str):
            seen.append(Seen(packet.body))
        elif packet.kind == Kind.DEVICE and isinstance(packet.body, DeviceBody) and seen:
            number = (packet.body.major, packet.body.minor)
            seen[-1] = Seen(seen[-1].id, seen[-1].devices | {number})
    return tuple(seen)


def mode_of(body: ModeBody) -> Mode:
    """A mode that the child tells of; what makes no sense is ``BadModule``."""
    if not body.denominator or not 0 < body.numerator <= MAX_INTERVAL_S * body.denominator:
        raise BadModule("child_mode", f"the libcamera child tells of {body.numerator}/{body.denominator} s a frame")
    interval = Fraction(body.numerator, body.denominator)
    sized = 0 < body.width <= MAX_WIDTH and 0 < body.height <= MAX_HEIGHT
    if not sized or interval * MAX_RATE_FPS < 1 or body.fourcc not in (NV12, YUYV, MJPG):
        raise BadModule("child_mode", f"the libcamera child tells of an impossible mode {body}")
    least = min_stride(body.fourcc, body.width)
    wanted = frame_bytes(body.fourcc, body.stride, body.height)
    if body.stride < least or not 0 < body.nbytes <= MAX_FRAME_BYTES or (wanted and body.nbytes != wanted):
        raise BadModule("child_mode", f"the libcamera child tells of {body.nbytes} bytes, stride {body.stride}")
    return Mode(body.fourcc, body.width, body.height, body.stride, body.nbytes, interval, ycbcr=_ycbcr_of(body))


def _ycbcr_of(body: ModeBody) -> YCbCr | None:
    if not body.matrix:
        return None
    try:
        return unless_told(Matrix(body.matrix), bool(body.full))
    except ValueError as error:
        raise BadModule("child_mode", f"the libcamera child tells of a matrix {body.matrix}") from error


async def _end(child: ChildProcess, why: Gone, limits: Limits) -> None:
    child.end(why)
    try:
        async with asyncio.timeout(limits.stop_s):
            await child.ended()
    except TimeoutError:
        log.warning("libcamera process %s is stuck inside the kernel; it is reaped when it comes out", child.pid)


def _mode_body(mode: Mode, test_only: bool) -> ModeBody:
    return ModeBody(
        fourcc=mode.fourcc,
        width=mode.width,
        height=mode.height,
        stride=mode.stride,
        nbytes=mode.nbytes,
        numerator=mode.interval.numerator,
        denominator=mode.interval.denominator,
        test_only=int(test_only),
    )
