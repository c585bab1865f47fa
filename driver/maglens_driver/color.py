# SPDX-License-Identifier: MIT
"""Color: from a camera's colours under a light to linear sRGB, by what its maker measured under two lights.

Temperatures are correlated colour temperatures in kelvin. The picture's primaries, white and transfer function are
sRGB's, which is what the nodes declare to V4L2.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from maglens_driver.raw import RawFacts

F64 = NDArray[np.float64]

DAYLIGHT_K: Final = 5500  # where nobody knows the light
MIN_K: Final = 1800
MAX_K: Final = 15_000
_DAYLIGHT_FROM_K = 4000  # the CIE's daylight locus begins here; below it, black bodies
XYZ_OF_SRGB: Final = np.array(
    [[0.4123908, 0.3575843, 0.1804808], [0.2126390, 0.7151687, 0.0721923], [0.0193308, 0.1191948, 0.9505322]]
)
_CONES: Final = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)  # Bradford
_D65: Final = XYZ_OF_SRGB.sum(axis=1)


def white_xyz(kelvin: float) -> F64:
    """White of a light, Y = 1. Daylight (CIE 15) from 4000 K, below it a black body (Kim and others, 2002)."""
    t = 1000.0 / min(max(kelvin, MIN_K), MAX_K)
    if kelvin >= _DAYLIGHT_FROM_K:
        x = (0.244063, 0.09911, 2.9678, -4.6070) if kelvin <= 7000 else (0.237040, 0.24748, 1.9018, -2.0064)
        x_ = x[0] + x[1] * t + x[2] * t**2 + x[3] * t**3
        y_ = -3.0 * x_**2 + 2.870 * x_ - 0.275
    else:
        x_ = 0.179910 + 0.8776956 * t - 0.2343589 * t**2 - 0.2661239 * t**3
        if kelvin < 2222:
            y_ = -0.20219683 + 2.18555832 * x_ - 1.34811020 * x_**2 - 1.1063814 * x_**3
        else:
            y_ = -0.16748867 + 2.09137015 * x_ - 1.37418593 * x_**2 - 0.9549476 * x_**3
    return np.array([x_ / y_, 1.0, (1 - x_ - y_) / y_])


def adapted(kelvin: float) -> F64:
    """Turns XYZ as seen under D65 into XYZ as seen under a light of ``kelvin``."""
    return np.asarray(np.linalg.inv(_CONES) @ np.diag((_CONES @ white_xyz(kelvin)) / (_CONES @ _D65)) @ _CONES)


def camera_to_xyz(facts: RawFacts, kelvin: float) -> F64:
    """Camera RGB to XYZ under a light: between the two measured ones in proportion to 1 / kelvin, else the nearer;
    sRGB's own where nothing was measured."""
    lights = [(light.kelvin, np.array(light.to_xyz).reshape(3, 3)) for light in facts.illuminants]
    if not lights:
        return XYZ_OF_SRGB
    (warm, first), (cool, last) = lights[0], lights[-1]
    if warm == cool:
        return first
    share = (1 / kelvin - 1 / warm) / (1 / cool - 1 / warm)
    share = min(max(share, 0.0), 1.0)
    return np.asarray(first * (1 - share) + last * share)


def neutral(facts: RawFacts, kelvin: float) -> F64:
    """What the camera's R, G, B say of a white surface under a light, G = 1. ``ValueError`` where that is no colour
    (the matrices are a module's word)."""
    try:
        rgb = np.linalg.solve(camera_to_xyz(facts, kelvin), white_xyz(kelvin))
    except np.linalg.LinAlgError as error:
        raise ValueError("its colour matrix cannot be inverted") from error
    if not (np.isfinite(rgb).all() and (rgb > 0).all()):
        raise ValueError(f"its colour matrices make white at {kelvin:.0f} K {rgb.round(3).tolist()}")
    return np.asarray(rgb / rgb[1])


def to_srgb(facts: RawFacts, kelvin: float) -> F64:
    """White-balanced camera RGB to linear sRGB; white stays white, so each row adds up to 1."""
    there = adapted(kelvin) @ XYZ_OF_SRGB
    matrix = np.linalg.solve(there, camera_to_xyz(facts, kelvin) @ np.diag(neutral(facts, kelvin)))
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def temperature_of(facts: RawFacts, red: float, blue: float) -> float:
    """The light under which white is ``red`` and ``blue`` times the camera's green, by their quotient: that is what
    changes most between warm and cool."""
    low, high = float(MIN_K), float(MAX_K)
    wanted = red / max(blue, 1e-9)
    for _ in range(24):
        middle = 2 / (1 / low + 1 / high)
        r, _, b = neutral(facts, middle)
        low, high = (middle, high) if r / b > wanted else (low, middle)
    return 2 / (1 / low + 1 / high)
