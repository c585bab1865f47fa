# SPDX-License-Identifier: GPL-2.0-or-later
"""The C extension. A fourcc is a str of four letters or V4L2's integer; only NV12 and YUYV are pictures here.

Sides are even, 2 to 32768; strides are in bytes, 0 meaning tight. Buffers are C-contiguous, at least as long as
`image_bytes` says, and src and dst share no byte: everything else is a ValueError before a byte is written, and a
TypeError for what is no buffer. One object works for one thread at a time (RuntimeError otherwise). All of them
release the GIL and allocate nothing per frame.
"""

from typing import Any, Literal, final

from numpy.typing import NDArray
from typing_extensions import Buffer

Fourcc = str | int
Bytes = Buffer | NDArray[Any]  # numpy's stubs know the buffer protocol only from Python 3.12 on
Level = Literal["portable", "avx2", "avx512", "neon"]

def levels() -> tuple[Level, ...]:
    """SIMD levels of this processor, worst first. All give the same bits."""

def image_bytes(fourcc: Fourcc, width: int, height: int, stride: int = 0, /) -> int:
    """Bytes of a picture: height x stride for YUYV, one and a half times that for NV12."""

def fill(
    fourcc: Fourcc, width: int, height: int, stride: int, dst: Bytes, y: int, u: int = 128, v: int = 128, /
) -> None:
    """One colour over the whole picture; padding bytes of each row stay as they were."""

def copy(src: Bytes, dst: Bytes, nbytes: int, /) -> None:
    """The first `nbytes` bytes of `src` to the start of `dst`."""

def turn(
    width: int,
    height: int,
    stride: int,
    src: Bytes,
    dst_stride: int,
    dst: Bytes,
    degrees: int,
    mirror: bool,
    /,
) -> None:
    """An NV12 picture turned clockwise by 0, 90, 180 or 270 degrees, then with `mirror` left to right.

    `width`, `height` and `stride` are the source's. Buffers begin at even addresses, strides are even."""

def recolour(
    fourcc: Fourcc,
    width: int,
    height: int,
    src_stride: int,
    src: Bytes,
    dst_stride: int,
    dst: Bytes,
    black: int,
    weights: tuple[int, int, int, int, int, int, int],
    *,
    level: Level | None = None,
) -> None:
    """Y'CbCr of another matrix or range to limited range, in the same format and size.

    `black`: the source's luma without light. `weights` in 16384ths, -32768 to 32767 (OverflowError): what luma, U and
    V add to luma, U and V to U, U and V to V. A sample of chroma counts for the pixels that share it; what leaves a
    byte is clamped."""

def unpack(
    fourcc: Fourcc, width: int, height: int, stride: int, src: Bytes, bits: Literal[8, 16], dst: Bytes, /
) -> None:
    """A packed Bayer picture to one sample after the other, rows tight: native uint16, or the upper 8 bits."""

def crc32c(data: Bytes, init: int = 0, *, way: Literal["portable", "hardware", "vpclmul"] | None = None) -> int:
    """CRC-32C (Castagnoli) of `data`, continuing from `init`; by the fastest way here unless one is named."""

@final
class Scaler:
    """Converts and scales NV12 and YUYV of any even size.

    A triangle filter two pixels of the coarser grid wide: bilinear when enlarging, area-weighted when reducing.
    Same size and format: rows are copied. Same size, other format: chroma rows are averaged in pairs or used twice.
    `rect` (x, y, width, height; even, inside dst) is the part the picture may use; with fit="letterbox" the largest
    rectangle of its shape therein. All else becomes black (16, 128, 128) with every frame.
    """

    def __new__(
        cls,
        src_fourcc: Fourcc,
        src_width: int,
        src_height: int,
        src_stride: int,
        dst_fourcc: Fourcc,
        dst_width: int,
        dst_height: int,
        dst_stride: int,
        *,
        fit: Literal["letterbox", "stretch"] = "letterbox",
        rect: tuple[int, int, int, int] | None = None,
        flip_x: bool = False,
        flip_y: bool = False,
        level: Level | None = None,
    ) -> Scaler: ...
    def run(self, src: Bytes, dst: Bytes, /) -> None: ...
    @property
    def src_bytes(self) -> int: ...
    @property
    def dst_bytes(self) -> int: ...
    @property
    def placed(self) -> tuple[int, int, int, int]:
        """(x, y, width, height) of the picture inside dst."""

@final
class JpegDecoder:
    """Decodes MJPEG frames (YCbCr 4:2:0, 4:2:2, 4:4:4, grey) of one size to limited-range BT.601."""

    def __new__(cls, fourcc: Fourcc, width: int, height: int, stride: int = 0) -> JpegDecoder: ...
    def run(self, src: Bytes, dst: Bytes, /) -> str | None:
        """None, or libjpeg's warning when damaged data still gave a picture (truncated data do).

        ValueError, dst untouched: no picture, another size, another colour space, more than 48 MiB.
        """

@final
class Developer:
    """Develops packed Bayer frames (V4L2's p[RgGB]AA, p[RgGB]CC) to NV12 or YUYV in one pass.

    The source's width and the crop's x and width are multiples of 4. Where a pixel of the result covers a quad or
    more (`reduces`), quads are averaged in linear light over the area it covers; else the frame is demosaiced, and
    goes through Scaler's filter where the result is not of its size. `threads` bands of rows are worked on at a
    time; neither their number nor `level` changes a bit of the result.
    """

    def __new__(
        cls,
        src_fourcc: Fourcc,
        src_width: int,
        src_height: int,
        src_stride: int,
        dst_fourcc: Fourcc,
        dst_width: int,
        dst_height: int,
        dst_stride: int,
        *,
        fit: Literal["letterbox", "stretch"] = "letterbox",
        crop: tuple[int, int, int, int] | None = None,
        rect: tuple[int, int, int, int] | None = None,
        threads: int = 1,
        zones: tuple[int, int] = (1, 1),
        level: Level | None = None,
    ) -> Developer: ...
    def tune(
        self,
        black: float,
        white: float,
        gains: tuple[float, float, float],
        matrix: tuple[float, ...],
        curve: Bytes,
        falloff: Bytes | None = None,
    ) -> None:
        """What the next frames are developed with; ValueError leaves the old tuning.

        black, white: sample values. gains: R, G, B, at most 3.99. matrix: nine entries by rows, each row adding up
        to 1. curve: 8193 native uint16, the output (65535 is white) for k / 8192 of linear white. falloff: native
        doubles, the gain against vignetting at even steps of the squared distance from the centre (first) to the
        corner (last), 2 to 1025 of them, 0.25 to 3.99.
        """

    def run(self, src: Bytes, dst: Bytes, stats: Bytes | None = None, /) -> None:
        """Develops one frame. RuntimeError before the first tune().

        stats: native uint64, aligned to 8 bytes: for each zone, by rows, seven numbers (quads measured; of these
        clipped; sums of r, g, b over the others, g of both greens; sum of (r + 2 g + b) / 4; sum of squared
        differences of neighbouring greens, each / 8), then 128 counts of luma. Linear light after gains: 8191 is
        white. One quad row in four is measured.
        """
    @property
    def src_bytes(self) -> int: ...
    @property
    def dst_bytes(self) -> int: ...
    @property
    def stats_bytes(self) -> int: ...
    @property
    def placed(self) -> tuple[int, int, int, int]:
        """(x, y, width, height) of the picture inside dst."""
    @property
    def reduces(self) -> bool:
        """Whether pixels are averages of quads; else the frame is demosaiced."""

@final
class Remap:
    """Moves and brightens the pixels of an NV12 picture by tables made beforehand.

    `luma` (height x width) and `chroma` (half of each) are tuples of C-contiguous arrays `x`, `y` (int32: where in
    the source plane the pixel comes from, in 256ths of a pixel of that plane; negative: nowhere, black) and `gain`
    (uint16, 4096ths, on what lies above black, or beside grey). Each pixel is mixed of its four neighbours there;
    positions past the last pixel are taken for the last that has neighbours. The tables are copied.
    """

    def __new__(
        cls,
        width: int,
        height: int,
        src_stride: int,
        dst_stride: int,
        luma: tuple[Bytes, Bytes, Bytes],
        chroma: tuple[Bytes, Bytes, Bytes],
    ) -> Remap: ...
    def run(self, src: Bytes, dst: Bytes, /) -> None:
        """One frame."""
