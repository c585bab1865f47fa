# SPDX-License-Identifier: GPL-2.0-or-later
"""Converter: from a source's mode to the node's, built once before the source starts, run once per frame."""

from __future__ import annotations

from typing import Protocol

from maglens_driver.errors import Refused
from maglens_driver.frame import Frame
from maglens_driver.mode import MJPG, NV12, RAW, YUYV, Mode, make_mode
from maglens_v4l2._pixels import JpegDecoder, Scaler
from maglens_v4l2.recipe_book import Measured, RecipeBook

PICTURES = (NV12, YUYV)
CONVERTIBLE = frozenset((*PICTURES, MJPG, *RAW))  # what a picture can be made of


class Converter(Protocol):
    """Writes one frame of the node's mode. Not thread-safe; releases the GIL; allocates nothing per frame."""

    def run(self, frame: Frame, dst: memoryview) -> str | None:
        """``frame`` in the source's mode (its lease stays the caller's), ``dst`` at least one of the node's. The
        answer is a cause to count when the picture was damaged but shown; ``ValueError`` when there is none and
        ``dst`` was not written."""
        ...


class PictureConverter:
    """NV12 and YUYV: layout and size in one pass, letterboxed."""

    def __init__(self, src: Mode, dst: Mode) -> None:
        self._nbytes = src.nbytes
        self._scaler = Scaler(
            src.fourcc, src.width, src.height, src.stride, dst.fourcc, dst.width, dst.height, dst.stride
        )

    def run(self, frame: Frame, dst: memoryview) -> str | None:
        self.scale(frame.lease.view[: frame.nbytes], dst)
        return None

    def scale(self, src: memoryview, dst: memoryview) -> None:
        """One picture in memory."""
        if len(src) < self._nbytes:
            raise ValueError(f"a frame of {len(src)} bytes where {self._nbytes} are due")
        self._scaler.run(src, dst)


class JpegConverter:
    """MJPEG: decoded to the node's layout, then scaled where the sizes differ."""

    def __init__(self, src: Mode, dst: Mode) -> None:
        same_size = (src.width, src.height) == (dst.width, dst.height)
        stage = dst if same_size else make_mode(dst.fourcc, src.width, src.height, src.interval)
        self._decoder = JpegDecoder(stage.fourcc, stage.width, stage.height, stage.stride)
        self._scaler = None if same_size else PictureConverter(stage, dst)
        self._stage = memoryview(bytearray(0 if same_size else stage.nbytes))

    def run(self, frame: Frame, dst: memoryview) -> str | None:
        src = frame.lease.view[: frame.nbytes]
        if self._scaler is None:
            return "jpeg_damaged" if self._decoder.run(src, dst) else None
        warning = self._decoder.run(src, self._stage)
        self._scaler.scale(self._stage, dst)
        return "jpeg_damaged" if warning else None


def same_layout(src: Mode, dst: Mode) -> bool:
    """Whether a frame of ``src`` is a frame of ``dst`` byte for byte, and means the same colours; the rate does not
    matter, nor how many bytes a compressed one may have: a camera says far more than it ever sends, and a node
    refuses each that is too large."""
    if src.fourcc == dst.fourcc == MJPG:
        return (src.width, src.height) == (dst.width, dst.height)
    return (src.fourcc, src.width, src.height, src.stride, src.nbytes, src.ycbcr) == (
        dst.fourcc,
        dst.width,
        dst.height,
        dst.stride,
        dst.nbytes,
        dst.ycbcr,
    )


def make_converter(
    src: Mode, dst: Mode, book: RecipeBook | None = None, measured: Measured | None = None
) -> Converter | None:
    """None where frames pass through as they are. Raises ``Refused`` where no way leads from one to the other.

    Raw frames are developed by the recipes in ``book``; ``measured`` is called with the statistics of each.
    """
    if same_layout(src, dst):
        return None
    try:
        if dst.fourcc in PICTURES and src.fourcc in PICTURES:
            if src.ycbcr is None:
                return PictureConverter(src, dst)
            from maglens_v4l2.recolouring import RecolourConverter

            return RecolourConverter(src, dst, src.ycbcr)
        if dst.fourcc in PICTURES and src.fourcc == MJPG:
            return JpegConverter(src, dst)
        if dst.fourcc in PICTURES and src.fourcc in RAW:
            from maglens_v4l2.developing import DevelopConverter  # numpy: 12 MB, for raw frames only

            return DevelopConverter(src, dst, book or RecipeBook(), measured)
    except ValueError as error:
        raise Refused("mode", f"cannot make {dst.describe()} of {src.describe()}: {error}") from error
    raise Refused("mode", f"cannot make {dst.describe()} of {src.describe()}")
