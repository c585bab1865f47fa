# SPDX-License-Identifier: GPL-2.0-or-later
"""Autopilot and modules that say odd things: what can be done is done, and no word of theirs ends it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maglens_driver.control import Cid, ControlInfo, ControlType
from maglens_driver.errors import Refused
from maglens_driver.frame import Meta
from maglens_driver.mode import SRGGB10P, make_mode
from maglens_driver.virtual.lens import load_lens
from maglens_v4l2.auto_focus import LATE, Status
from maglens_v4l2.autopilot import Autopilot
from maglens_v4l2.focus_search import CONFUSION_PER_DIAGONAL, FocusScale
from maglens_v4l2.measurement import UDPT_PER_CDPT, Measurement

MODE: Final = load_lens("35mm").descriptor.with_facts(make_mode(SRGGB10P, 640, 480, Fraction(1, 30)))
META: Final = Meta(8000, 1000, 2800, 0, 35_000, 5600, 0)
SEEN: Final = Measurement(0, META, 0.18, 0.0, 0.5, 0.5, 1e-3, 1e-6)
BLURRED: Final = 6.0  # circles that halve what is seen of a scene
TURNS: Final = 4  # of the loop, in which the worker does what it has to
MOVED: Final = (
    Cid.EXPOSURE_ABSOLUTE, Cid.GAIN, Cid.IRIS_ABSOLUTE, Cid.FOCUS_FINE, Cid.FOCUS_ABSOLUTE,
    Cid.WHITE_BALANCE_TEMPERATURE,
)  # fmt: skip
U32: Final = 2**32 - 1
I32: Final = 2**31 - 1


def control(control: Cid, low: int, high: int, step: int = 1, default: int | None = None) -> ControlInfo:
    default = low if default is None else default
    return ControlInfo(control, control.name, ControlType.INTEGER, low, high, step, default)


class Stay:
    """One that takes what is written, as it has clamped it. ``look``: what a frame is like at the present values."""

    def __init__(
        self,
        infos: Sequence[ControlInfo],
        look: Callable[[Mapping[int, int]], Measurement],
        values: Mapping[int, int] | None = None,
    ) -> None:
        self.infos = {info.id: info for info in infos}
        self.values = {info.id: info.default for info in infos} if values is None else dict(values)
        self.look = look
        self.refuse = False
        self.refused: set[int] = set()  # when everything else that comes with them is taken
        nobody: Callable[..., None] = lambda *_: None  # noqa: E731
        self.it = Autopilot(MODE, infos, self.values, self.write, tune=nobody, tell=nobody)

    async def write(self, values: Mapping[int, int]) -> Mapping[int, int]:
        if self.refuse:
            raise Refused("BUSY", "not now")
        clamped = {control: self.infos[control].clamp(value) for control, value in values.items()}
        self.values |= {control: value for control, value in clamped.items() if control not in self.refused}
        if self.refused & values.keys():
            raise Refused("INVALID", "not that one")
        return clamped

    async def run(self, frames: int) -> None:
        for _ in range(frames):
            self.it.observe(self.look(self.values))
            for _ in range(TURNS):
                await asyncio.sleep(0)


def focused(udpt: int, near: float, meta: Meta = META) -> Measurement:
    """A scene at ``near`` dioptres, whose contrast goes with the circles of confusion from there to the focus."""
    assert MODE.raw is not None
    diagonal_m = math.hypot(MODE.width, MODE.height) * MODE.raw.pixel_nm / 1e9
    scale = FocusScale(meta.focal_um / 1e6, meta.fnumber_milli / 1000, diagonal_m * CONFUSION_PER_DIAGONAL)
    away = scale.circles(udpt) - scale.circles(near * 1e6)
    contrast = 1e-3 / (1 + (away / BLURRED) ** 2) + 1e-5
    return replace(SEEN, meta=replace(meta, focus_udpt=udpt), contrast=contrast, noise=1e-8)


@pytest.mark.asyncio
@pytest.mark.parametrize(("near", "end"), [(0.2, 0), (2.9, 3_000_000)])
async def test_a_motor_of_two_positions_goes_to_the_better_one(near: float, end: int) -> None:
    stay = Stay([control(Cid.FOCUS_FINE, 0, 3_000_000, 3_000_000)], lambda v: focused(v[Cid.FOCUS_FINE], near))
    await stay.run(40)
    assert stay.it.values[Cid.AUTO_FOCUS_STATUS] == Status.REACHED
    assert stay.values[Cid.FOCUS_FINE] == end
    await stay.it.close()


class Slow:
    """Frames of a scene at ``near`` dioptres, each two late; whether they ``tell`` where focus was."""

    def __init__(self, near: float, tells: bool, focal_um: int = META.focal_um) -> None:
        self.near, self.tells = near, tells
        self.meta = replace(META, focal_um=focal_um)
        self.late: list[int] = []

    def __call__(self, values: Mapping[int, int]) -> Measurement:
        udpt = values.get(Cid.FOCUS_FINE, values.get(Cid.FOCUS_ABSOLUTE, 0) * UDPT_PER_CDPT)
        self.late = [*self.late[-2:], udpt]
        seen = focused(self.late[0], self.near, self.meta)
        return seen if self.tells else replace(seen, meta=self.meta)


@pytest.mark.asyncio
@pytest.mark.parametrize("near", [0.4, 1.234, 2.9])
async def test_a_module_that_does_not_tell_its_focus_is_found_out(near: float) -> None:
    """The first position is waited for as long as one that moves slowly; the others are not."""
    stay = Stay([control(Cid.FOCUS_FINE, 0, 3_000_000, 500)], Slow(near, tells=False))
    await stay.run(LATE + 80)
    assert stay.it.values[Cid.AUTO_FOCUS_STATUS] == Status.REACHED
    assert stay.values[Cid.FOCUS_FINE] == pytest.approx(near * 1e6, abs=20_000)
    await stay.it.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("near", [0.04, 0.22, 0.71])
async def test_a_picture_of_one_step_is_none_of_the_next(near: float, tells: bool) -> None:
    """Before a long lens, a hundredth of a dioptre is many circles of confusion."""
    stay = Stay([control(Cid.FOCUS_ABSOLUTE, 0, 100)], Slow(near, tells, 234_000))
    await stay.run(80)
    assert stay.it.values[Cid.AUTO_FOCUS_STATUS] == Status.REACHED
    assert stay.values[Cid.FOCUS_ABSOLUTE] == round(100 * near)
    await stay.it.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(("most", "focal_um"), [(0, 35_000), (500_000, 2_700)])
async def test_a_lens_that_is_sharp_wherever_it_is_stays_there(most: int, focal_um: int) -> None:
    """One position, or a way that is shorter than the depth of field."""
    infos = [control(Cid.FOCUS_FINE, 0, most, default=most // 2)]
    stay = Stay(infos, lambda v: focused(v[Cid.FOCUS_FINE], 0.1, replace(META, focal_um=focal_um)))
    await stay.run(20)
    assert stay.it.values[Cid.AUTO_FOCUS_STATUS] == Status.REACHED
    assert stay.values[Cid.FOCUS_FINE] == pytest.approx(most / 2, abs=1)
    await stay.it.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("most", "focal_um", "said"),
    [
        (20_000_000, 50_000, 0),  # as near as its focal length
        (30_000_000, 50_000, 0),  # nearer
        (3_000_000, 50_000, 20_000_000),  # says that it is there, outside its own range
    ],
)
async def test_a_focus_that_cannot_be_is_none_and_the_rest_goes_on(most: int, focal_um: int, said: int) -> None:
    meta = replace(META, focal_um=focal_um, focus_udpt=said)
    infos = [control(Cid.FOCUS_FINE, 0, most), control(Cid.EXPOSURE_ABSOLUTE, 1, 330, default=80)]
    stay = Stay(infos, lambda values: replace(SEEN, luma=0.04, meta=replace(meta, exposure_us=0)))
    await stay.run(80)
    assert stay.it.values[Cid.AUTO_FOCUS_STATUS] != Status.REACHED
    assert stay.values[Cid.EXPOSURE_ABSOLUTE] > 80
    await stay.it.close()


@pytest.mark.asyncio
async def test_an_iris_of_unknown_aperture_is_left_alone_and_the_rest_goes_on() -> None:
    infos = [control(Cid.IRIS_ABSOLUTE, 0, 600, default=300), control(Cid.EXPOSURE_ABSOLUTE, 1, 330, default=80)]
    stay = Stay(infos, lambda values: replace(SEEN, luma=0.04, meta=Meta()))
    await stay.it.set({Cid.EXPOSURE_AUTO: 0})  # time and iris
    await stay.run(20)
    assert stay.values[Cid.EXPOSURE_ABSOLUTE] > 80
    assert stay.values[Cid.IRIS_ABSOLUTE] == 300
    await stay.it.close()


@pytest.mark.asyncio
async def test_what_was_taken_beside_a_control_that_was_refused_is_known() -> None:
    """Of several that are written at once the module says which it has not taken, and no more."""
    light = 0.02

    def seen(values: Mapping[int, int]) -> Measurement:
        time, gain = values[Cid.EXPOSURE_ABSOLUTE], values[Cid.GAIN]
        meta = replace(META, exposure_us=100 * time, gain_milli=gain)
        return replace(SEEN, luma=light * time / 80 * gain / 1000, meta=meta)

    stay = Stay([control(Cid.EXPOSURE_ABSOLUTE, 1, 330, default=80), control(Cid.GAIN, 1000, 16_000)], seen)
    stay.refused = {Cid.GAIN}
    await stay.run(10)
    assert stay.values == {Cid.EXPOSURE_ABSOLUTE: 300, Cid.GAIN: 1000}  # three pulses of mains light
    assert stay.it.values[Cid.EXPOSURE_ABSOLUTE] == 300
    light = 0.18
    await stay.run(6)
    assert stay.values[Cid.EXPOSURE_ABSOLUTE] == 80
    await stay.it.close()


def numbers(low: int, high: int) -> st.SearchStrategy[int]:
    """Any, and those that are more likely to hurt."""
    usual = [n for n in (low, high, 0, 1, 1000, 20_000_000) if low <= n <= high]
    return st.one_of(st.sampled_from(usual), st.integers(low, high))


@st.composite
def ranges(draw: st.DrawFn, of: Cid) -> ControlInfo:
    """What a descriptor may declare of a control."""
    low, high = sorted((draw(numbers(-I32 - 1, I32)), draw(numbers(-I32 - 1, I32))))
    step = draw(st.sampled_from((1, min(I32, max(1, high - low)), min(I32, max(1, (high - low) // 2)))))
    return control(of, low, high, step, draw(numbers(low, high)))


metas = st.one_of(st.just(META), st.builds(Meta, *(numbers(0, U32) for _ in range(7))))
shares = st.one_of(st.sampled_from((0.0, 1.0)), st.floats(0, 1))
looks = st.builds(
    Measurement, st.just(0), metas, st.floats(0, 2), shares, shares, shares, st.floats(0, 1), st.floats(1e-12, 1)
)


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_a_module_says_of_its_controls_and_frames(data: st.DataObject) -> None:
    asyncio.run(_whatever(data))


async def _whatever(data: st.DataObject) -> None:
    infos = [data.draw(ranges(of)) for of in data.draw(st.sets(st.sampled_from(MOVED)))]
    seen = data.draw(st.lists(looks, min_size=1, max_size=4))
    values = {info.id: data.draw(numbers(info.minimum, info.maximum)) for info in infos}
    try:
        stay = Stay(infos, lambda now: seen[0], values)
    except ValueError:  # refused with its reason
        return
    try:
        for each in seen:
            stay.look = lambda now, each=each: each  # type: ignore[misc]
            stay.refuse = data.draw(st.booleans())
            await stay.run(8)
            info = data.draw(st.sampled_from(stay.it.controls))
            value = data.draw(numbers(info.minimum, info.maximum))
            with contextlib.suppress(Refused):
                await stay.it.set({info.id: value})
            await stay.run(4)
            moved = data.draw(st.sampled_from(stay.it.controls))
            stay.it.hand(moved.id, data.draw(numbers(moved.minimum, moved.maximum)))
            await stay.run(4)
    finally:
        await stay.it.close()
