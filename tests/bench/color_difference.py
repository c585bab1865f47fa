# SPDX-License-Identifier: GPL-2.0-or-later
"""Color difference as people see it: CIEDE2000 (Luo, Cui and Rigg 2001; formulas as in Sharma, Wu and Dalal 2005)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maglens_driver.color import XYZ_OF_SRGB
from tests.bench.pixel_quality import MARGIN, Planes
from tests.bench.pixel_raw_reference import F64


def lab_of(planes: Planes) -> F64:
    """CIE L*a*b* under D65 (height, width, 3) of limited-range BT.601 planes; a chroma sample serves four pixels."""
    y = (planes.y.astype(np.float64) - 16) / 219
    u, v = ((c.astype(np.float64).repeat(2, axis=0).repeat(2, axis=1) - 128) / 224 for c in (planes.u, planes.v))
    red, blue = y + 1.402 * v, y + 1.772 * u
    rgb = np.clip(np.dstack([red, (y - 0.299 * red - 0.114 * blue) / 0.587, blue]), 0, 1)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ XYZ_OF_SRGB.T / XYZ_OF_SRGB.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.dstack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])])


def delta_e_2000(one: F64, other: F64) -> F64:
    """Difference of L*a*b* colours, last axis 3."""
    (l1, a1, b1), (l2, a2, b2) = (np.moveaxis(np.asarray(lab, np.float64), -1, 0) for lab in (one, other))
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + 25.0**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    grey = c1 * c2 == 0
    turn = np.where(grey, 0, (h2 - h1 + 180) % 360 - 180)
    dl, dc, dh = l2 - l1, c2 - c1, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = _mean_hue(h1, h2, grey)
    t = (
        1
        - 0.17 * np.cos(np.radians(hue - 30))
        + 0.24 * np.cos(np.radians(2 * hue))
        + 0.32 * np.cos(np.radians(3 * hue + 6))
        - 0.20 * np.cos(np.radians(4 * hue - 63))
    )
    away = (lightness - 50) ** 2
    sl = 1 + 0.015 * away / np.sqrt(20 + away)
    sc, sh = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    swing = 30 * np.exp(-(((hue - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(np.radians(2 * swing))
    return np.asarray(np.sqrt((dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rotation * dc / sc * dh / sh))


def _mean_hue(h1: F64, h2: F64, grey: NDArray[np.bool_]) -> F64:
    total = h1 + h2
    wide = abs(h1 - h2) > 180
    mean = np.where(wide, np.where(total < 360, total + 360, total - 360), total) / 2
    return np.asarray(np.where(grey, total, mean))


def mean_difference(one: Planes, other: Planes) -> float:
    """Of two pictures, edges left out."""
    inside = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return float(delta_e_2000(lab_of(one)[inside], lab_of(other)[inside]).mean())
