# SPDX-License-Identifier: GPL-2.0-or-later
"""Auto focus against the optics model: sharp in few positions from anywhere, at once a person's, again when the scene
changes. `make bench` runs fifty seeds of the first."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from maglens_driver.control import Cid
from maglens_v4l2 import auto_focus
from maglens_v4l2.auto_focus import PATIENCE, RETRY, TRANSITIONS, AutoFocus, FocusState, Status
from maglens_v4l2.focus_search import MAX_COARSE, MAX_POSITIONS, MOST_FRAMES, FocusScale, FocusSearch
from maglens_v4l2.measurement import Measurement
from tests.bench.auto_focus_bench import Attempt, attempt
from tests.bench.auto_rig import CONFUSION, LATENCY, Rig
from tests.bench.auto_runs import LENSES, STOPS
from tests.unit.state_diagram import drawn, listed

SEEDS = 2
S = FocusState


def test_the_diagram_is_the_table() -> None:
    assert drawn(auto_focus.__doc__, FocusState) == listed(TRANSITIONS)
    assert set(TRANSITIONS) == set(FocusState)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_sharp_in_few_positions_from_anywhere(lens: str, stop: float | None, seed: int) -> None:
    found = attempt(lens, stop, seed)
    assert found.kept, found
    assert found.positions <= MAX_POSITIONS


@pytest.mark.parametrize(("lens", "seed"), [("35mm", 9), ("73mm", 27), ("73mm", 32)])
def test_a_peak_by_the_end_of_the_range_is_found(lens: str, seed: int) -> None:
    """Nothing lies beyond it to draw a parabola with; and a motor's last step may stop short of the end."""
    found = attempt(lens, 8.0, seed)
    assert found.kept, found


@pytest.mark.parametrize(("lens", "seed"), [("35mm", 201), ("73mm", 210)])
def test_in_dim_light_it_looks_longer_instead_of_giving_up(lens: str, seed: int) -> None:
    """At a gain of 16 what a sweep sees rises from noise by 6 %, twice what one frame varies by."""
    found = attempt(lens, None, seed, gain=16)
    assert found.kept, found


def test_a_search_looks_as_long_as_noise_asks_for() -> None:
    """One frame in good light; most in dim light, until the peak stands out; never for the sake of sharp contrast."""
    for floor, sweep, end in ((1.5e-5, 1, 1), (2.7e-4, MOST_FRAMES, 1)):
        search = FocusSearch(0.0, 400.0, 0.0, 1.5, 0.03 * floor)
        looked = []
        while (z := search.next()) is not None:
            looked.append(search.frames)
            contrast = 4.5e-3 / (4 + (z - 130) ** 2) + floor
            search.add(z, contrast, 0.03 * contrast)
        assert (looked[0], looked[1], looked[-1]) == (sweep, sweep, end)
        assert search.best == pytest.approx(130, abs=1)
    search = FocusSearch(0.0, 400.0, 0.0, 1.5, 3e-5)  # it begins where all is sharp
    search.next()
    search.add(0.0, 1e-3, 3e-5)
    search.next()
    search.add(100.0, 1.5e-5, 5e-7)
    search.next()
    assert search.frames == 1


def test_one_sharp_thing_in_one_zone_is_a_peak() -> None:
    """25 squares would vary by 40 % of their mean if they were noise; what is least sharp tells that they are not."""
    search = FocusSearch(0.0, 400.0, 0.0, 1.5, 1e-6)
    while (z := search.next()) is not None:
        signal = 4.5e-3 / (4 + (z - 130) ** 2)
        search.add(z, signal + 1.5e-5, math.hypot(0.4 * signal, 5e-7))
    assert search.best == pytest.approx(130, abs=1)


def test_a_slope_of_noise_is_no_peak() -> None:
    """Noise is less where blur brings light into the window; that is no focus, however sure the slope."""
    search = FocusSearch(0.0, 400.0, 0.0, 1.5, 0.01)
    while (z := search.next()) is not None:
        search.add(z, 1 + 0.1 * z / 400, 0.01)
    assert search.best is None
    assert search.positions <= MAX_POSITIONS


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("peak", [0.0, 2.0, 50.0, 98.5, 100.0])
@pytest.mark.parametrize("start", [0.0, 0.001, 97.0, 99.999, 100.0])
def test_any_start_leads_to_any_peak(peak: float, start: float, near: bool) -> None:
    search = FocusSearch(0, 100, start, 1.0, 1e-4, near)
    while (z := search.next()) is not None:
        search.add(min(z, 99.99), 1 / (1 + ((z - peak) / 8) ** 2) + 1e-3, 1e-4)
    assert search.best == pytest.approx(peak, abs=0.5)
    assert search.positions <= MAX_POSITIONS


@pytest.mark.parametrize("way", [4.0, 9.6, 16.6, 31.0, 42.0])
@pytest.mark.parametrize("share", [0.04, 0.3, 0.5, 0.96])
def test_on_a_short_way_the_least_sharp_is_not_taken_for_noise(way: float, share: float) -> None:
    """A wide lens or a small aperture: at either end there is still much of the scene's contrast."""
    search = FocusSearch(0.0, way, 0.0, 1.88, 1e-8)
    while (z := search.next()) is not None:
        search.add(z, 1e-3 / (1 + ((z - share * way) / 6) ** 2) + 1e-5, 1e-8)
    assert search.best == pytest.approx(share * way, abs=0.8)
    assert search.positions <= MAX_POSITIONS


def test_an_attempt_that_misses_is_told() -> None:
    """The measure itself can fail: a position two depths of field away is not sharp."""
    assert not Attempt(circles=1.01, positions=3, held=True).kept
    assert not Attempt(circles=0.1, positions=3, held=False).kept
    assert not Attempt(circles=0.1, positions=MAX_POSITIONS + 1, held=True).kept


class Follow:
    """Rig and controller in a loop, frame by frame."""

    def __init__(self, lens: str, seed: int, udpt: int) -> None:
        self.rig = Rig(lens, seed)
        self.rig.at_udpt = udpt
        self.rig.light = 1 / self.rig.optics().brightness()
        fine = self.rig.controls[Cid.FOCUS_FINE]
        self.it = AutoFocus(fine, self.rig.diagonal_m * CONFUSION, self.rig.pixel_m)
        self.writes: list[int] = []

    def run(self, frames: int, until: FocusState | None = None) -> None:
        for _ in range(frames):
            wanted = self.it.observe(self.rig.frame())
            if wanted is not None:
                self.writes.append(wanted)
                self.it.wrote(self.rig.write({Cid.FOCUS_FINE: wanted})[Cid.FOCUS_FINE])
            if self.it.state is until:
                return
        assert until is None, self.it.state

    @property
    def blur(self) -> float:
        return self.rig.blur_circles(self.rig.optics())


def test_continuous_focus_follows_the_scene_and_holds_still_between() -> None:
    loop = Follow("73mm", 1, 700_000)
    loop.it.start(continuous=True)
    assert loop.it.status is Status.BUSY
    loop.run(80, until=S.HELD)
    assert (loop.blur < 1, loop.it.status) == (True, Status.REACHED)
    writes = len(loop.writes)
    loop.run(40)
    assert len(loop.writes) == writes
    for distance, most in ((760_000, 8), (60_000, MAX_POSITIONS)):  # nearby, and far away
        loop.rig.at_udpt = distance
        loop.run(PATIENCE + 3, until=S.SEARCH)
        loop.run(80, until=S.HELD)
        assert loop.blur < 1
        assert loop.it.positions <= most


def test_a_module_that_tells_focus_in_hundredths_is_not_waited_for() -> None:
    """The protocol leaves it to the module: 0 millionths are as the hundredths say."""
    loop = Follow("35mm", 1, 1_234_000)
    frame = loop.rig.frame

    def coarse() -> Measurement:
        seen = frame()
        return replace(seen, meta=replace(seen.meta, focus_udpt=0))

    loop.rig.frame = coarse  # type: ignore[method-assign]
    loop.it.start(continuous=False)
    loop.run(80, until=S.HELD)
    assert loop.blur < 1


def test_one_search_is_one_search() -> None:
    loop = Follow("35mm", 2, 2_000_000)
    loop.it.start(continuous=False)
    loop.run(80, until=S.HELD)
    loop.rig.at_udpt = 100_000
    writes = len(loop.writes)
    loop.run(20)
    assert (loop.it.state, len(loop.writes)) == (S.HELD, writes)


def test_a_person_wins_at_once_wherever_the_search_stands() -> None:
    loop = Follow("35mm", 3, 1_000_000)
    loop.it.start(continuous=True)
    loop.run(2 * LATENCY + 2)
    assert loop.it.state is S.SEARCH
    loop.it.stop()
    assert loop.it.status is Status.IDLE
    loop.rig.write({Cid.FOCUS_FINE: 123_000})
    writes = len(loop.writes)
    loop.run(30)
    assert len(loop.writes) == writes
    assert loop.rig.values[Cid.FOCUS_FINE] == 123_000


def test_nothing_to_focus_on_fails_and_something_later_does_not() -> None:
    loop = Follow("35mm", 4, 1_000_000)
    waves, scene = loop.rig._waves.copy(), loop.rig._scene
    loop.rig._waves[...] = 0
    loop.rig._waves[0, 0] = waves[0, 0]
    loop.rig._scene = np.full_like(scene, scene.mean())  # what is seen where nothing is blurred
    loop.it.start(continuous=True)
    loop.run(80, until=S.FAILED)
    assert loop.it.status is Status.FAILED
    loop.run(4)
    assert loop.rig.values[Cid.FOCUS_FINE] == loop.rig.controls[Cid.FOCUS_FINE].default  # where it had begun
    loop.rig._waves[...], loop.rig._scene = waves, scene
    loop.run(RETRY + 80, until=S.HELD)
    assert loop.blur < 1


def test_a_picture_without_any_contrast_is_searched_no_more_often_than_others() -> None:
    """A cap on the lens and a gain that shows no noise: nothing changes there."""
    loop = Follow("35mm", 4, 1_000_000)
    rig, black = loop.rig, replace(loop.rig.frame(), contrast=0.0, noise=0.0)

    def frame() -> Measurement:
        seen = replace(black, meta=rig.optics().meta())
        rig.skip()
        return seen

    rig.frame = frame  # type: ignore[method-assign]
    loop.it.start(continuous=True)
    loop.run(80, until=S.FAILED)
    writes = len(loop.writes)
    loop.run(RETRY - 5)
    assert (loop.it.state, len(loop.writes)) == (S.FAILED, writes)
    loop.run(10, until=S.SEARCH)


def test_scale_is_the_thin_lens() -> None:
    """Circles between two positions are the blur of a thing at one when focused at the other."""
    rig = Rig("234mm", 0, (256, 192))
    optics = rig.optics()
    scale = FocusScale(optics.focal_mm / 1000, optics.fnumber, rig.diagonal_m * CONFUSION)
    here = round(optics.focus_dpt * 1e6)
    rig.at_udpt = here + 40_000
    apart = abs(scale.circles(rig.at_udpt) - scale.circles(here))
    assert apart == pytest.approx(rig.blur_circles(optics), rel=0.05)
    assert scale.udpt(scale.circles(345_678)) == pytest.approx(345_678)


@pytest.mark.parametrize("peak", [0.0, 3.0, 140.0, 377.0, 400.0])
@pytest.mark.parametrize("near", [False, True])
def test_search_finds_the_top_of_a_hill_in_bounds(peak: float, near: bool) -> None:
    search = FocusSearch(0.0, 400.0, 130.0, 1.5, 1e-7, near)
    while (z := search.next()) is not None:
        assert 0 <= z <= 400
        search.add(z, 1 / (4 + (z - peak) ** 2) + 1e-5, 1e-7)
    assert search.best is not None
    assert abs(search.best - peak) < 1
    assert search.positions <= MAX_POSITIONS


def test_search_ends_on_noise_alone() -> None:
    positions = []
    for seed in range(100):
        search = FocusSearch(0.0, 400.0, 0.0, 1.5, 0.03)
        rng = np.random.default_rng(seed)
        while (z := search.next()) is not None:
            search.add(z, 1 + 0.027 * float(rng.normal()) / math.sqrt(search.frames), 0.03)
        assert search.best is None, seed
        positions.append(search.positions)
    assert np.median(positions) == MAX_COARSE
