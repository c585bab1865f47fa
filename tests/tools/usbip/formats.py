# SPDX-License-Identifier: GPL-2.0-or-later
"""Formats: what the emulated camera can send."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from maglens_driver.mode import MJPG, NV12, YUYV, Mode, make_mode

INTERVAL_UNITS: Final = 10_000_000  # UVC counts frame intervals in 100 ns
MJPEG_MAX_BYTES_PER_PIXEL: Final = 2


@dataclass(frozen=True, slots=True)
class FrameSize:
    """A size and the rates it is offered at, in frames per second, the default one first."""

    width: int
    height: int
    rates: tuple[int, ...]

    @property
    def intervals(self) -> tuple[int, ...]:
        """Frame intervals in 100 ns, in the order of the rates."""
        return tuple(INTERVAL_UNITS // rate for rate in self.rates)


@dataclass(frozen=True, slots=True)
class Format:
    """A pixel format and its sizes. ``guid`` is None for MJPEG, which has descriptors of its own."""

    fourcc: int
    guid: bytes | None
    bits_per_pixel: int
    sizes: tuple[FrameSize, ...]

    def largest(self, size: FrameSize) -> int:
        """Bytes of a frame, or of the largest there can be."""
        if self.guid is None:
            return size.width * size.height * MJPEG_MAX_BYTES_PER_PIXEL
        return size.width * size.height * self.bits_per_pixel // 8

    def mode(self, size: FrameSize, interval: int) -> Mode:
        """As a mode; ``interval`` in 100 ns."""
        seconds = Fraction(interval, INTERVAL_UNITS)
        if self.guid is None:
            return Mode(MJPG, size.width, size.height, 0, self.largest(size), seconds)
        return make_mode(self.fourcc, size.width, size.height, seconds)


def _guid(code: bytes) -> bytes:
    return code + bytes.fromhex("00001000800000aa00389b71")  # USB_Video_Payload_Uncompressed 1.5, 2.3


_SMALL: Final = FrameSize(320, 240, (30, 15))
_VGA: Final = FrameSize(640, 480, (30, 15, 10))

FORMATS: Final = (
    Format(YUYV, _guid(b"YUY2"), 16, (_VGA, _SMALL)),
    Format(NV12, _guid(b"NV12"), 12, (_VGA, _SMALL)),
    Format(MJPG, None, 0, (_VGA, _SMALL)),
)
