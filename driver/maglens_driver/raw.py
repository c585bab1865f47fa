# SPDX-License-Identifier: MIT
"""Raw facts: what developing a mode's raw samples takes, as its source knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Illuminant:
    """Under a light of ``kelvin``: ``to_xyz`` turns linear camera R, G, B into CIE XYZ; nine values, row by row."""

    kelvin: int
    to_xyz: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RawFacts:
    """Samples of one mode: ``bits`` each, ``black`` without light, ``white`` where they saturate.

    ``illuminants``: none, one, or two, the warmer first. ``vignetting``: the gain that undoes it, at even steps of
    the squared distance from the centre (first) to the corner (last); empty for none. ``pixel_nm``: from the
    middle of one pixel of the frame to the next on the sensor; 0 unknown.
    """

    bits: int
    black: float
    white: float
    illuminants: tuple[Illuminant, ...] = ()
    vignetting: tuple[float, ...] = ()
    pixel_nm: int = 0
