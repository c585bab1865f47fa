# SPDX-License-Identifier: GPL-2.0-or-later
"""Recolouring: pictures of another matrix or range, as webcams and ISPs send them, to what apps are told."""

from __future__ import annotations

from typing import Final

from maglens_driver.frame import Frame
from maglens_driver.mode import Mode, make_mode
from maglens_driver.ycbcr import TOLD, YCbCr
from maglens_v4l2._pixels import recolour
from maglens_v4l2.convert import PictureConverter

Weights = tuple[int, int, int, int, int, int, int]

_BLACK: Final = {True: 0, False: 16}  # luma without light, by whether the range is full
_LUMA: Final = {True: 255, False: 219}  # steps from black to white
_CHROMA: Final = {True: 255, False: 224}  # steps from the least to the most
_ONE: Final = 16384  # the pixel kernel's


def weights(made: YCbCr) -> Weights:
    """To ``TOLD``, in 16384ths: what luma, Cb and Cr add to luma, Cb and Cr to Cb, Cb and Cr to Cr.

    Red and blue are luma plus chroma, each scaled by what the other colours count; grey stays grey, so luma adds
    nothing to chroma, and its own weight is the range's alone.
    """
    (red, blue), (to_red, to_blue) = made.matrix.weights, TOLD.matrix.weights
    green, to_green = 1 - red - blue, 1 - to_red - to_blue
    r_cr, b_cb = 2 * (1 - red), 2 * (1 - blue)
    to_r_cr, to_b_cb = 2 * (1 - to_red), 2 * (1 - to_blue)
    y_cr = r_cr * (to_red - to_green * red / green)
    y_cb = b_cb * (to_blue - to_green * blue / green)
    luma = _LUMA[TOLD.full] / _LUMA[made.full]
    chroma = _CHROMA[TOLD.full] / _CHROMA[made.full]
    across = _LUMA[TOLD.full] / _CHROMA[made.full]  # of chroma that goes into luma
    return (
        round(luma * _ONE),
        round(y_cb * across * _ONE),
        round(y_cr * across * _ONE),
        round((b_cb - y_cb) / to_b_cb * chroma * _ONE),
        round(-y_cr / to_b_cb * chroma * _ONE),
        round(-y_cb / to_r_cr * chroma * _ONE),
        round((r_cr - y_cr) / to_r_cr * chroma * _ONE),
    )


class RecolourConverter:
    """NV12 and YUYV that are ``made`` in another way: recoloured, then of the node's layout and size. One frame of
    memory where these are others, made once."""

    def __init__(self, src: Mode, dst: Mode, made: YCbCr) -> None:
        self._src = src
        self._black, self._weights = _BLACK[made.full], weights(made)
        alike = (src.fourcc, src.width, src.height) == (dst.fourcc, dst.width, dst.height)
        self._stage = dst if alike else make_mode(src.fourcc, src.width, src.height, src.interval)
        self._last = None if alike else PictureConverter(self._stage, dst)
        self._staged = memoryview(bytearray(0 if alike else self._stage.nbytes))

    def run(self, frame: Frame, dst: memoryview) -> str | None:
        """See :class:`~maglens_v4l2.convert.Converter`."""
        src, stride = self._src, self._stage.stride
        picture = frame.lease.view[: frame.nbytes]
        if len(picture) < src.nbytes:
            raise ValueError(f"a frame of {len(picture)} bytes where {src.nbytes} are due")
        out = dst if self._last is None else self._staged
        recolour(src.fourcc, src.width, src.height, src.stride, picture, stride, out, self._black, self._weights)
        if self._last is not None:
            self._last.scale(self._staged, dst)
        return None
