# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for libcamera's Python module: one camera that obeys its controls, and misbehaves on request.

The tests put this folder before everything else on the child's import path. ``FAKE_LIBCAMERA`` holds JSON:
``generation`` "0.4" or "0.7" (which controls there are), ``planes`` 1 or 2, ``apart`` (planes in pieces of memory
of their own), ``unsealed`` (memory that can shrink), ``stop`` "block", ``die_after``, ``cancel_after``,
``gone_after`` and ``hang_after`` so many frames, ``blurred`` (every third frame is spoiled, or "always"),
``unreadable`` (metadata cannot be converted), ``unpaced``, ``untold`` (a buffer's metadata hold what was in
memory before), ``rgb`` (formats of a software ISP), ``colours`` a pair such as ["Rec709", "Full"] that it cannot be
talked out of, ``cable`` a file without which the camera is unplugged. ``sick``, ``busy`` and ``starved`` are files as
well: while it is there, the camera cannot be described, is used by another program, or takes no request.
"""

from __future__ import annotations

import enum
import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast

if TYPE_CHECKING:
    from maglens_driver.libcamera import binding

NV12_CODE = 0x3231564E
MJPG_CODE = 0x47504A4D
BEHAVIOUR = json.loads(os.environ.get("FAKE_LIBCAMERA", "{}"))
CAMERA_ID = "/base/fake@1"


def troubled(by: str) -> bool:
    return by in BEHAVIOUR and os.path.exists(BEHAVIOUR[by])


def plugged() -> bool:
    return "cable" not in BEHAVIOUR or os.path.exists(BEHAVIOUR["cable"])


class StreamRole(enum.Enum):
    Raw = 0
    Viewfinder = 3


@dataclass
class Size:
    width: int
    height: int


@dataclass(frozen=True)
class PixelFormat:
    fourcc: int


@dataclass(frozen=True)
class ControlId:
    name: str


@dataclass(frozen=True)
class ControlInfo:
    min: object
    max: object
    default: object
    values: Sequence[object] = ()


class StreamFormats:
    pixel_formats: tuple[PixelFormat, ...] = (PixelFormat(MJPG_CODE), PixelFormat(NV12_CODE), PixelFormat(0x30313250))
    if BEHAVIOUR.get("rgb"):
        pixel_formats = (PixelFormat(0x34325258), PixelFormat(0x34324752))

    def sizes(self, _pixel_format: binding.PixelFormat) -> Sequence[Size]:
        return [Size(320, 240), Size(640, 480), Size(641, 481)]


class Stream:
    pass


class YcbcrEncoding(enum.Enum):
    Null = 0
    Rec601 = 1
    Rec709 = 2
    Rec2020 = 3


class Range(enum.Enum):
    Full = 0
    Limited = 1


@dataclass(frozen=True)
class ColorSpace:
    ycbcrEncoding: YcbcrEncoding
    range: Range

    @staticmethod
    def Smpte170m() -> binding.ColorSpace:
        return ColorSpace(YcbcrEncoding.Rec601, Range.Limited)


@dataclass
class StreamConfiguration:
    size: binding.Size
    pixel_format: binding.PixelFormat
    stream: binding.Stream
    stride: int = 0
    frame_size: int = 0
    buffer_count: int = 4
    color_space: binding.ColorSpace | None = ColorSpace(YcbcrEncoding.Rec601, Range.Full)  # a viewfinder's, of most
    formats: binding.StreamFormats = field(default_factory=StreamFormats)


class ConfigurationStatus(enum.Enum):
    Valid = 0
    Adjusted = 1
    Invalid = 2


class CameraConfiguration:
    Status: ClassVar = ConfigurationStatus

    def __init__(self, stream: Stream) -> None:
        self._stream = StreamConfiguration(Size(640, 480), PixelFormat(NV12_CODE), stream)

    def at(self, _index: int) -> binding.StreamConfiguration:
        return self._stream

    def validate(self) -> ConfigurationStatus:
        stream = self._stream
        known = [(s.width, s.height) for s in stream.formats.sizes(stream.pixel_format)]
        status = ConfigurationStatus.Valid
        if (stream.size.width, stream.size.height) not in known:
            stream.size, status = Size(640, 480), ConfigurationStatus.Adjusted
        stream.stride = stream.size.width + 64  # padded rows, as ISPs have them
        stream.frame_size = stream.stride * stream.size.height * 3 // 2
        stream.buffer_count = min(stream.buffer_count, 5)
        if "colours" in BEHAVIOUR:
            encoding, extent = BEHAVIOUR["colours"]
            stream.color_space = ColorSpace(YcbcrEncoding[encoding], Range[extent])
            status = ConfigurationStatus.Adjusted
        return status


@dataclass
class Plane:
    fd: int
    offset: int
    length: int


@dataclass
class PlaneMetadata:
    bytes_used: int


class FrameStatus(enum.Enum):
    Success = 0
    Error = 1
    Cancelled = 2


class FrameMetadata:
    Status: ClassVar = FrameStatus

    def __init__(self, planes: int) -> None:
        self.status = FrameStatus.Success
        self.sequence = 0
        self.timestamp = 0
        self.planes = [PlaneMetadata(0) for _ in range(planes)]


class FrameBuffer:
    def __init__(self, luma: int, total: int, one: bool) -> None:
        flags = os.MFD_CLOEXEC | (0 if BEHAVIOUR.get("unsealed") else os.MFD_ALLOW_SEALING)
        self._files: list[int] = []
        if one or BEHAVIOUR.get("planes", 2) == 1:
            self.planes = [Plane(self._memory(total, flags), 0, total)]
        elif BEHAVIOUR.get("apart"):
            self.planes = [
                Plane(self._memory(luma, flags), 0, luma),
                Plane(self._memory(total - luma + 4096, flags), 4096, total - luma),
            ]
        else:
            whole = self._memory(total, flags)
            # libcamera 0.4's virtual pipeline lists an empty third one.
            self.planes = [Plane(whole, 0, luma), Plane(whole, luma, total - luma), Plane(whole, total, 0)]
        self.metadata = FrameMetadata(len(self.planes))

    def _memory(self, size: int, flags: int) -> int:
        memory = os.memfd_create("fake-frame", flags)
        os.ftruncate(memory, size)
        if not BEHAVIOUR.get("unsealed"):
            fcntl.fcntl(memory, 1033, 2 | 4)  # F_ADD_SEALS: shrink, grow
        self._files.append(memory)
        return memory

    def fill(self, luma: int, chroma: int) -> None:
        for number, plane in enumerate(self.planes):
            value = chroma if number else luma
            os.pwrite(plane.fd, bytes([value]) * plane.length, plane.offset)
            self.metadata.planes[number].bytes_used = plane.length

    def __del__(self) -> None:
        for memory in self._files:
            os.close(memory)


class FrameBufferAllocator:
    def __init__(self, camera: binding.Camera) -> None:
        self._camera = cast(Camera, camera)
        self._buffers: list[FrameBuffer] = []

    def allocate(self, _stream: binding.Stream) -> int:
        stream = self._camera.configuration.at(0)
        luma = stream.stride * stream.size.height
        one = stream.pixel_format.fourcc == MJPG_CODE
        self._buffers = [FrameBuffer(luma, stream.frame_size, one) for _ in range(stream.buffer_count)]
        return len(self._buffers)

    def buffers(self, _stream: binding.Stream) -> Sequence[FrameBuffer]:
        return self._buffers


class RequestStatus(enum.Enum):
    Pending = 0
    Complete = 1
    Cancelled = 2


class Request:
    Status: ClassVar = RequestStatus

    def __init__(self, cookie: int) -> None:
        self.cookie = cookie
        self.sequence = 0
        self.status = RequestStatus.Pending
        self.buffer: FrameBuffer | None = None
        self.controls: dict[str, object] = {}
        self.results: dict[binding.ControlId, object] = {}

    @property
    def metadata(self) -> Mapping[binding.ControlId, object]:
        if BEHAVIOUR.get("unreadable"):
            raise RuntimeError("Unsupported ControlValue type")
        return self.results

    def add_buffer(self, _stream: binding.Stream, buffer: binding.FrameBuffer) -> None:
        self.buffer = cast(FrameBuffer, buffer)

    def set_control(self, control: binding.ControlId, value: object) -> None:
        self.controls[control.name] = value

    def reuse(self) -> None:
        self.status = RequestStatus.Pending
        self.controls.clear()
        self.results = {}


_COMMON = {
    "Brightness": (-1.0, 1.0, 0.0),
    "Contrast": (0.0, 2.0, 1.0),
    "AnalogueGain": (1.0, 16.0, 1.0),
    "ExposureTime": (100, 66666, 10000),
    "AwbEnable": (False, True, True),
    "AeEnable": (False, True, True),
    "AfMode": (0, 2, 0),
    "AfTrigger": (0, 1, 0),
    "LensPosition": (0.0, 12.0, 1.0),
    "FrameDurationLimits": (16666, 66666, 33333),
    "ScalerCrop": ((0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 1, 1)),
}
_NEWER = {
    "ExposureTimeMode": (0, 1, 0),
    "AnalogueGainMode": (0, 1, 0),
    "ColourTemperature": (2800, 8000, 5000),
}


class Camera:
    def __init__(self, manager: CameraManager) -> None:
        self._manager = manager
        self.id = CAMERA_ID
        ranges = _COMMON | (_NEWER if BEHAVIOUR.get("generation") == "0.7" else {})
        self.controls: Mapping[binding.ControlId, binding.ControlInfo] = {
            ControlId(name): ControlInfo(*values) for name, values in ranges.items()
        }
        self.properties: Mapping[binding.ControlId, object] = {
            ControlId("Model"): "fake sensor",
            ControlId("Rotation"): 180,
            ControlId("SystemDevices"): (os.makedev(81, 3),),
        }
        self._stream = Stream()
        self.configuration = CameraConfiguration(self._stream)
        self.state: dict[str, object] = {}
        self._acquired = False
        self._queue: list[Request] = []
        self._wake = threading.Condition()
        self._running = False
        self._thread: threading.Thread | None = None
        self._frames = 0
        self._gone = False

    def acquire(self) -> None:
        if self._acquired or troubled("busy"):
            raise RuntimeError("Failed to acquire camera: Device or resource busy")
        self._acquired = True

    def release(self) -> None:
        self._acquired = False

    def generate_configuration(self, roles: Sequence[object]) -> CameraConfiguration:
        assert list(roles) == [StreamRole.Viewfinder]
        if troubled("sick"):
            raise RuntimeError("Failed to generate configuration: Input/output error")
        return CameraConfiguration(self._stream)

    def configure(self, configuration: binding.CameraConfiguration) -> None:
        if not self._acquired or self._running:
            raise RuntimeError("Failed to configure camera: Permission denied")
        self.configuration = cast(CameraConfiguration, configuration)

    def create_request(self, cookie: int, /) -> Request:
        return Request(cookie)

    def start(self, controls: Mapping[binding.ControlId, object]) -> None:
        if not plugged():
            raise RuntimeError("Failed to start camera: No such device")
        if not self._acquired or self._running:
            raise RuntimeError("Failed to start camera: Permission denied")
        self.state.update({control.name: value for control, value in controls.items()})
        self._running, self._frames = True, 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if BEHAVIOUR.get("stop") == "block":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Event().wait()
        with self._wake:
            self._running = False
            self._wake.notify()
        assert self._thread is not None
        self._thread.join()
        for request in self._queue:
            self._complete(request, RequestStatus.Cancelled)
        self._queue.clear()

    def queue_request(self, request: binding.Request) -> None:
        if request.status != RequestStatus.Pending:
            raise RuntimeError("Failed to queue request: Invalid argument")
        if troubled("starved"):
            raise RuntimeError("Failed to queue request: Cannot allocate memory")
        with self._wake:
            if self._gone:
                raise RuntimeError("Failed to queue request: No such device")
            if not self._running:
                raise RuntimeError("Failed to queue request: Permission denied")
            self._queue.append(cast(Request, request))
            self._wake.notify()

    def _run(self) -> None:
        limits = self.state.get("FrameDurationLimits")
        interval_s = limits[0] / 1e6 if isinstance(limits, tuple) else 1 / 30
        due = time.monotonic()
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or not self._running)
                if not self._running:
                    return
                request = self._queue.pop(0)
                if not BEHAVIOUR.get("unpaced"):
                    due = max(due + interval_s, time.monotonic())
                    self._wake.wait_for(lambda: not self._running, due - time.monotonic())
            self._fill(request)

    def _fill(self, request: Request) -> None:
        assert request.buffer is not None
        self._frames += 1
        if self._frames == BEHAVIOUR.get("die_after"):
            os.kill(os.getpid(), signal.SIGSEGV)
        self._gone = self._frames >= BEHAVIOUR.get("gone_after", 1 << 60) or not plugged()
        if self._frames == BEHAVIOUR.get("cancel_after") or self._gone:
            self._complete(request, RequestStatus.Cancelled)
            return
        if self._frames >= BEHAVIOUR.get("hang_after", 1 << 60):
            threading.Event().wait()
        self.state.update(request.controls)
        metadata = request.buffer.metadata
        blurred = BEHAVIOUR.get("blurred") == "always" or (BEHAVIOUR.get("blurred") and self._frames % 3 == 0)
        metadata.status = FrameStatus.Error if blurred else FrameStatus.Success
        request.sequence = self._frames - 1
        now = time.monotonic_ns()
        if BEHAVIOUR.get("untold"):
            metadata.status, metadata.sequence, metadata.timestamp = FrameStatus.Error, 12345, 1000
        else:
            metadata.sequence, metadata.timestamp = self._frames - 1, now
        brightness = self.state.get("Brightness", 0.0)
        assert isinstance(brightness, float)
        request.buffer.fill(round(128 + 100 * brightness), 77)
        request.results = {
            ControlId("SensorTimestamp"): now,
            ControlId("ExposureTime"): self.state.get("ExposureTime", 12345),
            ControlId("AnalogueGain"): self.state.get("AnalogueGain", 2.5),
            ControlId("LensPosition"): self.state.get("LensPosition", 3.25),
            ControlId("AfState"): 2 if self.state.get("AfTrigger") == 0 else 0,
            ControlId("ColourTemperature"): 4200,
            ControlId("ColourGains"): (1.5, 1.25),
        }
        self._complete(request, RequestStatus.Complete)

    def _complete(self, request: Request, status: RequestStatus) -> None:
        request.status = status
        self._manager.complete(request)


class CameraManager:
    _only: ClassVar[CameraManager | None] = None

    def __init__(self) -> None:
        self.event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.cameras: Sequence[binding.Camera] = [Camera(self)] if plugged() else []
        self._ready: list[Request] = []
        self._lock = threading.Lock()

    @classmethod
    def singleton(cls) -> CameraManager:
        if cls._only is None:
            cls._only = cls()
        return cls._only

    def complete(self, request: Request) -> None:
        with self._lock:
            self._ready.append(request)
        os.eventfd_write(self.event_fd, 1)

    def get_ready_requests(self) -> Sequence[binding.Request]:
        try:
            os.eventfd_read(self.event_fd)
        except BlockingIOError:
            return []
        with self._lock:
            ready, self._ready = self._ready, []
        return ready
