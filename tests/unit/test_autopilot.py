# SPDX-License-Identifier: GPL-2.0-or-later
"""Autopilot: a module's controls with switches of ours among them; all converge, and a person wins at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from maglens_driver.color import white_xyz
from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.errors import Refused
from maglens_driver.raw import Illuminant
from maglens_v4l2.auto_focus import Status
from maglens_v4l2.auto_white_balance import LIMITS_K
from maglens_v4l2.autopilot import Autopilot
from maglens_v4l2.recipe import Recipe
from maglens_v4l2.switches import APERTURE_PRIORITY, MANUAL_EXPOSURE, switches_for
from tests.bench.auto_rig import Rig

pytestmark = pytest.mark.asyncio
TURNS = 20  # of the loop, in which the worker does what it has to


class Stay:
    """A module on the rig, its autopilot, and who listens."""

    def __init__(self, lens: str = "35mm", seed: int = 1, size: tuple[int, int] = (640, 480)) -> None:
        self.rig = Rig(lens, seed, size)
        self.rig.at_udpt = 1_000_000
        self.told: list[tuple[int, int]] = []
        self.writes: list[dict[int, int]] = []
        self.recipes: list[Recipe] = []
        self.refuse = False
        self.gate: asyncio.Event | None = None
        self.it = Autopilot(
            self.rig.mode,
            [c for c in self.rig.descriptor.controls if c.id != Cid.WHITE_BALANCE_TEMPERATURE],
            {k: v for k, v in self.rig.values.items() if k != Cid.WHITE_BALANCE_TEMPERATURE},
            self.write,
            tune=self.tune,
            tell=lambda control, value: self.told.append((control, value)),
        )

    async def write(self, values: Mapping[int, int]) -> Mapping[int, int]:
        if self.gate is not None:
            await self.gate.wait()
        if self.refuse:
            raise Refused("BUSY", "not now")
        self.writes.append(dict(values))
        return self.rig.write(values)

    def tune(self, recipe: Recipe) -> None:
        self.recipes.append(recipe)
        self.rig.book.tune(recipe)

    async def run(self, frames: int) -> None:
        for _ in range(frames):
            self.it.observe(self.rig.frame())
            for _ in range(TURNS):
                await asyncio.sleep(0)

    def value(self, control: int) -> int:
        return self.it.values[control]


async def test_a_raw_module_looks_like_a_camera_with_automatics() -> None:
    stay = Stay(size=(256, 192))
    infos = {info.id: info for info in stay.it.controls}
    assert len(infos) == len(stay.it.controls)
    assert infos[Cid.FOCUS_AUTO].type is ControlType.BOOLEAN
    assert infos[Cid.AUTO_FOCUS_STATUS].flags is ControlFlag.READ_ONLY
    assert {item for item, _ in infos[Cid.EXPOSURE_AUTO].menu} == {0, 1, 2, 3}
    assert stay.value(Cid.EXPOSURE_AUTO) == APERTURE_PRIORITY
    assert set(stay.it.values) >= set(infos) - {Cid.AUTO_FOCUS_START, Cid.AUTO_FOCUS_STOP}
    await stay.it.close()


async def test_what_a_module_does_by_itself_is_not_offered() -> None:
    module = {info.id: info for info in Rig("35mm", 1, (256, 192)).descriptor.controls}
    every = {info.id for info in switches_for(module, True)}
    own = {info.id: info for info in switches_for(module, True) if info.id in (Cid.FOCUS_AUTO, Cid.EXPOSURE_AUTO)}
    assert every - {info.id for info in switches_for(module | own, True)} == own.keys()
    assert not {Cid.FOCUS_AUTO, Cid.AUTO_FOCUS_STATUS} & {info.id for info in switches_for(module, False)}
    fixed = {control: info for control, info in module.items() if control != Cid.IRIS_ABSOLUTE}
    menu = next(info.menu for info in switches_for(fixed, True) if info.id == Cid.EXPOSURE_AUTO)
    assert {item for item, _ in menu} == {1, 3}


async def test_all_three_converge_and_apps_are_told() -> None:
    stay = Stay()
    stay.rig.light, stay.rig.kelvin = 0.3, 3200
    await stay.run(70)
    seen = stay.rig.frame()
    assert seen.luma * stay.it._trim == pytest.approx(0.18, rel=0.05)
    assert stay.value(Cid.WHITE_BALANCE_TEMPERATURE) == pytest.approx(3200, abs=200)
    assert stay.recipes[-1].kelvin == pytest.approx(3200, abs=200)
    assert stay.value(Cid.AUTO_FOCUS_STATUS) == Status.REACHED
    assert stay.rig.blur_circles(stay.rig.optics()) < 1
    assert stay.value(Cid.FOCUS_ABSOLUTE) == pytest.approx(100, abs=2)
    told = {control for control, _ in stay.told}
    assert told >= {Cid.EXPOSURE_ABSOLUTE, Cid.WHITE_BALANCE_TEMPERATURE, Cid.FOCUS_ABSOLUTE, Cid.AUTO_FOCUS_STATUS}
    assert Cid.IRIS_ABSOLUTE not in told  # aperture priority: a person's
    infos = {info.id: info for info in stay.it.controls}
    assert [(c, v) for c, v in stay.told if infos[c].clamp(v) != v] == []  # values that apps could have written
    assert all(a != b for a, b in itertools.pairwise(t for t in stay.told if t[0] == Cid.WHITE_BALANCE_TEMPERATURE))
    await stay.it.close()


async def test_focus_waits_for_light_and_begins_again_when_it_changes() -> None:
    stay = Stay(seed=3)
    stay.rig.light = 40.0
    await stay.run(2)
    assert not any(Cid.FOCUS_FINE in w for w in stay.writes)
    await stay.run(18)
    assert stay.value(Cid.AUTO_FOCUS_STATUS) == Status.BUSY
    stay.rig.light = 0.05
    await stay.run(80)
    assert stay.value(Cid.AUTO_FOCUS_STATUS) == Status.REACHED
    assert stay.rig.blur_circles(stay.rig.optics()) < 1
    await stay.it.close()


async def test_a_hand_on_the_ring_wins_at_once() -> None:
    stay = Stay()
    await stay.run(10)
    assert stay.value(Cid.AUTO_FOCUS_STATUS) == Status.BUSY
    stay.gate = asyncio.Event()  # the next of its writes is on its way when the hand comes
    await stay.run(6)
    writes = len(stay.writes)
    assert stay.it.hand(Cid.FOCUS_ABSOLUTE, 321) == {Cid.FOCUS_AUTO: 0}
    assert stay.value(Cid.AUTO_FOCUS_STATUS) == Status.IDLE
    told = len(stay.told)
    stay.gate.set()
    await stay.run(20)
    focus = [w for w in stay.writes[writes + 1 :] if w.keys() & {Cid.FOCUS_FINE, Cid.FOCUS_ABSOLUTE}]
    assert focus == [{Cid.FOCUS_ABSOLUTE: 321}]  # what was on its way has moved it once more
    assert stay.rig.values[Cid.FOCUS_ABSOLUTE] == 321
    assert not [c for c, _ in stay.told[told:] if c in (Cid.FOCUS_ABSOLUTE, Cid.FOCUS_FINE)]
    assert stay.value(Cid.FOCUS_ABSOLUTE) == 321
    await stay.it.close()


async def test_an_apps_write_ends_what_it_contradicts_and_nothing_else() -> None:
    stay = Stay()
    await stay.run(12)
    await stay.it.set({Cid.FOCUS_AUTO: 0, Cid.FOCUS_ABSOLUTE: 150})
    await stay.it.set({Cid.AUTO_WHITE_BALANCE: 0, Cid.WHITE_BALANCE_TEMPERATURE: 4000})
    await stay.run(5)
    writes = len(stay.writes)
    stay.rig.light, stay.rig.kelvin = 3.0, 7000
    await stay.run(20)
    assert stay.value(Cid.WHITE_BALANCE_TEMPERATURE) == 4000
    assert stay.recipes[-1].kelvin == pytest.approx(4000)
    assert stay.value(Cid.FOCUS_ABSOLUTE) == 150
    assert {control for w in stay.writes[writes:] for control in w} <= {Cid.EXPOSURE_ABSOLUTE, Cid.GAIN}
    assert stay.writes[writes:]
    await stay.it.close()


@pytest.mark.parametrize(
    ("off", "moved"),
    [
        ({Cid.EXPOSURE_AUTO: MANUAL_EXPOSURE, Cid.AUTOGAIN: 0}, {Cid.EXPOSURE_ABSOLUTE, Cid.GAIN}),
        ({Cid.FOCUS_AUTO: 0}, {Cid.FOCUS_FINE}),
    ],
)
async def test_what_is_on_its_way_when_an_app_takes_over_is_told_and_nothing_follows(
    off: dict[int, int], moved: set[int]
) -> None:
    """Else apps see a value that the module has not, and to write that one changes nothing."""
    stay = Stay(size=(256, 192))
    await stay.run(12)
    stay.gate = asyncio.Event()
    flying = {Cid.EXPOSURE_ABSOLUTE: 123, Cid.GAIN: 2000, Cid.FOCUS_FINE: 1_500_000}
    stay.it._want({control: value for control, value in flying.items() if control in moved})
    await stay.run(1)
    writes = len(stay.writes)
    stay.it._want({control: value + 1000 for control, value in flying.items() if control in moved})
    await stay.it.set(off)
    stay.gate.set()
    await stay.run(20)
    assert [w for w in stay.writes[writes + 1 :] if w.keys() & moved] == []
    assert {c: stay.value(c) for c in moved} == {c: stay.rig.values[c] for c in moved}
    assert moved <= {control for control, _ in stay.told}
    stay.rig.light *= 0.25
    await stay.it.set({Cid.EXPOSURE_AUTO: APERTURE_PRIORITY, Cid.AUTOGAIN: 1})
    await stay.run(20)
    assert stay.rig.frame().luma * stay.it._trim == pytest.approx(0.18, rel=0.05)  # and it can be taken back
    await stay.it.close()


async def test_an_apps_write_that_the_module_refuses_ends_its_automatic_and_that_is_told() -> None:
    """Else apps see a switch that is on, and to switch it on again changes nothing."""
    stay = Stay(size=(256, 192))
    await stay.run(3)
    stay.refuse = True
    with pytest.raises(Refused):
        await stay.it.set({Cid.FOCUS_AUTO: 0, Cid.FOCUS_ABSOLUTE: 150})
    assert stay.value(Cid.FOCUS_AUTO) == 0
    assert (Cid.FOCUS_AUTO, 0) in stay.told
    await stay.it.close()


async def test_exposure_goes_on_after_an_apps_write_that_the_module_refuses() -> None:
    """What exposure was about to write was dropped for it."""
    stay = Stay(size=(256, 192))
    await stay.run(12)
    await stay.it.set({Cid.FOCUS_AUTO: 0})
    stay.gate = asyncio.Event()
    stay.it._want({Cid.FOCUS_FINE: 0})  # is on its way when ...
    await stay.run(1)
    stay.rig.light *= 0.5
    await stay.run(6)
    wanted = dict(stay.it._pending)  # ... exposure wants these, and an app the same ones
    assert wanted.keys() & {Cid.EXPOSURE_ABSOLUTE, Cid.GAIN}
    writing = asyncio.create_task(stay.it.set(dict.fromkeys(wanted, 1000)))
    await asyncio.sleep(0)
    stay.refuse = True
    stay.gate.set()
    with pytest.raises(Refused):
        await writing
    stay.refuse = False
    await stay.run(20)
    assert stay.rig.frame().luma * stay.it._trim == pytest.approx(0.18, rel=0.05)
    await stay.it.close()


async def test_manual_exposure_is_manual_and_the_iris_ring_is_made_up_for() -> None:
    stay = Stay(size=(256, 192))
    await stay.run(20)
    wide = stay.value(Cid.IRIS_ABSOLUTE)
    stay.rig.write({Cid.IRIS_ABSOLUTE: wide - 200})
    assert stay.it.hand(Cid.IRIS_ABSOLUTE, wide - 200) == {}
    await stay.run(20)
    assert stay.rig.frame().luma * stay.it._trim == pytest.approx(0.18, rel=0.05)
    assert stay.value(Cid.IRIS_ABSOLUTE) == wide - 200
    await stay.it.set({Cid.EXPOSURE_AUTO: MANUAL_EXPOSURE, Cid.AUTOGAIN: 0, Cid.EXPOSURE_ABSOLUTE: 50})
    assert stay.recipes[-1].brightness == 1.0
    writes = [w for w in stay.writes if Cid.EXPOSURE_ABSOLUTE in w]
    stay.rig.light = 5.0
    await stay.run(20)
    assert [w for w in stay.writes if Cid.EXPOSURE_ABSOLUTE in w] == writes
    assert stay.value(Cid.EXPOSURE_ABSOLUTE) == 50
    await stay.it.close()


async def test_an_iris_that_was_moved_before_the_first_frame_is_known_all_the_same() -> None:
    """As what is stored for a module is written when it comes: its first frames are still of another aperture."""
    stay = Stay(size=(256, 192))
    await stay.it.set({Cid.IRIS_ABSOLUTE: stay.value(Cid.IRIS_ABSOLUTE) - 500})
    await stay.run(12)
    await stay.it.set({Cid.EXPOSURE_AUTO: 0})
    for stops in (5, -2):
        stay.rig.light *= 2.0**stops
        await stay.run(12)
        assert stay.rig.frame().luma * stay.it._trim == pytest.approx(0.18, rel=0.05)
    await stay.it.close()


async def test_buttons_start_and_stop_one_search() -> None:
    stay = Stay()
    await stay.it.set({Cid.FOCUS_AUTO: 0})
    await stay.run(5)
    assert stay.value(Cid.AUTO_FOCUS_STATUS) == Status.IDLE
    await stay.it.set({Cid.AUTO_FOCUS_START: 1})
    assert stay.value(Cid.AUTO_FOCUS_STATUS) == Status.BUSY
    await stay.it.set({Cid.AUTO_FOCUS_STOP: 1})
    assert stay.value(Cid.AUTO_FOCUS_STATUS) == Status.IDLE
    await stay.it.set({Cid.AUTO_FOCUS_START: 1})
    await stay.run(60)
    assert stay.value(Cid.AUTO_FOCUS_STATUS) == Status.REACHED
    assert stay.rig.blur_circles(stay.rig.optics()) < 1
    await stay.it.close()


async def test_whoever_ends_it_can_be_cancelled_meanwhile() -> None:
    stay = Stay()
    stay.gate = asyncio.Event()
    write = stay.write

    async def stubborn(values: Mapping[int, int]) -> Mapping[int, int]:
        try:
            return await write(values)
        finally:
            await asyncio.shield(held.wait())

    held = asyncio.Event()
    stay.it._write = stubborn
    stay.it._want({Cid.FOCUS_FINE: 0})
    for _ in range(TURNS):
        await asyncio.sleep(0)
    closing = asyncio.create_task(stay.it.close())
    for _ in range(TURNS):
        await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    held.set()
    await stay.it.close()


@pytest.mark.parametrize(("control", "light", "least"), [(Cid.GAIN, 0.3, 650), (Cid.EXPOSURE_ABSOLUTE, 5000.0, 1)])
@pytest.mark.parametrize("honest", [True, False])
async def test_ranges_that_begin_at_zero_do_not_end_it(control: Cid, light: float, least: int, honest: bool) -> None:
    """No picture is taken in no time or with no gain: the least is what lets light through. Nor does a module end it
    that says it does so at present."""
    rig = Rig("35mm", 1, (256, 192))
    rig.light = light
    rig.controls[control] = replace(rig.controls[control], minimum=0, step=1)

    async def write(values: Mapping[int, int]) -> Mapping[int, int]:
        return rig.write(values)

    it = Autopilot(
        rig.mode,
        tuple(rig.controls.values()),
        rig.values if honest else rig.values | {control: 0},
        write,
        tune=rig.book.tune,
        tell=lambda control, value: None,
    )
    for _ in range(30):
        it.observe(rig.frame())
        for _ in range(TURNS):
            await asyncio.sleep(0)
    if honest:
        assert least <= rig.values[control] <= 1.2 * least
    await it.close()


async def test_a_module_that_refuses_is_asked_again() -> None:
    stay = Stay(size=(256, 192))
    stay.rig.light = 4.0
    stay.refuse = True
    await stay.run(6)
    stay.refuse = False
    assert stay.writes == []
    await stay.run(20)
    assert stay.rig.frame().luma * stay.it._trim == pytest.approx(0.18, rel=0.05)
    assert any(Cid.FOCUS_FINE in w for w in stay.writes)
    await stay.it.close()


@pytest.mark.parametrize("iris", [-(2**31), 2**31 - 1])
async def test_an_iris_that_no_lens_has_does_not_end_it(iris: int) -> None:
    """The range is the module's word, and so is what it says of its ring."""
    stay = Stay(size=(256, 192))
    await stay.run(2)
    stay.it.hand(Cid.IRIS_ABSOLUTE, iris)
    await stay.run(4)
    late = Stay(size=(256, 192))  # and it may say so from the first
    late.it.hand(Cid.IRIS_ABSOLUTE, iris)
    await late.run(4)
    await stay.it.close()
    await late.it.close()


async def test_a_light_that_the_modules_matrices_do_not_reach_is_taken_for_the_last_that_they_do() -> None:
    """They are looked at where the automatics go, and a person may go further."""
    rig = Rig("35mm", 1, (256, 192))
    least = white_xyz(12_000)  # from here on nothing is red
    camera = np.array([[1.0, 0.0, -least[0] / least[2]], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    facts = replace(rig.facts, illuminants=(Illuminant(5000, tuple(np.linalg.inv(camera).flat)),))
    control = ControlInfo(Cid.WHITE_BALANCE_TEMPERATURE, "Light", ControlType.INTEGER, 1000, 40_000, 1, 5600)
    recipes: list[Recipe] = []

    async def never(values: Mapping[int, int]) -> Mapping[int, int]:
        raise AssertionError(values)

    it = Autopilot(
        replace(rig.mode, raw=facts), [control], {control.id: 5600}, never,
        tune=recipes.append, tell=lambda control, value: None,
    )  # fmt: skip
    it.hand(control.id, 40_000)
    assert it.values[control.id] == 40_000
    assert recipes[-1].kelvin == LIMITS_K[1]
    it.hand(control.id, 5600)
    assert recipes[-1].kelvin == pytest.approx(5600)
    await it.close()


async def test_a_defect_while_it_writes_is_told_with_the_next_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing would be written any more, and nobody would know."""
    stay = Stay(size=(256, 192))
    monkeypatch.setattr(stay.it, "_wrote", lambda wanted, written: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await stay.run(20)
    with pytest.raises(ZeroDivisionError):
        await stay.it.close()
