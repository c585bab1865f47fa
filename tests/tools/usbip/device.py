# SPDX-License-Identifier: GPL-2.0-or-later
"""Device: endpoint 0 of the emulated camera, as a state machine without any input or output of its own."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from maglens_driver.mode import Mode
from tests.tools.usbip import descriptors
from tests.tools.usbip.descriptors import CONTROL_INTERFACE, STREAM_ENDPOINT, Identity, Speed, Uvc
from tests.tools.usbip.formats import FORMATS, Format, FrameSize
from tests.tools.usbip.protocol import Setup
from tests.tools.usbip.units import BY_ADDRESS, CONTROLS, UnitControl

_TYPE_MASK: Final = 0x60
_STANDARD, _CLASS = 0x00, 0x20
_RECIPIENT_MASK: Final = 0x1F
_TO_INTERFACE, _TO_ENDPOINT = 1, 2

_PROBE_HEAD: Final = struct.Struct("<HBBI")  # hint, format, frame, interval
_PROBE_REST: Final = struct.Struct("<HHHHHIII")  # key, p, quality, window, delay, frame size, payload, clock


class Standard(enum.IntEnum):
    """Standard requests (USB 2.0, table 9-4; USB 3.2, table 9-5)."""

    GET_STATUS = 0
    CLEAR_FEATURE = 1
    SET_FEATURE = 3
    SET_ADDRESS = 5
    GET_DESCRIPTOR = 6
    GET_CONFIGURATION = 8
    SET_CONFIGURATION = 9
    GET_INTERFACE = 10
    SET_INTERFACE = 11
    SET_SEL = 0x30
    SET_ISOCH_DELAY = 0x31


class Video(enum.IntEnum):
    """Class requests (UVC 1.5, table A-8)."""

    SET_CUR = 0x01
    GET_CUR = 0x81
    GET_MIN = 0x82
    GET_MAX = 0x83
    GET_RES = 0x84
    GET_LEN = 0x85
    GET_INFO = 0x86
    GET_DEF = 0x87


class VideoError(enum.IntEnum):
    """What VC_REQUEST_ERROR_CODE_CONTROL tells of the request before (table 4-8)."""

    NONE = 0
    INVALID_UNIT = 5
    INVALID_CONTROL = 6
    INVALID_REQUEST = 7
    INVALID_VALUE = 8


class Stall(Exception):
    """The device refuses a request."""

    def __init__(self, error: VideoError = VideoError.INVALID_REQUEST) -> None:
        super().__init__(error.name)
        self.error = error


@dataclass(frozen=True, slots=True)
class Choice:
    """A format, a size and an interval (100 ns), as negotiated."""

    format: Format
    size: FrameSize
    interval: int

    @property
    def mode(self) -> Mode:
        """As a mode."""
        return self.format.mode(self.size, self.interval)


class UvcDevice:
    """Answers control requests; tells of what follows from them by ``on_stream`` and ``on_control``.

    ``on_stream(mode)`` when the host commits to a mode, ``on_stream(None)`` when it ends the stream. On a bulk
    endpoint UVC has no request for the end; Linux and Windows clear the endpoint's halt.
    """

    def __init__(
        self,
        speed: Speed,
        uvc: Uvc,
        on_stream: Callable[[Mode | None], None],
        on_control: Callable[[dict[str, int]], None],
        identity: Identity | None = None,
    ) -> None:
        self.speed = speed
        self.uvc = uvc
        self.values = {control.name: control.default for control in CONTROLS}
        self.configured = False
        self._identity = identity or Identity()
        self._on_stream = on_stream
        self._on_control = on_control
        self._probe = Choice(FORMATS[0], FORMATS[0].sizes[0], FORMATS[0].sizes[0].intervals[0])
        self._error = VideoError.NONE

    def control(self, setup: Setup, data: bytes) -> bytes:
        """Do a control request; the reply's data, at most ``setup.length`` bytes. Raises :class:`Stall`."""
        kind = setup.request_type & _TYPE_MASK
        if kind == _STANDARD:
            return self._standard(setup)[: setup.length]
        if kind != _CLASS or setup.request_type & _RECIPIENT_MASK != _TO_INTERFACE:
            raise Stall
        try:
            reply = self._video(setup, data)
        except Stall as stall:
            self._error = stall.error
            raise
        if setup.index != CONTROL_INTERFACE:  # asking for the error is no request before
            self._error = VideoError.NONE
        return reply[: setup.length]

    def _standard(self, setup: Setup) -> bytes:
        recipient = setup.request_type & _RECIPIENT_MASK
        match setup.request:
            case Standard.GET_DESCRIPTOR:
                return self._descriptor(setup.value >> 8, setup.value & 0xFF)
            case Standard.SET_CONFIGURATION:
                self.configured = bool(setup.value)
                self._on_stream(None)
            case Standard.GET_CONFIGURATION:
                return bytes((int(self.configured),))
            case Standard.GET_STATUS:
                return bytes(2)
            case Standard.GET_INTERFACE:
                return bytes(1)
            case Standard.SET_INTERFACE if setup.value:
                raise Stall  # there is but one setting
            case Standard.CLEAR_FEATURE if recipient == _TO_ENDPOINT and setup.index == STREAM_ENDPOINT:
                self._on_stream(None)
            case (
                Standard.SET_INTERFACE
                | Standard.CLEAR_FEATURE
                | Standard.SET_FEATURE
                | Standard.SET_ADDRESS
                | Standard.SET_SEL
                | Standard.SET_ISOCH_DELAY
            ):
                pass  # accepted; nothing in an emulation depends on them
            case _:
                raise Stall
        return b""

    def _descriptor(self, kind: int, index: int) -> bytes:
        found: bytes | None = None
        if kind == 1:
            found = descriptors.device(self.speed)
        elif kind == 2 and index == 0:
            found = descriptors.configuration(self.speed, self.uvc, FORMATS, self._identity.matrix)
        elif kind == 3:
            found = descriptors.string(index, self._identity)
        elif kind == 0x0F and self.speed is Speed.SUPER:
            found = descriptors.bos()
        if found is None:
            raise Stall
        return found

    def _video(self, setup: Setup, data: bytes) -> bytes:
        interface, unit, selector = setup.index & 0xFF, setup.index >> 8, setup.value >> 8
        if interface != CONTROL_INTERFACE:
            return self._negotiate(setup, selector, data)
        if unit == 0:
            if selector == 2 and setup.request == Video.GET_CUR:
                return bytes((self._error,))
            raise Stall(VideoError.INVALID_CONTROL)
        control = BY_ADDRESS.get((unit, selector))
        if control is None:
            raise Stall(VideoError.INVALID_CONTROL)
        return self._unit(control, setup.request, data)

    def _unit(self, control: UnitControl, request: int, data: bytes) -> bytes:
        match request:
            case Video.SET_CUR:
                value = control.unpack(data)
                if len(data) != control.size or not control.allows(value):
                    raise Stall(VideoError.INVALID_VALUE)
                self.values[control.name] = value
                self._on_control(dict(self.values))
                return b""
            case Video.GET_CUR:
                return control.pack(self.values[control.name])
            case Video.GET_MIN:
                return control.pack(control.minimum)
            case Video.GET_MAX:
                return control.pack(control.maximum)
            case Video.GET_RES:
                return control.pack(control.resolution)
            case Video.GET_DEF:
                return control.pack(control.default)
            case Video.GET_LEN:
                return control.size.to_bytes(2, "little")
            case Video.GET_INFO:
                return b"\x03"  # can be read and set
        raise Stall

    def _negotiate(self, setup: Setup, selector: int, data: bytes) -> bytes:
        """Probe (selector 1) and commit (2)."""
        if selector not in (1, 2):
            raise Stall(VideoError.INVALID_CONTROL)
        match setup.request:
            case Video.SET_CUR:
                self._probe = _choose(data)
                if selector == 2:
                    self._on_stream(self._probe.mode)
                return b""
            case Video.GET_LEN:
                return self.uvc.probe_bytes.to_bytes(2, "little")
            case Video.GET_INFO:
                return b"\x03"
            case Video.GET_CUR | Video.GET_DEF | Video.GET_RES:
                return self._answer(self._probe.interval)
            case Video.GET_MIN:
                return self._answer(min(self._probe.size.intervals))
            case Video.GET_MAX:
                return self._answer(max(self._probe.size.intervals))
        raise Stall

    def _answer(self, interval: int) -> bytes:
        choice = self._probe
        head = _PROBE_HEAD.pack(
            1, FORMATS.index(choice.format) + 1, choice.format.sizes.index(choice.size) + 1, interval
        )
        payload = descriptors.payload_bytes(self.speed)
        rest = _PROBE_REST.pack(0, 0, 0, 0, 0, choice.format.largest(choice.size), payload, 48_000_000)
        # Framing: frame ids and ends of frames are marked, whatever is asked.
        return (head + rest + bytes((3, 0, 0, 0))).ljust(self.uvc.probe_bytes, b"\0")


def _choose(data: bytes) -> Choice:
    """The nearest there is to what a probe asks for."""
    if len(data) < _PROBE_HEAD.size:
        raise Stall(VideoError.INVALID_VALUE)
    _, number, frame, interval = _PROBE_HEAD.unpack_from(data)
    chosen = FORMATS[min(max(number, 1), len(FORMATS)) - 1]
    size = chosen.sizes[min(max(frame, 1), len(chosen.sizes)) - 1]
    return Choice(chosen, size, min(size.intervals, key=lambda each: abs(each - interval)))
