# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics: what a raw frame measured while it was developed, for exposure, white balance and focus."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maglens_driver.frame import Meta
from maglens_driver.mode import Mode
from maglens_v4l2.recipe import Recipe

WHITE: Final = 8191  # linear light at which a colour is full
HISTOGRAM: Final = 128  # steps of WHITE + 1
ZONES: Final = (16, 12)  # columns and rows, fewer in small frames


class Field(enum.IntEnum):
    """Last index of :attr:`Statistics.zones`; sums over the zone's quads (2 x 2 samples, one quad row in four)."""

    QUADS = 0  # how many were measured
    CLIPPED = 1  # of these, with a colour at 98 % of white or above; left out of R, G and B
    R = 2
    G = 3  # of both greens: twice as large as R and B for the same light
    B = 4
    LUMA = 5  # (R + 2 G + B) / 4 of every quad
    CONTRAST = 6  # squared differences of neighbouring greens, each difference / 8


@dataclass(frozen=True, slots=True)
class Statistics:
    """One frame, measured in linear light after black level, vignetting and ``recipe``'s gains (before its matrix).

    ``zones``: uint64 (rows, columns, 7), see :class:`Field`. ``histogram``: uint64 (128,), counts of LUMA. Both are
    used again: copy what is kept after the callback has returned. ``recipe`` has gains and brightness as they were in
    use, cut to what the pixel kernel takes. ``meta`` says how the frame was exposed, ``mode.raw`` what is known of
    the sensor; ``seq``, ``exposure_ns`` and ``generation`` are the frame's.
    """

    generation: int
    seq: int
    exposure_ns: int
    mode: Mode
    meta: Meta
    recipe: Recipe
    zones: NDArray[np.uint64]
    histogram: NDArray[np.uint64]
