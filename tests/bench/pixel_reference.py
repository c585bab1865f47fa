# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pixel kernels compute, in plain numpy: for the tests to compare with, bit for bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

V_ONE = 256  # sum of a row's vertical weights (pixels/scale.h)
H_ONE = 16384  # sum of a pixel's horizontal weights


def shared(weight: I64, one: int) -> I64:
    """Weights (dst, src) brought to the sum `one` in each row, rounded cumulatively."""
    total = weight.sum(axis=1, keepdims=True)
    edges = (np.cumsum(weight, axis=1) * one + total // 2) // total
    return np.asarray(np.diff(edges, axis=1, prepend=0))


def axis(src: int, dst: int, flip: bool, one: int) -> I64:
    """Weights (dst, src) of the triangle filter, in exact integers: see share() in pixels/axis.c."""
    i = np.arange(dst, dtype=np.int64)[:, None]
    j = np.arange(src, dtype=np.int64)[None, :]
    share = shared(np.maximum(0, 2 * max(src, dst) - np.abs(2 * dst * j - ((2 * i + 1) * src - dst))), one)
    flipped: I64 = share[::-1]
    return flipped if flip else share


def bayer_axis(quads: int, dst: int, parity: int, centre: int, one: int) -> I64:
    """Weights (dst, quads) of the quads' first or second samples.

    A sample counts `centre` in its own pixel and 1 in either neighbour's, each by the area inside the output.
    """
    i = np.arange(dst, dtype=np.int64)[:, None]
    own = 2 * np.arange(quads, dtype=np.int64)[None, :] + parity

    def cover(m: I64) -> I64:
        last, first = np.minimum(2 * (i + 1) * quads, (m + 1) * dst), np.maximum(2 * i * quads, m * dst)
        return np.asarray(np.maximum(0, last - first))

    return shared(cover(own - 1) + centre * cover(own) + cover(own + 1), one)


def plane_scaled(plane: U8, width: int, height: int, flip_x: bool = False, flip_y: bool = False) -> U8:
    """One plane (rows, columns) through the vertical, then the horizontal filter."""
    mixed = (axis(plane.shape[0], height, flip_y, V_ONE) @ plane.astype(np.int64) + 1) >> 1
    out = (mixed @ axis(plane.shape[1], width, flip_x, H_ONE).T + (1 << 20)) >> 21
    return out.astype(np.uint8)


def planes_of(fourcc: str, buffer: U8, width: int, height: int, stride: int) -> tuple[U8, U8, U8]:
    """Y (height, width), U and V (rows of chroma, width / 2) of a picture in memory."""
    if fourcc == "NV12":
        rows = buffer[: stride * height * 3 // 2].reshape(height * 3 // 2, stride)[:, :width]
        return rows[:height], rows[height:, 0::2], rows[height:, 1::2]
    rows = buffer[: stride * height].reshape(height, stride)[:, : 2 * width]
    return rows[:, 0::2], rows[:, 1::4], rows[:, 3::4]


def convert_scale(
    src_fourcc: str,
    src: U8,
    size: tuple[int, int, int],
    dst_fourcc: str,
    placed: tuple[int, int],
    *,
    flip_x: bool = False,
    flip_y: bool = False,
) -> tuple[U8, U8, U8]:
    """The planes of the picture that Scaler makes; size is (width, height, stride), placed (width, height)."""
    width, height = placed
    y, u, v = planes_of(src_fourcc, src, *size)
    rows = height // 2 if dst_fourcc == "NV12" else height
    if placed == size[:2] and not flip_x and not flip_y:
        if src_fourcc == dst_fourcc:
            return y, u, v
        if src_fourcc == "NV12":
            return y, u.repeat(2, axis=0), v.repeat(2, axis=0)
        mean = [((c[0::2].astype(np.uint16) + c[1::2] + 1) >> 1).astype(np.uint8) for c in (u, v)]
        return y, mean[0], mean[1]
    return (
        plane_scaled(y, width, height, flip_x, flip_y),
        plane_scaled(u, width // 2, rows, flip_x, flip_y),
        plane_scaled(v, width // 2, rows, flip_x, flip_y),
    )
