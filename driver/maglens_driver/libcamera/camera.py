# SPDX-License-Identifier: GPL-2.0-or-later
"""Camera: one libcamera camera as the child process works it. Calls may block for ever: that is why it is a child."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from maglens_driver.control import Cid
from maglens_driver.libcamera import binding, control_map
from maglens_driver.libcamera.control_map import Native
from maglens_driver.libcamera.packet import (
    MAX_BUFFERS,
    MAX_NODES,
    MAX_PLANES,
    BufferBody,
    ControlBody,
    FrameBody,
    ModeBody,
    Refusal,
    ValueBody,
)
from maglens_driver.link.limits import MAX_FRAME_BYTES, MAX_HEIGHT, MAX_MODES, MAX_WIDTH
from maglens_driver.mode import MJPG, NV12, YUYV, fourcc_text, frame_bytes
from maglens_driver.ycbcr import TOLD, Matrix, YCbCr, unless_told

# In the order in which we like them: NV12 is what apps get, and the others cost a conversion.
FORMATS: Final = (NV12, YUYV, MJPG)
RATES: Final = (30, 60, 15)
"""Frames per second that are offered where the camera's limits allow them, the preferred one first."""

NOMINAL_RATE: Final = 30
"""What is said of a camera that tells no limits (libcamera's UVC pipeline tells none)."""

WANTED_BUFFERS: Final = 6
"""One with the app's pipeline, one waiting, one kept for repeats, and still three to fill."""

OLDEST_NS: Final = 2_000_000_000
"""A frame that comes is younger than this."""

RATE_SLACK: Final = Fraction(11, 10)
"""How much faster than its rate a camera that keeps no pace (libcamera's virtual ones) may run."""

_MATRICES: Final = {"Rec601": Matrix.BT601, "Rec709": Matrix.BT709, "Rec2020": Matrix.BT2020}


class CameraRefusal(Exception):
    """The camera said no. ``code`` says in what way."""

    def __init__(self, code: Refusal, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class BufferSet:
    """The buffers of one configuration, and descriptors that belong to libcamera."""

    bodies: tuple[BufferBody, ...]
    descriptors: tuple[tuple[int, ...], ...]


class RatePacer:
    """Says when the next request may go, so that a camera without a clock of its own keeps to its rate.

    A camera that keeps time is never held back: it asks for one request per interval, and one more than the time
    passed allows is always free for each of its buffers.
    """

    def __init__(self, interval_ns: int, depth: int, now_ns: int) -> None:
        self._each_ns = int(interval_ns / RATE_SLACK)
        self._depth = depth
        self._start_ns = now_ns
        self._queued = 0

    def wait_ns(self, now_ns: int) -> int:
        """Nanoseconds until the next request may go; 0 for now."""
        due = self._start_ns + (self._queued - self._depth + 1) * self._each_ns
        return max(0, due - now_ns)

    def took(self, now_ns: int) -> None:
        """A request went. Time that was not used is not saved up for a burst."""
        self._queued += 1
        behind = now_ns - (self._start_ns + self._queued * self._each_ns)
        if behind > 0:
            self._start_ns += behind


def is_recent(stamp_ns: int) -> bool:
    """Whether a frame's metadata were filled in at all, by its time on either clock that libcamera's pipelines use.

    0.4's virtual pipeline leaves the structure as it found it in memory, which may hold anything.
    """
    clocks = (time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC)
    return any(0 <= time.clock_gettime_ns(clock) - stamp_ns < OLDEST_NS for clock in clocks) and stamp_ns > 0


def video_nodes(camera: binding.Camera) -> tuple[int, ...]:
    """Device numbers of a camera's video nodes, as far as libcamera tells; at most ``MAX_NODES``."""
    for control, value in camera.properties.items():
        if control.name == "SystemDevices" and isinstance(value, Sequence):
            return tuple(number for number in value if isinstance(number, int))[:MAX_NODES]
    return ()


class LibCamera:
    """One camera. Not thread-safe: the child has but one thread."""

    def __init__(self, library: binding.Binding, manager: binding.CameraManager, camera: binding.Camera) -> None:
        self._library = library
        self._manager = manager
        self._camera = camera
        self._ids = {control.name: control for control in camera.controls}
        native = {control.name: (info.min, info.max, info.default) for control, info in camera.controls.items()}
        self._offered = control_map.offered(native)
        self.values = {cid: body.default for cid, (_, body) in self._offered.items()}
        self._limits = _frame_durations(native.get("FrameDurationLimits"))
        self._acquired = False
        self._configuration: binding.CameraConfiguration | None = None
        self._allocator: binding.FrameBufferAllocator | None = None
        self._requests: list[binding.Request] = []
        self._buffers: dict[int, binding.FrameBuffer] = {}
        self._ready: list[int] = []  # buffers to be filled next
        self._away: set[int] = set()  # buffers that the parent has
        self._pending: dict[str, Native] = {}
        self._sticky: dict[str, Native] = {}
        self._pacer: RatePacer | None = None
        self._mode: ModeBody | None = None
        self._metadata_fails = False
        self.epoch = 0
        self.streaming = False

    @property
    def model(self) -> str:
        """Its model name, else its id."""
        for control, value in self._camera.properties.items():
            if control.name == "Model" and isinstance(value, str) and value:
                return value
        return self._camera.id

    @property
    def controls(self) -> tuple[ControlBody, ...]:
        """Ranges of what it offers."""
        return tuple(body for _, body in self._offered.values())

    def formats(self) -> list[str]:
        """The formats that it offers, whether maglens takes them or not."""
        return [fourcc_text(_v4l2_code(each)) for each in self._generate().at(0).formats.pixel_formats]

    def modes(self) -> list[ModeBody]:
        """What it offers, best first: by format, then its own preferred size, then from large to small."""
        configuration = self._generate()
        stream = configuration.at(0)
        preferred = (stream.size.width, stream.size.height)
        by_code = {_v4l2_code(f): f for f in stream.formats.pixel_formats}
        result: list[ModeBody] = []
        for code in FORMATS:
            if code not in by_code:
                continue
            sizes = {(s.width, s.height) for s in stream.formats.sizes(by_code[code])} | {preferred}
            for width, height in sorted(sizes, key=lambda s: (s != preferred, -s[0] * s[1])):
                if not _size_allowed(width, height):
                    continue
                body = self._validated(self._generate(), code, width, height)
                if body is None or (body.fourcc, body.width, body.height) != (code, width, height):
                    continue
                result += [_at_interval(body, interval) for interval in self._intervals()]
                if len(result) >= MAX_MODES:
                    return result[:MAX_MODES]
        return result

    def configure(self, want: ModeBody) -> tuple[ModeBody, BufferSet | None]:
        """Set the nearest mode to ``want`` and allocate its buffers, or only tell it if ``want.test_only``."""
        if self.streaming:
            raise CameraRefusal(Refusal.WRONG_STATE, "the camera is streaming")
        if not _size_allowed(want.width, want.height) or want.fourcc not in FORMATS:
            raise CameraRefusal(Refusal.INVALID, "no such mode")
        configuration = self._generate()
        body = self._validated(configuration, want.fourcc, want.width, want.height)
        if body is None:
            raise CameraRefusal(Refusal.INVALID, "libcamera found no configuration near that mode")
        body = _at_interval(body, self._nearest_interval(want))
        if want.test_only:
            return body, None
        self._forget_buffers()
        if not self._acquired:
            self._camera.acquire()
            self._acquired = True
        self._camera.configure(configuration)
        stream = configuration.at(0).stream
        allocator = self._library.FrameBufferAllocator(self._camera)
        allocator.allocate(stream)
        buffers = list(allocator.buffers(stream))
        if not 0 < len(buffers) <= MAX_BUFFERS:
            raise CameraRefusal(Refusal.FAILED, f"libcamera made {len(buffers)} buffers")
        self.epoch += 1
        self._configuration, self._allocator = configuration, allocator
        self._buffers = dict(enumerate(buffers))
        for index, buffer in self._buffers.items():
            request = self._camera.create_request(index)
            request.add_buffer(stream, buffer)
            self._requests.append(request)
        self._mode = replace(body, epoch=self.epoch)
        return self._mode, _buffer_set(self.epoch, buffers)

    def start(self) -> None:
        """Begin to fill buffers: all but those that the parent still has of before."""
        if self._mode is None or self.streaming:
            raise CameraRefusal(Refusal.WRONG_STATE, "the camera is not configured, or streams already")
        interval = Fraction(self._mode.numerator, self._mode.denominator)
        initial: dict[binding.ControlId, object] = {self._ids[n]: v for n, v in self._sticky.items()}
        if self._limits is not None:
            micros = int(interval * 1_000_000)
            initial[self._ids["FrameDurationLimits"]] = (micros, micros)
        self._pending.clear()
        self._camera.start(initial)
        self.streaming = True
        self._pacer = None
        if self._limits is not None:
            self._pacer = RatePacer(round(interval * 10**9), len(self._requests), time.monotonic_ns())
        self._ready = [index for index in range(len(self._requests)) if index not in self._away]
        try:
            self.queue_ready()
        except RuntimeError:
            self.stop()  # a start that was refused leaves nothing streaming
            raise

    def stop(self) -> None:
        """End; afterwards no buffer is touched."""
        if not self.streaming:
            return
        self.streaming = False
        self._camera.stop()
        # Each queued request holds a reference to itself until it is fetched.
        self._manager.get_ready_requests()
        self._ready.clear()

    def give_back(self, epoch: int, index: int) -> None:
        """The parent is done with a buffer. Ignored when it is of an earlier set."""
        if epoch != self.epoch or index not in self._away:
            return
        self._away.remove(index)
        if self.streaming:
            self._ready.append(index)

    def queue_ready(self) -> int | None:
        """Queue what is ready, at the pace allowed; nanoseconds until more may go, None if nothing waits."""
        while self._ready:
            now = time.monotonic_ns()
            wait = self._pacer.wait_ns(now) if self._pacer else 0
            if wait:
                return wait
            request = self._requests[self._ready.pop(0)]
            request.reuse()
            for name, value in self._pending.items():
                request.set_control(self._ids[name], value)
            self._pending.clear()
            self._camera.queue_request(request)
            if self._pacer:
                self._pacer.took(now)
        return None

    def filled(self, spoiled: Callable[[int], None]) -> list[FrameBody]:
        """The frames that are ready. A spoiled one is told by its number, and its buffer used again; so is one whose
        request libcamera has cancelled. Of a camera that has gone it cancels all, and then takes no other.
        """
        result = []
        for request in self._manager.get_ready_requests():
            if not self.streaming:
                continue
            index = request.cookie
            if request.status != self._library.Request.Status.Complete:
                spoiled(request.sequence)
                self._ready.append(index)
                continue
            metadata = self._buffers[index].metadata
            told = is_recent(metadata.timestamp)
            sequence = metadata.sequence if told else request.sequence
            if told and metadata.status != self._library.FrameMetadata.Status.Success:
                spoiled(sequence)
                self._ready.append(index)
                continue
            self._away.add(index)
            result.append(self._frame(request, index, metadata, sequence))
        return result

    def set(self, cid: int, value: int) -> list[ValueBody]:
        """Write a control, at the next request; what now holds, as clamped."""
        found = self._offered.get(cid)
        if found is None or cid == Cid.AUTO_FOCUS_STATUS:
            raise CameraRefusal(Refusal.INVALID, f"no control {cid:#x} that can be written")
        row, body = found
        value = min(max(value, body.minimum), body.maximum)
        native = control_map.to_native(row, value, self._ids.__contains__)
        if cid == Cid.FOCUS_ABSOLUTE and self.values.get(Cid.FOCUS_AUTO) == 0 and "AfMode" in self._ids:
            # After a one-shot scan AfMode is Auto, where libcamera ignores LensPosition.
            native = {"AfMode": control_map.AF_MANUAL, **native}
        self._pending.update(native)
        self._sticky.update({name: v for name, v in native.items() if name != "AfTrigger"})
        switched = control_map.switched_too(self._offered, cid, native, self._ids.__contains__)
        written = {cid: value} | {other: now for other, now in switched.items() if now != self.values[other]}
        self.values.update(written)
        changed = [ValueBody(id=each, value=now) for each, now in written.items()]
        if cid == Cid.AUTO_FOCUS_START and self.values.get(Cid.FOCUS_AUTO):
            self.values[Cid.FOCUS_AUTO] = 0
            changed.append(ValueBody(id=Cid.FOCUS_AUTO, value=0))
        return changed

    def close(self) -> None:
        """Give the camera back."""
        self.stop()
        self._forget_buffers()
        if self._acquired:
            self._camera.release()
            self._acquired = False

    def _generate(self) -> binding.CameraConfiguration:
        return self._camera.generate_configuration([self._library.StreamRole.Viewfinder])

    def _validated(
        self, configuration: binding.CameraConfiguration, code: int, width: int, height: int
    ) -> ModeBody | None:
        stream = configuration.at(0)
        for pixel_format in stream.formats.pixel_formats:
            if _v4l2_code(pixel_format) == code:
                stream.pixel_format = pixel_format
        if code != MJPG:
            # What apps are told, but for the primaries: in sRGB's, Raspberry Pi's pipeline knows full range only.
            stream.color_space = self._library.ColorSpace.Smpte170m()
        stream.size = self._library.Size(width, height)
        stream.buffer_count = max(stream.buffer_count, WANTED_BUFFERS)
        if configuration.validate() == self._library.CameraConfiguration.Status.Invalid:
            return None
        stream = configuration.at(0)
        real = _v4l2_code(stream.pixel_format)
        stride = 0 if real == MJPG else stream.stride
        nbytes = frame_bytes(real, stride, stream.size.height) or stream.frame_size
        if real not in FORMATS or not 0 < nbytes <= MAX_FRAME_BYTES:
            return None
        made = None if real == MJPG else _made_by(stream.color_space)
        return ModeBody(
            fourcc=real,
            width=stream.size.width,
            height=stream.size.height,
            stride=stride,
            nbytes=nbytes,
            numerator=1,
            denominator=NOMINAL_RATE,
            matrix=int(made.matrix) if made else 0,
            full=int(made.full) if made else 0,
        )

    def _intervals(self) -> list[Fraction]:
        if self._limits is None:
            return [Fraction(1, NOMINAL_RATE)]
        low, high = self._limits
        fitting = [Fraction(1, rate) for rate in RATES if low <= 1_000_000 // rate <= high]
        return fitting or [Fraction(low, 1_000_000)]

    def _nearest_interval(self, want: ModeBody) -> Fraction:
        if self._limits is None or not want.numerator or not want.denominator:
            return self._intervals()[0]
        wanted = Fraction(want.numerator, want.denominator)
        low, high = self._limits
        # Compared in the limits' own whole microseconds, cut off as pipelines do: 1/30 s is not to become 33333.
        micros = int(wanted * 1_000_000)
        return wanted if low <= micros <= high else Fraction(min(max(micros, low), high), 1_000_000)

    def _frame(
        self, request: binding.Request, index: int, metadata: binding.FrameMetadata, sequence: int
    ) -> FrameBody:
        assert self._mode is not None
        about = self._about(request)
        stamp = _number(about.get("SensorTimestamp")) or metadata.timestamp
        nbytes = self._mode.nbytes
        if self._mode.fourcc == MJPG:
            nbytes = min(nbytes, sum(plane.bytes_used for plane in metadata.planes))
        lens = about.get("LensPosition")
        state = about.get("AfState")
        return FrameBody(
            epoch=self.epoch,
            index=index,
            nbytes=nbytes,
            sequence=sequence,
            timestamp_ns=int(stamp),
            exposure_us=_u32(_number(about.get("ExposureTime"))),
            gain_milli=_u32(_number(about.get("AnalogueGain")) * 1000),
            focus_cdpt=0 if lens is None else _u32(_number(lens) * 100 + 1),
            temperature_k=_u32(_number(about.get("ColourTemperature"))),
            focus_state=0 if state is None else _u32(_number(state) + 1),
            focal_um=0,
        )

    def _about(self, request: binding.Request) -> Mapping[str, object]:
        if self._metadata_fails:
            return {}
        try:
            return {control.name: value for control, value in request.metadata.items()}
        except (RuntimeError, IndexError) as error:
            # The binding converts all or nothing; one kind of value that it does not know spoils every frame's.
            self._metadata_fails = True
            print(f"libcamera's metadata cannot be read: {error}", file=sys.stderr, flush=True)
            return {}

    def _forget_buffers(self) -> None:
        self._mode = None
        self._requests.clear()
        self._buffers.clear()
        self._away.clear()
        self._configuration = None
        self._allocator = None


def _v4l2_code(pixel_format: binding.PixelFormat) -> int:
    """V4L2's code; DRM's is the same for NV12, YUYV and MJPG, the only ones we take."""
    return pixel_format.fourcc


def _made_by(space: binding.ColorSpace | None) -> YCbCr | None:
    """``Mode.ycbcr``. What libcamera does not know, or has a name for that is none here, counts as asked for."""
    if space is None:
        return None
    return unless_told(_MATRICES.get(space.ycbcrEncoding.name, TOLD.matrix), space.range.name == "Full")


def _size_allowed(width: int, height: int) -> bool:
    return 0 < width <= MAX_WIDTH and 0 < height <= MAX_HEIGHT and width % 2 == 0 and height % 2 == 0


def _frame_durations(found: tuple[object, object, object] | None) -> tuple[int, int] | None:
    """Least and greatest frame duration in microseconds, if the camera tells them. Some pipelines tell pairs."""
    if found is None:
        return None
    low, high = (value[0] if isinstance(value, tuple) and value else value for value in found[:2])
    if not isinstance(low, int) or not isinstance(high, int) or not 0 < low <= high:
        return None
    return low, high


def _at_interval(body: ModeBody, interval: Fraction) -> ModeBody:
    return replace(body, numerator=interval.numerator, denominator=interval.denominator)


def _buffer_set(epoch: int, buffers: list[binding.FrameBuffer]) -> BufferSet:
    bodies, descriptors = [], []
    for index, buffer in enumerate(buffers):
        planes = [plane for plane in buffer.planes if plane.length]  # 0.4 lists empty ones too
        if not 0 < len(planes) <= MAX_PLANES:
            raise CameraRefusal(Refusal.FAILED, f"libcamera made a buffer of {len(planes)} planes")
        spans = [(p.offset, p.length) for p in planes] + [(0, 0)] * (MAX_PLANES - len(planes))
        (o0, l0), (o1, l1), (o2, l2) = spans
        bodies.append(
            BufferBody(
                epoch=epoch,
                index=index,
                planes=len(planes),
                offset0=o0,
                length0=l0,
                offset1=o1,
                length1=l1,
                offset2=o2,
                length2=l2,
            )
        )
        descriptors.append(tuple(p.fd for p in planes))
    return BufferSet(tuple(bodies), tuple(descriptors))


def _number(value: object) -> int | float:
    return value if isinstance(value, int | float) else 0


def _u32(value: float) -> int:
    return round(min(max(value, 0), 0xFFFFFFFF))
