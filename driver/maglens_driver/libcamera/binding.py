# SPDX-License-Identifier: GPL-2.0-or-later
"""Binding: the part of libcamera's Python module that maglens uses, as types. Good for 0.4 to 0.7.

Between those the module's shape did not change; the set of controls did: from 0.5 on ``ExposureTimeMode`` and
``AnalogueGainMode`` stand beside ``AeEnable``, and ``ColourTemperature`` can be written. So what a camera has is
always looked up by name in ``Camera.controls``. Its errors are ``RuntimeError`` (a C++ ``std::system_error``).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from maglens_driver.errors import MissingDependency
from maglens_driver.packages import Need, install


class Size(Protocol):
    """Width and height in pixels."""

    width: int
    height: int


class PixelFormat(Protocol):
    """A DRM fourcc."""

    @property
    def fourcc(self) -> int: ...


class ControlId(Protocol):
    """Names a control or a property."""

    @property
    def name(self) -> str: ...


class ControlInfo(Protocol):
    """A control's range; the values have the control's own type."""

    @property
    def min(self) -> object: ...
    @property
    def max(self) -> object: ...
    @property
    def default(self) -> object: ...
    @property
    def values(self) -> Sequence[object]: ...


class StreamFormats(Protocol):
    """What a stream can be set to."""

    @property
    def pixel_formats(self) -> Sequence[PixelFormat]: ...
    def sizes(self, pixel_format: PixelFormat, /) -> Sequence[Size]: ...


class Stream(Protocol):
    """A camera's stream, as a name for buffers."""


class Named(Protocol):
    """A member of one of its enumerations."""

    @property
    def name(self) -> str: ...


class ColorSpace(Protocol):
    """What pictures' colours mean."""

    @property
    def ycbcrEncoding(self) -> Named: ...
    @property
    def range(self) -> Named: ...


class ColorSpaceType(Protocol):
    """The class of :class:`ColorSpace`, and those that have a name."""

    def Smpte170m(self) -> ColorSpace: ...


class StreamConfiguration(Protocol):
    """One stream's settings; ``validate`` of the whole fills in stride and frame size."""

    size: Size
    pixel_format: PixelFormat
    stride: int
    frame_size: int
    buffer_count: int
    color_space: ColorSpace | None

    @property
    def formats(self) -> StreamFormats: ...
    @property
    def stream(self) -> Stream: ...


class CameraConfiguration(Protocol):
    """The settings of all streams."""

    def validate(self) -> object: ...
    def at(self, index: int, /) -> StreamConfiguration: ...


class Plane(Protocol):
    """A part of a buffer; the descriptor stays libcamera's."""

    @property
    def fd(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def length(self) -> int: ...


class PlaneMetadata(Protocol):
    """How much of a plane was filled."""

    @property
    def bytes_used(self) -> int: ...


class FrameMetadata(Protocol):
    """How a buffer was filled."""

    @property
    def status(self) -> object: ...
    @property
    def sequence(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def planes(self) -> Sequence[PlaneMetadata]: ...


class FrameBuffer(Protocol):
    """A buffer."""

    @property
    def planes(self) -> Sequence[Plane]: ...
    @property
    def metadata(self) -> FrameMetadata: ...


class Request(Protocol):
    """One frame's order: a buffer to fill and the controls to apply."""

    @property
    def status(self) -> object: ...
    @property
    def cookie(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def metadata(self) -> Mapping[ControlId, object]: ...
    def add_buffer(self, stream: Stream, buffer: FrameBuffer, /) -> None: ...
    def set_control(self, control: ControlId, value: object, /) -> None: ...
    def reuse(self) -> None: ...


class Camera(Protocol):
    """One camera."""

    @property
    def id(self) -> str: ...
    @property
    def controls(self) -> Mapping[ControlId, ControlInfo]: ...
    @property
    def properties(self) -> Mapping[ControlId, object]: ...
    def acquire(self) -> None: ...
    def release(self) -> None: ...
    def generate_configuration(self, roles: Sequence[object], /) -> CameraConfiguration: ...
    def configure(self, configuration: CameraConfiguration, /) -> None: ...
    def create_request(self, cookie: int, /) -> Request: ...
    def queue_request(self, request: Request, /) -> None: ...
    def start(self, controls: Mapping[ControlId, object], /) -> None: ...
    def stop(self) -> None: ...


class FrameBufferAllocator(Protocol):
    """Owns a stream's buffers as long as it lives."""

    def allocate(self, stream: Stream, /) -> int: ...
    def buffers(self, stream: Stream, /) -> Sequence[FrameBuffer]: ...


class AllocatorType(Protocol):
    """The class of :class:`FrameBufferAllocator`."""

    def __call__(self, camera: Camera, /) -> FrameBufferAllocator: ...


class SizeType(Protocol):
    """The class of :class:`Size`."""

    def __call__(self, width: int, height: int, /) -> Size: ...


class CameraManager(Protocol):
    """The library: ``event_fd`` is readable when requests are ready."""

    @property
    def cameras(self) -> Sequence[Camera]: ...
    @property
    def event_fd(self) -> int: ...
    def get_ready_requests(self) -> Sequence[Request]: ...


class ManagerType(Protocol):
    """The class of :class:`CameraManager`."""

    def singleton(self) -> CameraManager: ...


class StreamRoles(Protocol):
    """What a stream is for."""

    @property
    def Viewfinder(self) -> object: ...


class ConfigurationStatus(Protocol):
    """Answer of ``validate``."""

    @property
    def Invalid(self) -> object: ...


class ConfigurationType(Protocol):
    """The class of :class:`CameraConfiguration`."""

    @property
    def Status(self) -> ConfigurationStatus: ...


class RequestStatus(Protocol):
    """How a request ended."""

    @property
    def Complete(self) -> object: ...


class RequestType(Protocol):
    """The class of :class:`Request`."""

    @property
    def Status(self) -> RequestStatus: ...


class FrameStatus(Protocol):
    """How a buffer ended."""

    @property
    def Success(self) -> object: ...


class MetadataType(Protocol):
    """The class of :class:`FrameMetadata`."""

    @property
    def Status(self) -> FrameStatus: ...


class Binding(Protocol):
    """The module itself."""

    @property
    def ColorSpace(self) -> ColorSpaceType: ...
    @property
    def CameraManager(self) -> ManagerType: ...
    @property
    def CameraConfiguration(self) -> ConfigurationType: ...
    @property
    def FrameBufferAllocator(self) -> AllocatorType: ...
    @property
    def FrameMetadata(self) -> MetadataType: ...
    @property
    def Request(self) -> RequestType: ...
    @property
    def Size(self) -> SizeType: ...
    @property
    def StreamRole(self) -> StreamRoles: ...


def load() -> Binding:
    """Import libcamera's module. Only the child process may call this."""
    try:
        return cast(Binding, importlib.import_module("libcamera"))
    except ImportError as error:
        raise MissingDependency(
            f"libcamera's Python bindings cannot be imported: {error}", hint=install(Need.LIBCAMERA)
        ) from error
