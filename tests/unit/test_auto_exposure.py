# SPDX-License-Identifier: GPL-2.0-or-later
"""Auto exposure against the optics model, a noisy sensor, two frames of latency and the pixel kernel's statistics."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from maglens_driver.control import Cid, ControlInfo, ControlType
from maglens_v4l2 import auto_exposure
from maglens_v4l2.auto_exposure import TARGET, TRANSITIONS, AutoExposure, ExposureState
from maglens_v4l2.exposure_program import MAX_TRIM, Exposure, ExposureProgram, Free
from tests.bench.auto_rig import INTERVAL, Rig
from tests.unit.state_diagram import drawn, listed

SMALL = (256, 192)
WITHIN = 12  # frames after a step until it is right
STEADY = 100  # frames over which it then keeps still
S = ExposureState


def program_of(rig: Rig) -> ExposureProgram:
    fnumber = rig.descriptor.lens.fnumber_milli[1] / 1000
    time, gain, iris = (rig.controls.get(cid) for cid in (Cid.EXPOSURE_ABSOLUTE, Cid.GAIN, Cid.IRIS_ABSOLUTE))
    return ExposureProgram(time, gain, iris, float(INTERVAL), fnumber)


def exposure_of(program: ExposureProgram, values: Mapping[int, int]) -> Exposure:
    return Exposure(
        values[Cid.EXPOSURE_ABSOLUTE] / 10_000, values[Cid.GAIN] / 1000, program.fnumber(values[Cid.IRIS_ABSOLUTE])
    )


class Loop:
    """Rig and controller in a loop; `ratios` is how far each frame is from the target."""

    def __init__(self, lens: str, seed: int, free: Free = Free(), mains: int = 1) -> None:  # noqa: B008 frozen
        self.rig = Rig(lens, seed, SMALL)
        self.program = program_of(self.rig)
        self.it = AutoExposure(self.program, exposure_of(self.program, self.rig.values))
        self.it.steer(free, mains)
        self.ratios: list[float] = []
        self.writes = 0

    def is_in(self, state: ExposureState) -> bool:
        return self.it.state is state

    def run(self, frames: int) -> None:
        for _ in range(frames):
            seen = self.rig.frame()
            self.ratios.append(seen.luma * self.it.asked.trim / TARGET)
            wanted = self.it.observe(seen)
            if wanted is None:
                continue
            self.writes += 1
            values: dict[int, int] = {
                Cid.EXPOSURE_ABSOLUTE: round(wanted.time_s * 10_000),
                Cid.GAIN: round(wanted.gain * 1000),
                Cid.IRIS_ABSOLUTE: self.program.iris_value(wanted.fnumber),
            }
            self.rig.write(values)
            self.it.wrote(wanted)


def test_the_diagram_is_the_table() -> None:
    assert drawn(auto_exposure.__doc__, ExposureState) == listed(TRANSITIONS)
    assert set(TRANSITIONS) == set(ExposureState)


@pytest.mark.parametrize("lens", ["35mm", "73mm", "234mm"])
@pytest.mark.parametrize("step", [1 / 16, 0.8, 3, 24])
def test_right_soon_after_a_step_and_then_still(lens: str, step: float) -> None:
    loop = Loop(lens, seed=round(step * 100))
    loop.rig.light = 1.0 if lens != "234mm" else 2.0
    loop.run(40)
    assert loop.is_in(S.STEADY)
    loop.rig.light *= step
    loop.run(WITHIN)
    before = len(loop.ratios)
    loop.run(STEADY)
    after = loop.ratios[before:]
    assert all(abs(ratio - 1) < 0.05 for ratio in after), after
    assert max(after) / min(after) - 1 < 0.02
    assert loop.is_in(S.STEADY)


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
    assert loop.is_in(S.LIMITED)
    assert loop.rig.values[Cid.GAIN] == loop.rig.controls[Cid.GAIN].maximum
    assert loop.it.asked.trim == MAX_TRIM
    writes = loop.writes
    loop.run(30)
    assert loop.writes == writes
    loop.rig.light = 1.0
    loop.run(WITHIN)
    assert loop.is_in(S.STEADY)
    assert abs(loop.ratios[-1] - 1) < 0.05


def test_what_a_person_holds_is_left_to_them() -> None:
    loop = Loop("35mm", 6, Free(time=False, gain=True, iris=True))
    time = loop.rig.values[Cid.EXPOSURE_ABSOLUTE]
    loop.run(30)
    assert loop.rig.values[Cid.EXPOSURE_ABSOLUTE] == time
    assert abs(loop.ratios[-1] - 1) < 0.05
    loop.it.steer(Free(False, False, False), 1)
    assert loop.is_in(S.OFF)
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


def test_share_opens_before_it_amplifies() -> None:
    """With all free, gain stays at its least while the iris can open, and time at a pulse while it can close."""
    now = Exposure(0.01, 1.0, 2.8)
    shares = [PROGRAM.share(now.light * 2**k, now, Free(iris=True), 1) for k in range(-6, 7)]
    for darker, brighter in itertools.pairwise(shares):
        assert darker.fnumber >= brighter.fnumber
    assert all(s.gain == 1.0 for s in shares if s.fnumber > 1.45)
    assert all(s.time_s == pytest.approx(0.01) for s in shares if 1.45 < s.fnumber < 10.9)
