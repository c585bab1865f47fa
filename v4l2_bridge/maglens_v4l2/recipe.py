# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe: how a raw frame's linear light becomes a picture. Given per frame, by who decides on white balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from maglens_driver.color import DAYLIGHT_K, neutral, to_srgb
from maglens_driver.raw import RawFacts

MAX_GAIN: Final = 3.5  # below the pixel kernel's 3.99, which counts the white level in
_MOST_BESIDE: Final = 2.9  # of a row's first and last entry, without signs: the pixel kernel's limit is 2.99


@dataclass(frozen=True, slots=True)
class Recipe:
    """``gains`` for R, G, B, 0 to :data:`MAX_GAIN`, the least at least 1 where clipped light is to be white.

    ``matrix``: nine entries by rows, from balanced camera RGB to linear sRGB; rows add up to 1. ``kelvin``: the light
    it is meant for. ``brightness``: a further gain of all three.
    """

    gains: tuple[float, float, float]
    matrix: tuple[float, ...]
    kelvin: float
    brightness: float = 1.0


def recipe_for(facts: RawFacts, kelvin: float = DAYLIGHT_K, brightness: float = 1.0) -> Recipe:
    """White under a light of ``kelvin`` becomes white; colours that the pixel kernel cannot mix so far are paler.
    ``ValueError`` where the module's matrices make no sense."""
    white = neutral(facts, kelvin)
    red, green, blue = (float(min(gain, MAX_GAIN)) for gain in white.max() / white)
    matrix = to_srgb(facts, kelvin)
    most = float((abs(matrix[:, 0]) + abs(matrix[:, 2])).max())
    if most > _MOST_BESIDE:
        plain = np.eye(3)
        matrix = plain + (matrix - plain) * (_MOST_BESIDE - 1) / (most + 1)
    return Recipe((red, green, blue), tuple(float(v) for v in matrix.flat), kelvin, brightness)
