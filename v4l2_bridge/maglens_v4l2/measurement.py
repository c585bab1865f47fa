# SPDX-License-Identifier: GPL-2.0-or-later
"""Measurement: what the automatics need to know of one raw frame, in numbers that do not depend on how it was exposed
or developed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maglens_driver.frame import Meta
from maglens_v4l2.statistics import WHITE, Field, Statistics

UDPT_PER_CDPT: Final = 10_000
_CENTRE_WEIGHT: Final = 2.0  # of the middle half each way, for exposure
_DARK: Final = 0.004  # of white: light below it says nothing about colour
# Variance of a mean of squared differences of noise, times their number: 2 if they were independent, 3 as neighbours
# share a sample, and more as light is uneven inside a zone.
_NOISE: Final = 4.0
_MOST_CLIPPED: Final = 0.2  # of a zone: what is left of it says nothing about colour


@dataclass(frozen=True, slots=True)
class Window:
    """Part of the picture, in shares of its width and height from the upper left."""

    left: float = 0.3125
    top: float = 0.3125
    width: float = 0.375
    height: float = 0.375


@dataclass(frozen=True, slots=True)
class Measurement:
    """One frame.

    ``luma``: mean linear light, the middle counting double, white 1 at the recipe's gains but without its brightness;
    ``clipped``: share of the picture with a colour at white; ``red``, ``blue``: of what is neither dark nor clipped,
    relative to green, as the sensor has it (0: nothing to go by); ``contrast`` inside the focus window, relative to
    the square of the light there; ``noise``: its standard deviation from frame to frame if the sensor's noise were
    all that it is.
    """

    seq: int
    meta: Meta
    luma: float
    clipped: float
    red: float
    blue: float
    contrast: float
    noise: float

    @property
    def focus_udpt(self) -> int:
        """Where focus was, millionths of a dioptre."""
        return self.meta.focus_udpt or self.meta.focus_cdpt * UDPT_PER_CDPT


def measure(statistics: Statistics, window: Window) -> Measurement:
    """Sums up one frame's zones; keeps no reference to them. No piece of memory for it is larger than 4 KiB."""
    zones = statistics.zones
    quads = np.maximum(zones[:, :, Field.QUADS], 1)
    light = zones[:, :, Field.LUMA] / quads / WHITE
    rows, columns = quads.shape
    weight = quads * np.where(_middle(rows)[:, None] & _middle(columns)[None, :], _CENTRE_WEIGHT, 1.0)
    red, blue = _colour(zones, quads, light, statistics)
    inside = zones[_part(window.top, window.height, rows), _part(window.left, window.width, columns)]
    total = inside.sum(axis=(0, 1))
    seen = max(total[Field.QUADS], 1)
    there = max(total[Field.LUMA] / seen, 1.0)
    spread = inside[..., Field.CONTRAST].astype(np.float64) ** 2 / np.maximum(inside[..., Field.QUADS], 1)
    return Measurement(
        statistics.seq,
        statistics.meta,
        float((light * weight).sum() / weight.sum()) / statistics.recipe.brightness,
        float(zones[:, :, Field.CLIPPED].sum() / quads.sum()),
        red,
        blue,
        float(total[Field.CONTRAST] / seen / there**2),
        math.sqrt(_NOISE * float(spread.sum())) / seen / there**2,
    )


def _middle(n: int) -> NDArray[np.bool_]:
    centre = (np.arange(n) + 0.5) / n
    return np.asarray(abs(centre - 0.5) < 0.25)


def _part(start: float, share: float, n: int) -> slice:
    """Zones that a part of the picture touches; at least one."""
    first = min(max(int(start * n + 1e-9), 0), n - 1)
    return slice(first, max(first + 1, min(n, int(np.ceil((start + share) * n - 1e-9)))))


def _colour(
    zones: NDArray[np.uint64], quads: NDArray[np.uint64], light: NDArray[np.float64], statistics: Statistics
) -> tuple[float, float]:
    useful = (light > _DARK) & (zones[:, :, Field.CLIPPED] < _MOST_CLIPPED * quads)
    red, green, blue = (float(zones[useful, field].sum()) for field in (Field.R, Field.G, Field.B))
    if min(red, green, blue) <= 0:
        return 0.0, 0.0
    gains = statistics.recipe.gains
    green /= 2 * gains[1]
    return red / gains[0] / green, blue / gains[2] / green
