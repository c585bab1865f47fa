# SPDX-License-Identifier: MIT
"""Mode: one picture format at one size and rate, with its price in link rate and power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from maglens_driver.raw import RawFacts
from maglens_driver.ycbcr import YCbCr


def fourcc(text: str) -> int:
    """V4L2 pixel format code of four characters (linux/videodev2.h, v4l2_fourcc)."""
    raw = text.encode("ascii")
    if len(raw) != 4:
        raise ValueError(f"a fourcc has four characters, not {text!r}")
    return int.from_bytes(raw, "little")


def fourcc_text(code: int) -> str:
    """The four characters of a V4L2 pixel format code; unprintable ones as '?'."""
    return "".join(chr(b) if 0x20 <= b < 0x7F else "?" for b in code.to_bytes(4, "little"))


NV12 = fourcc("NV12")
YUYV = fourcc("YUYV")
MJPG = fourcc("MJPG")
# MIPI-packed Bayer, linux/videodev2.h
SBGGR10P, SGBRG10P, SGRBG10P, SRGGB10P = (fourcc(t) for t in ("pBAA", "pGAA", "pgAA", "pRAA"))
SBGGR12P, SGBRG12P, SGRBG12P, SRGGB12P = (fourcc(t) for t in ("pBCC", "pGCC", "pgCC", "pRCC"))
RAW10 = frozenset((SBGGR10P, SGBRG10P, SGRBG10P, SRGGB10P))
RAW12 = frozenset((SBGGR12P, SGBRG12P, SGRBG12P, SRGGB12P))
RAW = RAW10 | RAW12


def min_stride(code: int, width: int) -> int:
    """Bytes of one row without padding (of luma for NV12); 0 for compressed formats."""
    if code == NV12:
        return width
    if code == YUYV:
        return width * 2
    if code in RAW10:
        return (width * 5 + 3) // 4
    if code in RAW12:
        return (width * 3 + 1) // 2
    return 0


def frame_bytes(code: int, stride: int, height: int) -> int:
    """Bytes of a frame whose rows take ``stride`` bytes; 0 where the format does not fix it (MJPG)."""
    if code == NV12:
        return stride * height * 3 // 2
    if code == MJPG:
        return 0
    return stride * height


@dataclass(frozen=True, slots=True)
class Mode:
    """One format, size and rate.

    ``stride`` and ``nbytes`` are bytes (for MJPG: 0 and the largest frame), ``interval`` seconds per frame,
    ``mbit_s`` the link rate it needs in Mbit/s and ``mw`` its power in mW, both 0 where nothing is known. ``raw`` is
    known of raw formats, in what a source delivers; it tells no two modes apart. Nor does ``ycbcr``: what NV12 and
    YUYV are made by, where a source sends them otherwise than apps are told (else None). MJPG is always JFIF's.
    """

    fourcc: int
    width: int
    height: int
    stride: int
    nbytes: int
    interval: Fraction
    mbit_s: int = 0
    mw: int = 0
    raw: RawFacts | None = field(default=None, compare=False)
    ycbcr: YCbCr | None = field(default=None, compare=False)

    @property
    def interval_ns(self) -> int:
        """Nanoseconds per frame."""
        return round(self.interval * 1_000_000_000)

    def describe(self) -> str:
        """As people write it: ``1280x720 NV12 30 fps``."""
        rate = f"{float(1 / self.interval):.4g}"
        return f"{self.width}x{self.height} {fourcc_text(self.fourcc)} {rate} fps"


def nearest_mode(modes: Sequence[Mode], want: Mode) -> Mode:
    """Of the same format before of the same size before of the same rate, then with the least difference."""

    def shape(mode: Mode) -> tuple[bool, int]:
        return mode.fourcc != want.fourcc, abs(mode.width - want.width) + abs(mode.height - want.height)

    nearest = min(map(shape, modes))
    return min((m for m in modes if shape(m) == nearest), key=lambda m: abs(m.interval - want.interval))


def make_mode(code: int, width: int, height: int, interval: Fraction, *, mbit_s: int = 0, mw: int = 0) -> Mode:
    """An uncompressed mode with unpadded rows."""
    stride = min_stride(code, width)
    return Mode(code, width, height, stride, frame_bytes(code, stride, height), interval, mbit_s, mw)
