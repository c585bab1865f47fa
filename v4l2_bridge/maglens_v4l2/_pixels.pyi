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
