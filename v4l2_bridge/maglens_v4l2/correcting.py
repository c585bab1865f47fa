# SPDX-License-Identifier: GPL-2.0-or-later
"""Correcting: the converter that undoes what a bare lens before a camera does."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from maglens_driver.frame import Frame
from maglens_driver.mode import NV12, Mode, make_mode
from maglens_v4l2._pixels import Remap
from maglens_v4l2.convert import make_converter
from maglens_v4l2.optics import Optics
from maglens_v4l2.orientation import UPRIGHT, Orientation, upright_converter
from maglens_v4l2.recipe_book import Measured, RecipeBook

_MILLION: Final = 1_000_000
_ONE: Final = 256  # a pixel, in the table's positions
_GAIN_ONE: Final = 4096
_MOST_GAIN: Final = 0xFFFF
_GAMMA: Final = 0.45  # pictures are not linear: a gain of light is this power of it in them (BT.709, roughly)

Table = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint16]]


def table(optics: Optics, width: int, height: int, shrink: int) -> Table:
    """Where each pixel comes from, and its gain: arrays of ``height / shrink`` rows of ``width / shrink``.

    ``shrink`` is 1 for luma and 2 for chroma, whose samples lie in the middle of four pixels. A point of the
    corrected picture at distance r from the middle (1: the corner) is found at r + distortion(r), in the part of the
    camera's picture that the lens fills.
    """
    rows, columns = height // shrink, width // shrink
    half_w, half_h = width / 2, height / 2
    diagonal = float(np.hypot(half_w, half_h))
    x = ((np.arange(columns) + 0.5) * shrink - half_w)[None, :]
    y = ((np.arange(rows) + 0.5) * shrink - half_h)[:, None]
    radius = np.hypot(x, y) / diagonal
    found = radius + _curve(optics.calibration.distortion, radius, 0.0)
    stretch = np.divide(found, radius, out=np.ones_like(radius), where=radius > 0)
    crop = optics.profile.crop / _MILLION
    across = crop * (-1 if "horizontal" in optics.profile.flip else 1)
    down = crop * (-1 if "vertical" in optics.profile.flip else 1)
    from_x = (x * stretch * across + half_w) / shrink - 0.5
    from_y = (y * stretch * down + half_h) / shrink - 0.5
    outside = (from_x < -0.5) | (from_y < -0.5) | (from_x > columns - 0.5) | (from_y > rows - 0.5)
    gain = _curve(optics.calibration.vignetting, found**2, 1.0) ** _GAMMA
    return (
        _fixed(from_x, columns, outside),
        _fixed(from_y, rows, outside),
        np.minimum(np.rint(gain * _GAIN_ONE), _MOST_GAIN).astype(np.uint16),
    )


def _curve(points: tuple[int, ...], at: NDArray[np.float64], default: float) -> NDArray[np.float64]:
    """A calibration curve at ``at`` (0 centre, 1 corner), straight between its points; the last one beyond them."""
    if not points:
        return np.full_like(at, default)
    return np.interp(at, np.linspace(0, 1, len(points)), np.array(points) / _MILLION)


def _fixed(position: NDArray[np.float64], pixels: int, outside: NDArray[Any]) -> NDArray[np.int32]:
    inside = np.clip(position, 0, pixels - 1)
    return np.where(outside, -1, np.rint(inside * _ONE)).astype(np.int32)


class OpticsConverter:
    """From a camera's mode to the node's, through a lens: to NV12 where it is none, remapped, then to the node's."""

    def __init__(
        self,
        optics: Optics,
        src: Mode,
        dst: Mode,
        orientation: Orientation = UPRIGHT,
        book: RecipeBook | None = None,
        measured: Measured | None = None,
    ) -> None:
        """Makes the tables: seconds for a large picture. Raises ``Refused``."""
        stage = make_mode(NV12, src.width, src.height, src.interval)
        layout = src if src.fourcc == NV12 and src.ycbcr is None else stage
        self._first = make_converter(src, layout, book, measured)
        self._last = upright_converter(stage, dst, orientation)
        luma, chroma = (table(optics, src.width, src.height, shrink) for shrink in (1, 2))
        self._remap = Remap(src.width, src.height, layout.stride, stage.stride, luma, chroma)
        self._taken = memoryview(bytearray(stage.nbytes if self._first is not None else 0))
        self._moved = memoryview(bytearray(stage.nbytes if self._last is not None else 0))
        self._stage, self._orientation = stage, orientation

    def to(self, dst: Mode) -> OpticsConverter:
        """The same way to another mode of the node. The tables are used again, for they are of the camera's picture,
        and the memory too: one of the two may run at a time. Raises ``Refused``."""
        other = copy(self)
        other._last = upright_converter(self._stage, dst, self._orientation)
        other._moved = memoryview(bytearray(self._stage.nbytes if other._last is not None else 0))
        return other

    def run(self, frame: Frame, dst: memoryview) -> str | None:
        """See :class:`~maglens_v4l2.convert.Converter`."""
        cause, source = None, frame.lease.view[: frame.nbytes]
        if self._first is not None:
            cause, source = self._first.run(frame, self._taken), self._taken
        if self._last is None:
            self._remap.run(source, dst)
            return cause
        self._remap.run(source, self._moved)
        moved = Frame(_Held(self._moved), self._stage.nbytes, self._stage, frame.seq, frame.exposure_ns, 0)
        return self._last.run(moved, dst) or cause


@dataclass(frozen=True, slots=True)
class _Held:
    """A buffer of the converter's own, for a step that wants a lease."""

    view: memoryview

    def release(self) -> None:
        """Nobody else has it."""
