# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors of the emulated camera: USB 2.0 or 3.2, UVC 1.1 or 1.5, one bulk endpoint."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from maglens_driver.names import VIRTUAL_USB_VENDOR
from tests.tools.usbip.formats import Format, FrameSize
from tests.tools.usbip.units import CAMERA_TERMINAL, OUTPUT_TERMINAL, PROCESSING_UNIT, bitmap

PRODUCT: Final = 0x0002  # pid.codes' test range
STREAM_ENDPOINT: Final = 0x81
CONTROL_INTERFACE: Final = 0
STREAMING_INTERFACE: Final = 1
PACKETS_PER_URB: Final = 32  # uvcvideo's UVC_MAX_PACKETS

_CS_INTERFACE: Final = 0x24
_VIDEO: Final = 0x0E


class Speed(enum.IntEnum):
    """enum usb_device_speed of linux/usb/ch9.h."""

    HIGH = 3
    SUPER = 5


class Uvc(enum.IntEnum):
    """Versions of the class, as bcdUVC."""

    V1_1 = 0x0110
    V1_5 = 0x0150

    @property
    def probe_bytes(self) -> int:
        """Size of the video probe and commit controls (table 4-75)."""
        return 34 if self is Uvc.V1_1 else 48


@dataclass(frozen=True, slots=True)
class Identity:
    """The camera's strings; and ``matrix``, what it says that its colours are made by (bMatrixCoefficients: 1 is
    BT.709's, 4 SMPTE 170M's, which is BT.601's)."""

    maker: str = "maglens"
    product: str = "Emulated UVC camera"
    serial: str = "EMU0001"
    matrix: int = 4

    @property
    def strings(self) -> tuple[str, ...]:
        """By index, from 1 on."""
        return (self.maker, self.product, self.serial)


def packet_bytes(speed: Speed) -> int:
    """Packet size of the bulk endpoint (USB 2.0, 5.8.3; USB 3.2, 8.12.1)."""
    return 1024 if speed is Speed.SUPER else 512


def payload_bytes(speed: Speed) -> int:
    """What one payload takes at most: as much as one URB of uvcvideo."""
    return packet_bytes(speed) * PACKETS_PER_URB


def device(speed: Speed) -> bytes:
    """The device descriptor: an interface association decides the class."""
    usb = 0x0300 if speed is Speed.SUPER else 0x0200
    first = 9 if speed is Speed.SUPER else 64
    return struct.pack(
        "<BBHBBBBHHHBBBB", 18, 1, usb, 0xEF, 2, 1, first, VIRTUAL_USB_VENDOR, PRODUCT, 0x0100, 1, 2, 3, 1
    )


def bos() -> bytes:
    """Binary object store, which a SuperSpeed device must have: USB 2.0 extension (LPM) and SuperSpeed."""
    extension = struct.pack("<BBBI", 7, 0x10, 2, 2)
    super_speed = struct.pack("<BBBBHBBH", 10, 0x10, 3, 0, 0x000C, 2, 10, 2047)
    return struct.pack("<BBHB", 5, 0x0F, 5 + len(extension) + len(super_speed), 2) + extension + super_speed


def string(index: int, identity: Identity) -> bytes | None:
    """A string descriptor; None for one that is not there."""
    if index == 0:
        return struct.pack("<BBH", 4, 3, 0x0409)
    if index > len(identity.strings):
        return None
    text = identity.strings[index - 1].encode("utf-16-le")
    return bytes((2 + len(text), 3)) + text


def configuration(speed: Speed, uvc: Uvc, formats: Sequence[Format], matrix: int = Identity().matrix) -> bytes:
    """The configuration descriptor with all that belongs to it."""
    control = _control_units(uvc)
    control_header = struct.pack(
        "<BBBHHIBB", 13, _CS_INTERFACE, 1, uvc, 13 + len(control), 48_000_000, 1, STREAMING_INTERFACE
    )
    body = b"".join(
        (
            struct.pack("<BBBBBBBB", 8, 0x0B, CONTROL_INTERFACE, 2, _VIDEO, 3, 0, 2),
            struct.pack("<BBBBBBBBB", 9, 4, CONTROL_INTERFACE, 0, 0, _VIDEO, 1, int(uvc is Uvc.V1_5), 2),
            control_header,
            control,
            struct.pack("<BBBBBBBBB", 9, 4, STREAMING_INTERFACE, 0, 1, _VIDEO, 2, int(uvc is Uvc.V1_5), 0),
            _streaming(formats, matrix),
            struct.pack("<BBBBHB", 7, 5, STREAM_ENDPOINT, 2, packet_bytes(speed), 0),
            struct.pack("<BBBBH", 6, 0x30, 0, 0, 0) if speed is Speed.SUPER else b"",
        )
    )
    power = 500 // (8 if speed is Speed.SUPER else 2)
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0x80, power) + body


def _control_units(uvc: Uvc) -> bytes:
    camera = struct.pack("<BBBBHBBHHHB3s", 18, _CS_INTERFACE, 2, CAMERA_TERMINAL, 0x0201, 0, 0, 0, 0, 0, 3,
                         bitmap(CAMERA_TERMINAL, 3))  # fmt: skip
    size = 2 if uvc is Uvc.V1_1 else 3
    processing = struct.pack("<BBBBBHB", 10 + size, _CS_INTERFACE, 5, PROCESSING_UNIT, CAMERA_TERMINAL, 0, size)
    processing += bitmap(PROCESSING_UNIT, size) + bytes(2)
    output = struct.pack("<BBBBHBBB", 9, _CS_INTERFACE, 3, OUTPUT_TERMINAL, 0x0101, 0, PROCESSING_UNIT, 0)
    return camera + processing + output


def _streaming(formats: Sequence[Format], matrix: int) -> bytes:
    body = b"".join(_format(index, each, matrix) for index, each in enumerate(formats, 1))
    length = 13 + len(formats)
    header = struct.pack("<BBBBHBBBBBBB", length, _CS_INTERFACE, 1, len(formats), length + len(body),
                         STREAM_ENDPOINT, 0, OUTPUT_TERMINAL, 0, 0, 0, 1)  # fmt: skip
    return header + bytes(len(formats)) + body


def _format(index: int, each: Format, matrix: int) -> bytes:
    count = len(each.sizes)
    if each.guid is None:
        head = struct.pack("<BBBBBBBBBBB", 11, _CS_INTERFACE, 6, index, count, 0, 1, 0, 0, 0, 0)
    else:
        head = struct.pack("<BBBBB16sBBBBBB", 27, _CS_INTERFACE, 4, index, count, each.guid, each.bits_per_pixel,
                           1, 0, 0, 0, 0)  # fmt: skip
    frames = b"".join(_frame(number, each, size) for number, size in enumerate(each.sizes, 1))
    # BT.709 primaries and transfer, SMPTE 170M matrix: what uvcvideo reports as sRGB, like most webcams.
    return head + frames + struct.pack("<BBBBBB", 6, _CS_INTERFACE, 0x0D, 1, 1, matrix)


def _frame(number: int, each: Format, size: FrameSize) -> bytes:
    largest = each.largest(size)
    intervals = sorted(size.intervals)
    rates = [largest * 8 * 10_000_000 // interval for interval in intervals]
    return struct.pack(
        f"<BBBBBHHIIIIB{len(intervals)}I",
        26 + 4 * len(intervals),
        _CS_INTERFACE,
        7 if each.guid is None else 5,
        number,
        0,
        size.width,
        size.height,
        min(rates),
        max(rates),
        largest,
        size.intervals[0],
        len(intervals),
        *intervals,
    )
