# SPDX-License-Identifier: GPL-2.0-or-later
"""Colours: what a device's Y'CbCr is made by, and asking it for what apps are told.

Numbers, and the rules for what a driver leaves open, are those of linux/videodev2.h.
"""

from __future__ import annotations

from typing import Any, Final

from maglens_driver.mode import MJPG
from maglens_driver.v4l2.binding import linuxpy
from maglens_driver.ycbcr import TOLD, Matrix, YCbCr, unless_told

CSC_YCBCR_ENC: Final = 0x80  # V4L2_FMT_FLAG_*: the device converts to the matrix that is asked for, ...
CSC_QUANTIZATION: Final = 0x100  # ... and to the range
SET_CSC: Final = 0x2  # V4L2_PIX_FMT_FLAG_SET_CSC
PRIV_MAGIC: Final = 0xFEEDCAFE  # the fields behind `priv` count
COLORSPACE_JPEG: Final = 7
COLORSPACE_SRGB: Final = 8
XFER_FUNC_SRGB: Final = 2
FULL_RANGE: Final = 1
LIM_RANGE: Final = 2

_BY_ENCODING: Final = {  # V4L2_YCBCR_ENC_*
    **{int(matrix): matrix for matrix in Matrix},
    3: Matrix.BT601,  # XV601: colours beyond the primaries by the same matrix
    4: Matrix.BT709,  # XV709
    5: Matrix.BT601,  # SYCC
    7: Matrix.BT2020,  # of constant luminance, which no matrix makes: the nearest
}
_BY_COLORSPACE: Final = {  # V4L2_MAP_YCBCR_ENC_DEFAULT
    2: Matrix.SMPTE240M,
    3: Matrix.BT709,
    10: Matrix.BT2020,
    12: Matrix.BT709,  # DCI-P3
}


def ask(fd: int, pix: Any) -> None:
    """Into a ``v4l2_pix_format`` for TRY_FMT or S_FMT: what apps are told, as far as the device says that it can
    convert. Others are not asked: some drivers leave in their answer what they have been given."""
    flags = 0 if pix.pixelformat == MJPG else _flags(fd, pix.pixelformat)
    if not flags & (CSC_YCBCR_ENC | CSC_QUANTIZATION):
        return
    pix.priv, pix.flags = PRIV_MAGIC, SET_CSC
    pix.colorspace, pix.xfer_func = COLORSPACE_SRGB, XFER_FUNC_SRGB  # without one the kernel wipes the others out
    if flags & CSC_YCBCR_ENC:
        pix.ycbcr_enc = int(TOLD.matrix)
    if flags & CSC_QUANTIZATION:
        pix.quantization = LIM_RANGE


def made_by(pix: Any) -> YCbCr | None:
    """``Mode.ycbcr`` of an answered ``v4l2_pix_format``. A matrix that V4L2 does not have yet counts as unsaid."""
    if pix.pixelformat == MJPG:
        return None
    matrix = _BY_ENCODING.get(pix.ycbcr_enc) or _BY_COLORSPACE.get(pix.colorspace, Matrix.BT601)
    jpeg = pix.colorspace == COLORSPACE_JPEG
    return unless_told(matrix, pix.quantization == FULL_RANGE or (jpeg and pix.quantization != LIM_RANGE))


def _flags(fd: int, code: int) -> int:
    """V4L2_FMT_FLAG_* of a format; none of one that the device does not have."""
    v4l2 = linuxpy()
    wanted = v4l2.raw.v4l2_fmtdesc()
    wanted.type = v4l2.BufferType.VIDEO_CAPTURE
    return next((int(f.flags) for f in v4l2.iter_read(fd, v4l2.IOC.ENUM_FMT, wanted) if f.pixelformat == code), 0)
