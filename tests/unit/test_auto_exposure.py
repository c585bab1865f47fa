# SPDX-License-Identifier: GPL-2.0-or-later
"""Auto exposure against the optics model, a noisy sensor, two frames of latency and the pixel kernel's statistics.
`make bench` runs fifty seeds of the first."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from maglens_driver.control import Cid, ControlInfo, ControlType
from maglens_v4l2 import auto_exposure
from maglens_v4l2.auto_exposure import TRANSITIONS, ExposureState
from maglens_v4l2.exposure_program import MAX_TRIM, Exposure, ExposureProgram, Free
from tests.bench.auto_exposure_bench import STEADY, WITHIN, Loop, attempt, judged, told
from tests.bench.auto_runs import LENSES, STOPS
from tests.unit.state_diagram import drawn, listed

S = ExposureState


def is_in(loop: Loop, state: ExposureState) -> bool:
    return loop.it.state is state


def test_the_diagram_is_the_table() -> None:
    assert drawn(auto_exposure.__doc__, ExposureState) == listed(TRANSITIONS)
    assert set(TRANSITIONS) == set(ExposureState)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("iris", [False, True])
def test_right_soon_after_a_step_and_then_still(lens: str, stop: float | None, iris: bool) -> None:
    found = attempt(lens, stop, seed=1 + 2 * iris, iris=iris)
    assert abs(found.stops) > 0.5
    assert found.kept, found


@pytest.mark.parametrize("lens", ["35mm", "73mm"])
def test_from_night_into_the_sun(lens: str) -> None:
    """Twelve stops: what clips altogether may be a hundred times too bright."""
    found = attempt(lens, None, seed=18, iris=True)
    assert found.stops > 11
    assert found.kept, found


def test_an_attempt_that_misses_is_told() -> None:
    """The measure itself can fail: late, wrong again long after, or unsteady."""
    right = [1.0] * (WITHIN + STEADY)
    assert judged([2.0] * WITHIN + right[WITHIN:], 1).kept
    assert not judged([2.0] * (WITHIN + 1) + right[WITHIN + 1 :], 1).kept
    assert not judged([*right[:-1], 0.94], 1).kept
    assert not judged([*right[:-1], 1.021], 1).kept
    late = judged([2.0] * (WITHIN + 3) + right, 1)
    frames, _ = told(("35mm", 8.0), [judged(right, 1), late], iris=True)
    assert (frames.case, frames.ours, frames.ratio) == ("auto/exposure/iris/35mm/f8/frames", 15, 1.25)


@pytest.mark.parametrize(("mains", "hertz", "still"), [(1, 50, True), (2, 60, True), (0, 50, False)])
def test_whole_pulses_of_mains_light_keep_still(mains: int, hertz: int, still: bool) -> None:
    loop = Loop("35mm", 3, mains=mains)
    loop.rig.light, loop.rig.mains_hz = 0.5, hertz
    loop.run(40)
    before = len(loop.ratios)
    loop.run(60)
    after = loop.ratios[before:]
    assert (max(after) / min(after) - 1 < 0.02) is still, (min(after), max(after))


def test_as_much_as_the_module_can_and_no_hunting_there() -> None:
    loop = Loop("35mm", 5)
    loop.rig.light = 0.001
    loop.run(40)
    assert is_in(loop, S.LIMITED)
    assert loop.rig.values[Cid.GAIN] == loop.rig.controls[Cid.GAIN].maximum
    assert loop.it.asked.trim == MAX_TRIM
    writes = loop.writes
    loop.run(30)
    assert loop.writes == writes
    loop.rig.light = 1.0
    loop.run(WITHIN)
    assert is_in(loop, S.STEADY)
    assert abs(loop.ratios[-1] - 1) < 0.05


@pytest.mark.parametrize("share", [0.35, 0.5])
def test_no_hunting_where_one_colour_clips_in_a_dark_picture(share: float) -> None:
    """Blue light of a stage: it clips before the picture is bright, and what clips is not all that there is."""
    loop = Loop("35mm", 5)
    scene = loop.rig._scene
    scene[:] = 0.01
    scene[:, : round(scene.shape[1] * share)] = (0.05, 0.05, 1.0)
    loop.rig._coloured = True
    loop.run(30)
    assert is_in(loop, S.LIMITED)
    writes = loop.writes
    loop.run(30)
    assert loop.writes == writes
    assert 0.5 < loop.ratios[-1] < 1
    scene[:] = 0.18  # white light again
    loop.run(WITHIN)
    assert is_in(loop, S.STEADY)


def test_what_a_person_holds_is_left_to_them() -> None:
    loop = Loop("35mm", 6, Free(time=False, gain=True, iris=True))
    time = loop.rig.values[Cid.EXPOSURE_ABSOLUTE]
    loop.run(30)
    assert loop.rig.values[Cid.EXPOSURE_ABSOLUTE] == time
    assert abs(loop.ratios[-1] - 1) < 0.05
    loop.it.steer(Free(False, False, False), 1)
    assert is_in(loop, S.OFF)
    loop.rig.light = 9.0
    writes = loop.writes
    loop.run(20)
    assert loop.writes == writes
    with pytest.raises(AssertionError, match="no way from off to steady"):
        loop.it._enter(S.STEADY)


def info(control: Cid, low: int, high: int, step: int = 1) -> ControlInfo:
    return ControlInfo(control, control.name, ControlType.INTEGER, low, high, step, low)


PROGRAM = ExposureProgram(
    info(Cid.EXPOSURE_ABSOLUTE, 1, 320),
    info(Cid.GAIN, 1000, 16000, 100),
    info(Cid.IRIS_ABSOLUTE, 0, 595),
    1 / 30,
    11.0,
)


@pytest.mark.parametrize("free", [Free(), Free(iris=True), Free(time=False, iris=True), Free(gain=False)])
@pytest.mark.parametrize("mains", [0, 1, 2])
def test_shares_add_up_and_keep_to_whole_pulses(free: Free, mains: int) -> None:
    now = Exposure(0.01, 1.0, 2.8)
    for exponent in range(-24, 25):
        light = now.light * 2 ** (exponent / 3)
        share = PROGRAM.share(light, now, free, mains)
        pulse = {0: 0.0001, 1: 0.01, 2: 1 / 120}[mains]
        if share.time_s >= pulse and free.time:
            assert abs(share.time_s / pulse - round(share.time_s / pulse)) < 0.02
        assert share.time_s <= 0.032 + 1e-9
        assert 1 <= share.trim <= MAX_TRIM
        if not free.time:
            assert share.time_s == now.time_s
        if not free.gain:
            assert share.gain == now.gain
        if free == Free() and 2**-3 <= light / now.light <= 2**5:
            assert share.light == pytest.approx(light, rel=1e-6)


@pytest.mark.parametrize("rate", [12, 15, 24, 25, 30, 48, 50, 60, 90, 100, 120])
@pytest.mark.parametrize("mains", [0, 1, 2])
def test_no_exposure_is_longer_than_its_frame(rate: int, mains: int) -> None:
    """Two pulses at 60 Hz are 16.67 ms, as a frame is at 60 a second: in whole tenths that is too long."""
    program = replace(PROGRAM, time=info(Cid.EXPOSURE_ABSOLUTE, 1, 10_000), interval_s=1 / rate)
    now = Exposure(0.001, 1.0, 2.8)
    share = program.share(now.light * 1000, now, Free(), mains)
    assert 0.9 / rate - 0.01 <= share.time_s <= 1 / rate


def test_share_opens_before_it_amplifies() -> None:
    """With all free, gain stays at its least while the iris can open, and time at a pulse while it can close."""
    now = Exposure(0.01, 1.0, 2.8)
    shares = [PROGRAM.share(now.light * 2**k, now, Free(iris=True), 1) for k in range(-6, 7)]
    for darker, brighter in itertools.pairwise(shares):
        assert darker.fnumber >= brighter.fnumber
    assert all(s.gain == 1.0 for s in shares if s.fnumber > 1.45)
    assert all(s.time_s == pytest.approx(0.01) for s in shares if 1.45 < s.fnumber < 10.9)
