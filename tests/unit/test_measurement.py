# SPDX-License-Identifier: GPL-2.0-or-later
"""Measurement: numbers of a frame that do not depend on how it was developed."""

from __future__ import annotations

import pytest

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
    assert corner.samples < bright.samples
    assert corner.contrast != pytest.approx(bright.contrast, rel=0.05)


def test_a_window_is_at_least_a_zone_and_inside() -> None:
    rig = Rig("35mm", 3, SMALL)
    rig.frame()
    assert rig._statistics is not None
    for window in (Window(0, 0, 0, 0), Window(0.99, 0.99, 1, 1), Window(-1, -1, 0.5, 0.5), Window(0, 0, 1, 1)):
        assert measure(rig._statistics, window).samples > 0
