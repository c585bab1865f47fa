# SPDX-License-Identifier: GPL-2.0-or-later
"""The measures of quality measure what they say."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench import pixel_swscale
from tests.bench.color_difference import delta_e_2000, lab_of
from tests.bench.pixel_quality import Planes

# From the test data of Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula" (2005).
PAIRS = (
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 3.1571, -77.2803), (50.0, 0.0, -82.7485), 2.8615),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0009), 7.1792),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
)


@pytest.mark.parametrize(("one", "other", "apart"), PAIRS)
def test_color_difference_is_the_published_one(
    one: tuple[float, ...], other: tuple[float, ...], apart: float
) -> None:
    assert float(delta_e_2000(np.array(one), np.array(other))) == pytest.approx(apart, abs=5e-5)
    assert float(delta_e_2000(np.array(other), np.array(one))) == pytest.approx(apart, abs=5e-5)


def test_lab_of_grey_white_and_red() -> None:
    """Luma 235 is L* 100; BT.601's red (Y 81.48, Cb 90.2, Cr 240) is sRGB's, L*a*b* (53.24, 80.09, 67.20)."""
    planes = Planes(np.array([[235.0, 16.0], [81.48, 81.48]]), np.array([[128.0]]), np.array([[128.0]]))
    assert lab_of(planes)[0, 0] == pytest.approx((100, 0, 0), abs=0.01)
    assert lab_of(planes)[0, 1] == pytest.approx((0, 0, 0), abs=0.01)
    red = Planes(np.full((2, 2), 81.481), np.array([[90.203]]), np.array([[240.0]]))
    assert lab_of(red)[0, 0] == pytest.approx((53.24, 80.09, 67.20), abs=0.05)


def test_a_peer_that_is_not_installed_is_not_left_out_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    with pytest.raises(RuntimeError, match="libswscale, a peer of the bench, is not installed"):
        pixel_swscale.to_yuv(np.zeros((2, 4), np.uint16), "RGGB")
