# SPDX-License-Identifier: GPL-2.0-or-later
"""Measurement: numbers of a frame that do not depend on how it was developed."""

from __future__ import annotations

import numpy as np
import pytest

from maglens_driver.control import Cid
from maglens_v4l2.measurement import Window, measure
from maglens_v4l2.recipe import recipe_for
from tests.bench.auto_rig import Rig

SMALL = (256, 192)


def test_recipe_and_brightness_make_no_difference_to_colour() -> None:
    rig = Rig("35mm", 1, SMALL, coloured=True)
    rig.light, rig.kelvin = 0.4, 4200
    before = rig.frame()
    rig.book.tune(recipe_for(rig.facts, 3000, 1.2))
    after = rig.frame()
    assert (after.red, after.blue) == pytest.approx((before.red, before.blue), rel=0.01)
    rig.book.tune(recipe_for(rig.facts, 5600, 1.2))
    assert rig.frame().luma == pytest.approx(before.luma, rel=0.01)


def test_contrast_is_relative_to_the_light_and_of_the_window_alone() -> None:
    rig = Rig("35mm", 2, SMALL)
    rig.at_udpt = rig.optics().focus_dpt * 1e6
    bright = rig.frame()
    rig.light = 0.5
    assert rig.frame().contrast == pytest.approx(bright.contrast, rel=0.1)
    rig.window = Window(0, 0, 0.25, 0.25)
    corner = rig.frame()
    assert corner.contrast != pytest.approx(bright.contrast, rel=0.05)


def test_a_window_is_at_least_a_zone_and_inside() -> None:
    rig = Rig("35mm", 3, SMALL)
    rig.frame()
    assert rig._statistics is not None
    for window in (Window(0, 0, 0, 0), Window(0.99, 0.99, 1, 1), Window(-1, -1, 0.5, 0.5), Window(0, 0, 1, 1)):
        assert measure(rig._statistics, window).noise > 0


@pytest.mark.parametrize("gain", [1, 16])
@pytest.mark.parametrize("uneven", [0.0, 0.9])
def test_noise_is_what_contrast_varies_by_where_there_is_nothing_to_see(gain: int, uneven: float) -> None:
    rig = Rig("73mm", 4)
    slope = np.linspace(1 - uneven, 1 + uneven, rig._scene.shape[1], dtype=np.float32)
    rig._scene = np.broadcast_to(0.18 * slope[None, :, None], rig._scene.shape)
    rig.at_udpt = rig.optics().focus_dpt * 1e6
    rig.write({Cid.GAIN: 1000 * gain})
    rig.skip()
    rig.skip()
    rig.light = 1 / rig.optics().brightness()
    seen = [rig.frame() for _ in range(60)]
    assert 0.65 < np.std([s.contrast for s in seen]) / np.mean([s.noise for s in seen]) < 1.1


def test_one_sharp_thing_does_not_pass_for_noise_of_the_whole_window() -> None:
    """Noise is judged zone by zone: where all contrast is in a few zones, less is known of it."""
    rig = Rig("73mm", 5)
    rig._scene = np.full_like(rig._scene, 0.18)
    rig.at_udpt = rig.optics().focus_dpt * 1e6
    plain = rig.frame()
    rig._scene[240:250, 320:330] = 0.9
    edge = rig.frame()
    assert edge.contrast > 2 * plain.contrast
    assert edge.noise / edge.contrast > 2 * plain.noise / plain.contrast
