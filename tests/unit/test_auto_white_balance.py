# SPDX-License-Identifier: GPL-2.0-or-later
"""Auto white balance on coloured scenes that average neutral, under lights from tungsten to shade. `make bench` runs
fifty seeds of the first."""

from __future__ import annotations

import numpy as np
import pytest

from maglens_driver.color import MAX_K, MIN_K
from maglens_v4l2 import auto_white_balance
from maglens_v4l2.auto_white_balance import LIMITS_K, TRANSITIONS, AutoWhiteBalance, BalanceState
from maglens_v4l2.exposure_program import MAX_TRIM
from maglens_v4l2.recipe import recipe_for
from tests.bench.auto_rig import Rig
from tests.bench.auto_runs import LENSES, STOPS
from tests.bench.auto_white_balance_bench import Attempt, attempt, follow, told
from tests.unit.state_diagram import drawn, listed

SMALL = (256, 192)
S = BalanceState


def test_the_diagram_is_the_table() -> None:
    assert drawn(auto_white_balance.__doc__, BalanceState) == listed(TRANSITIONS)
    assert set(TRANSITIONS) == set(BalanceState)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("kelvin", [2850, 4000, 7500])
def test_within_200_kelvin_on_scenes_that_average_neutral(lens: str, stop: float | None, kelvin: int) -> None:
    found = attempt(lens, stop, seed=kelvin, kelvin=kelvin)
    assert found.kept, found


@pytest.mark.parametrize("kelvin", [2500, 2800])
def test_warm_light_is_found_in_the_dark_too_where_the_pixel_kernel_has_no_gain_left(kelvin: int) -> None:
    """What exposure could not do is made up for by brightness, and blue needs most of the gain already."""
    rig = Rig("35mm", 1, SMALL)
    rig.kelvin = kelvin
    it = AutoWhiteBalance(rig.facts, 5600)
    it.start()
    for _ in range(25):
        rig.book.tune(recipe_for(rig.facts, it.kelvin, MAX_TRIM))
        it.observe(rig.frame())
    assert abs(it.kelvin - kelvin) < 50


def test_an_attempt_that_misses_is_told() -> None:
    """The measure itself can fail."""
    assert not Attempt(5600, 200.1, True).kept
    assert not Attempt(5600, 10, False).kept
    case, steady = told(("35mm", None), [Attempt(5600, 10, True), Attempt(3000, 300, False)])
    assert (case.ours, case.ratio, steady.ours) == (300, 1.5, 0.5)


@pytest.mark.parametrize("kelvin", [0, -5, 2**31 - 1])
def test_a_temperature_that_no_light_has_is_held_to_the_nearest(kelvin: int) -> None:
    facts = Rig("35mm", 0, SMALL).facts
    it = AutoWhiteBalance(facts, kelvin)
    assert MIN_K <= round(it.kelvin) <= MAX_K
    it.stop(5600)
    assert round(it.kelvin) == 5600
    it.stop(kelvin)
    assert MIN_K <= round(it.kelvin) <= MAX_K


def test_steady_light_is_not_followed_and_a_new_one_is() -> None:
    rig = Rig("35mm", 4, SMALL, coloured=True)
    it = AutoWhiteBalance(rig.facts, 5600)
    it.start()
    follow(rig, it, 40)
    assert follow(rig, it, 60) == []
    rig.kelvin = 3000
    assert follow(rig, it, 60)
    assert abs(it.kelvin - 3000) < 200


def test_what_no_light_is_coloured_like_stops_at_the_limits() -> None:
    rig = Rig("35mm", 5, SMALL, coloured=True)
    rig._scene[:, :, 0] *= 8  # a red wall
    rig.light = 0.1
    it = AutoWhiteBalance(rig.facts, 5600)
    it.start()
    follow(rig, it, 60)
    assert it.kelvin == pytest.approx(LIMITS_K[0], rel=0.01)


def test_the_dark_and_the_blown_out_say_nothing() -> None:
    rig = Rig("35mm", 6, SMALL)
    it = AutoWhiteBalance(rig.facts, 5000)
    it.start()
    for light in (0.0, 1000.0):
        rig.light = light
        assert follow(rig, it, 3) == []
    it.stop(4321)
    rig.light = 1.0
    assert follow(rig, it, 5) == []
    assert it.kelvin == pytest.approx(4321)
    with pytest.raises(AssertionError, match="no way from off to steady"):
        it._enter(S.STEADY)


@pytest.mark.parametrize(
    ("limits", "kelvin"), [((5000, 5000), 5000), ((1500, 2000), 2000), ((11_000, 12_000), 11_000), ((0, 0), MIN_K)]
)
def test_a_module_of_one_light_is_developed_for_that(limits: tuple[int, int], kelvin: int) -> None:
    rig = Rig("35mm", 1, SMALL)
    it = AutoWhiteBalance(rig.facts, 4000, limits)
    it.start()
    follow(rig, it, 40)
    assert it.limits == (kelvin, kelvin)
    assert it.kelvin == pytest.approx(kelvin, rel=0.01)
    assert it.state is S.STEADY


def test_matrices_that_make_no_sense_are_refused() -> None:
    from dataclasses import replace

    rig = Rig("35mm", 7, SMALL)
    lights = tuple(replace(light, to_xyz=tuple(np.eye(3)[::-1].ravel())) for light in rig.facts.illuminants)
    with pytest.raises(ValueError, match="warm light"):
        AutoWhiteBalance(replace(rig.facts, illuminants=lights), 5000)
