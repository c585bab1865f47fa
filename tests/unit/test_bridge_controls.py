# SPDX-License-Identifier: GPL-2.0-or-later
"""Who wins over a control: apps, the ring, automatics, what is stored; and what OBS and Chromium do to a node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType, Origin
from maglens_driver.errors import Deadline, Refused
from maglens_driver.mode import NV12, make_mode
from maglens_v4l2.canonical import CONTROLS
from maglens_v4l2.controls import Controls
from maglens_v4l2.memory_node import MemoryNode
from maglens_v4l2.node import UsageChanged
from maglens_v4l2.replays import BURST_S, Replays, Verdict
from maglens_v4l2.store import FILE_NAME, Store

FOCUS = ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus", ControlType.INTEGER, 0, 400, 10, 50, ControlFlag.RING)
AUTO_FOCUS = ControlInfo(Cid.FOCUS_AUTO, "Auto Focus", ControlType.BOOLEAN, 0, 1, 1, 1)
EXPOSURE = ControlInfo(Cid.EXPOSURE_ABSOLUTE, "Exposure", ControlType.INTEGER, 1, 320, 1, 80)
IRIS = ControlInfo(Cid.IRIS_ABSOLUTE, "Iris", ControlType.INTEGER, 0, 595, 1, 395, ControlFlag.RING)
START = ControlInfo(Cid.AUTO_FOCUS_START, "Start", ControlType.BUTTON, 0, 0, 0, 0)
STATUS = ControlInfo(Cid.AUTO_FOCUS_STATUS, "Status", ControlType.BITMASK, 0, 7, 0, 0, ControlFlag.READ_ONLY)
ISO = ControlInfo(
    Cid.ISO_SENSITIVITY,
    "ISO",
    ControlType.INTEGER_MENU,
    0,
    2,
    1,
    0,
    menu=((0, "100000"), (1, "400000"), (2, "800000")),
)
INFOS = (FOCUS, AUTO_FOCUS, EXPOSURE, IRIS, START, STATUS, ISO)
OBS, V4L2_CTL = ("obs", 100), "v4l2-ctl"
WAIT_S = 5.0


@dataclass
class Module:
    """Takes writes as a module does, and remembers them."""

    values: dict[int, int] = field(default_factory=lambda: {info.id: info.default for info in INFOS})
    writes: list[dict[int, int]] = field(default_factory=list)
    refuse: frozenset[int] = frozenset()

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        for control in values:
            if control in self.refuse:
                raise Refused("control", "no")
        self.writes.append(dict(values))
        self.values.update(values)
        return dict(values)


@dataclass
class Stage:
    node: MemoryNode
    store: Store
    controls: Controls
    module: Module
    folder: Path

    async def attach(self, identity: str = "maker/35mm/1", module: Module | None = None) -> None:
        self.module = module or self.module
        await self.controls.attach(identity, INFOS, self.module.values, self.module.set)

    def app_sets(self, control: int, value: int, program: str = "", process: int = 0) -> None:
        self.node.app_set(control, value, program, process)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 what is waited for is everywhere
                await asyncio.sleep(0.001)

    async def settle(self) -> None:
        """Long enough for any decision that is under way."""
        await asyncio.sleep(2 * BURST_S)

    def shown(self, control: int) -> int:
        """What an app would read."""
        return self.node.state().values[control]


def play(tmp_path: Path, act: Callable[[Stage], Awaitable[None]], attach: bool = True, before: str = "") -> None:
    async def run() -> None:
        node = MemoryNode([make_mode(NV12, 64, 48, Fraction(1, 30))], CONTROLS)
        store = Store(tmp_path)
        controls = Controls(node, store, before)
        stage = Stage(node, store, controls, Module(), tmp_path)

        async def listen() -> None:
            async for event in node.events():
                controls.handle(event)

        listener = asyncio.create_task(listen())
        if attach:
            await stage.attach()
        try:
            await act(stage)
        finally:
            await controls.close()
            node.close()
            await listener

    asyncio.run(run())


def test_an_app_reaches_the_module_and_sees_what_it_made_of_it(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        stage.module.values[Cid.FOCUS_AUTO] = 0
        await stage.attach()
        stage.app_sets(FOCUS.id, 137)
        await stage.until(lambda: stage.module.values[FOCUS.id] == 140)  # on the step grid
        await stage.until(lambda: stage.shown(FOCUS.id) == 140)
        stage.app_sets(FOCUS.id, 9999)
        await stage.until(lambda: stage.shown(FOCUS.id) == 400)
        assert stage.controls.values[FOCUS.id] == 400

    play(tmp_path, act)


def test_a_search_that_leaves_with_its_module_is_under_way_no_more(tmp_path: Path) -> None:
    """An app that waits for its end would do so for ever, whoever comes next."""

    async def act(stage: Stage) -> None:
        stage.controls.changed(STATUS.id, 1)
        assert stage.shown(STATUS.id) == 1
        stage.controls.detach()
        assert stage.shown(STATUS.id) == 0
        await stage.attach()
        stage.controls.changed(STATUS.id, 1)
        await stage.controls.attach("maker/fixed/1", (EXPOSURE,), {EXPOSURE.id: 80}, stage.module.set)
        assert stage.shown(STATUS.id) == 0

    play(tmp_path, act)


def test_an_app_or_the_ring_ends_the_automatic(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        stage.app_sets(FOCUS.id, 100)
        await stage.until(lambda: stage.module.values[FOCUS.id] == 100)
        assert stage.module.writes[-1] == {AUTO_FOCUS.id: 0, FOCUS.id: 100}
        assert list(stage.module.writes[-1]) == [AUTO_FOCUS.id, FOCUS.id]  # in this order
        assert stage.shown(AUTO_FOCUS.id) == 0
        await stage.controls.write(AUTO_FOCUS.id, 1, Origin.APP)
        await stage.controls.write(FOCUS.id, 300, Origin.MODULE)
        assert stage.module.writes[-1] == {AUTO_FOCUS.id: 0}  # the ring has moved the lens already
        assert stage.shown(FOCUS.id) == 300

    play(tmp_path, act)


def test_what_was_set_while_no_service_ran_reaches_the_module_that_is_there_still(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        stage.store.put("maker/35mm/1", IRIS.id, 100)
        for value in (200, 300):
            stage.app_sets(IRIS.id, value)
        await stage.settle()
        assert stage.module.writes == []
        await stage.attach()
        await stage.until(lambda: stage.module.values[IRIS.id] == 300)
        await stage.until(lambda: stage.shown(IRIS.id) == 300)
        assert stage.module.writes == [{IRIS.id: 100}, {IRIS.id: 300}], "what is stored, then what was asked last"

    play(tmp_path, act, attach=False, before="maker/35mm/1")


@pytest.mark.parametrize("before", ["", "maker/73mm/2"])
def test_what_was_set_while_no_service_ran_reaches_no_other_module(tmp_path: Path, before: str) -> None:
    async def act(stage: Stage) -> None:
        stage.app_sets(IRIS.id, 300)
        await stage.settle()
        await stage.attach()
        await stage.settle()
        assert stage.module.writes == []
        assert stage.shown(IRIS.id) == stage.module.values[IRIS.id]

    play(tmp_path, act, attach=False, before=before)


@pytest.mark.parametrize("comes", [True, False])
def test_controls_of_one_that_left_while_no_service_ran_are_greyed_out(tmp_path: Path, comes: bool) -> None:
    async def act(stage: Stage) -> None:
        reader = stage.node.open()
        if comes:
            await stage.attach()
        else:
            stage.controls.detach()
        active = {control: change.active for control, change in reader.changes if change.active is not None}
        assert active[Cid.ZOOM_ABSOLUTE] is False
        assert active[FOCUS.id] is comes

    play(tmp_path, act, attach=False, before="maker/24-70mm/1")


def test_what_an_automatic_moves_is_shown_but_neither_stored_nor_written(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        writes = len(stage.module.writes)
        stage.controls.changed(FOCUS.id, 220)
        await stage.controls.write(FOCUS.id, 230, Origin.AUTO)
        assert stage.shown(FOCUS.id) == 230
        assert stage.shown(AUTO_FOCUS.id) == 1
        assert len(stage.module.writes) == writes
        assert FOCUS.id not in stage.store.get("maker/35mm/1")

    play(tmp_path, act)


def test_a_turn_of_the_ring_is_stored(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        stage.controls.changed(IRIS.id, 100)
        assert stage.shown(IRIS.id) == 100
        assert stage.store.get("maker/35mm/1") == {IRIS.id: 100}

    play(tmp_path, act)


def test_obs_writing_back_what_it_saved_undoes_nothing(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        for control, value in ((FOCUS.id, 100), (EXPOSURE.id, 40), (IRIS.id, 300)):
            stage.app_sets(control, value, *OBS)
        await stage.until(lambda: (stage.module.values[FOCUS.id], stage.module.values[IRIS.id]) == (100, 300))
        stage.controls.changed(FOCUS.id, 250)  # the hand on the ring
        await stage.controls.write(AUTO_FOCUS.id, 1, Origin.APP)
        writes = list(stage.module.writes)
        for control, value in ((FOCUS.id, 100), (EXPOSURE.id, 40), (IRIS.id, 300)):
            stage.app_sets(control, value, *OBS)  # its properties are opened
        await stage.settle()
        assert stage.module.writes == writes
        assert stage.shown(FOCUS.id) == 250
        assert stage.shown(AUTO_FOCUS.id) == 1
        stage.app_sets(FOCUS.id, 110, *OBS)  # now its slider is moved
        await stage.until(lambda: stage.module.values[FOCUS.id] == 110)
        assert stage.shown(AUTO_FOCUS.id) == 0
        stage.app_sets(FOCUS.id, 100, *OBS)  # and back
        await stage.until(lambda: stage.module.values[FOCUS.id] == 100)

    play(tmp_path, act)


def test_what_an_automatic_moved_meanwhile_does_not_end_it(tmp_path: Path) -> None:
    """OBS reads every value and writes it a moment later, switches included."""

    async def act(stage: Stage) -> None:
        assert stage.module.values[AUTO_FOCUS.id] == 1
        stage.controls.changed(FOCUS.id, 70)
        for control, value in ((FOCUS.id, 50), (AUTO_FOCUS.id, 1), (EXPOSURE.id, 80)):
            stage.app_sets(control, value, *OBS)
        await stage.settle()
        assert stage.module.writes == []
        assert (stage.shown(FOCUS.id), stage.shown(AUTO_FOCUS.id)) == (70, 1)
        stage.app_sets(FOCUS.id, 120, V4L2_CTL, 7)  # who says nothing of the switch means to end it ...
        await stage.until(lambda: stage.module.values[FOCUS.id] == 120)
        assert stage.shown(AUTO_FOCUS.id) == 0
        await stage.controls.write(AUTO_FOCUS.id, 1, Origin.APP)
        stage.app_sets(AUTO_FOCUS.id, 0, V4L2_CTL, 8)  # ... and who switches it off
        stage.app_sets(FOCUS.id, 130, V4L2_CTL, 8)
        await stage.until(lambda: stage.module.values[FOCUS.id] == 130)
        assert stage.shown(AUTO_FOCUS.id) == 0

    play(tmp_path, act)


def test_obs_started_again_undoes_nothing_but_a_command_typed_again_counts(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        stage.app_sets(FOCUS.id, 100, *OBS)
        stage.app_sets(EXPOSURE.id, 40, *OBS)
        stage.app_sets(IRIS.id, 200, V4L2_CTL, 1)
        await stage.until(lambda: (stage.module.values[FOCUS.id], stage.module.values[IRIS.id]) == (100, 200))
        stage.module.values[FOCUS.id] = 250
        stage.controls.changed(FOCUS.id, 250)
        await stage.controls.write(EXPOSURE.id, 50, Origin.APP)
        await stage.settle()
        stage.app_sets(FOCUS.id, 100, "obs", 101)
        stage.app_sets(EXPOSURE.id, 40, "obs", 101)
        await stage.settle()
        assert stage.module.values[FOCUS.id] != 100
        assert stage.shown(FOCUS.id) == 250
        assert stage.shown(EXPOSURE.id) == 50
        stage.controls.changed(IRIS.id, 333)
        stage.app_sets(IRIS.id, 200, V4L2_CTL, 2)
        await stage.until(lambda: stage.module.writes[-1] == {IRIS.id: 200})

    play(tmp_path, act)


def test_chromium_resetting_to_defaults_does_not_undo_the_photographer(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        reader = stage.node.open()
        await stage.controls.write(EXPOSURE.id, 33, Origin.APP)
        reader.close()
        other = stage.node.open()
        stage.controls.handle(UsageChanged(stage.node.generation, streamers=0, openers=0))
        default = next(c.range[3] for i, c in reversed(other.changes) if i == EXPOSURE.id and c.range)
        assert default == 33
        stage.app_sets(EXPOSURE.id, default, "chromium", 7)
        await stage.settle()
        assert stage.module.values[EXPOSURE.id] == 33

    play(tmp_path, act)


def test_a_defect_met_by_one_module_leaves_the_next_its_controls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(values: Mapping[int, int]) -> Mapping[int, int]:
        raise ZeroDivisionError

    async def act(stage: Stage) -> None:
        await stage.controls.attach("evil/raw/1", (EXPOSURE,), {EXPOSURE.id: 80}, broken)
        stage.app_sets(EXPOSURE.id, 40)
        await stage.until(lambda: "was not set to 40" in caplog.text)
        assert stage.shown(EXPOSURE.id) == 80
        stage.controls.detach()
        good = Module()
        await stage.attach("good/one/1", good)
        stage.app_sets(EXPOSURE.id, 40)
        await stage.until(lambda: good.values[EXPOSURE.id] == 40)

    play(tmp_path, act, attach=False)


def test_what_the_module_lacks_is_greyed_out_even_if_it_does_not_answer_at_first(tmp_path: Path) -> None:
    async def silent(values: Mapping[int, int]) -> Mapping[int, int]:
        raise Deadline("no answer")

    async def act(stage: Stage) -> None:
        reader = stage.node.open()
        stage.store.put("maker/bare/1", EXPOSURE.id, 20)
        values = {EXPOSURE.id: 80}
        with pytest.raises(Deadline):
            await stage.controls.attach("maker/bare/1", (EXPOSURE,), values, silent)
        await stage.controls.attach("maker/bare/1", (EXPOSURE,), values, stage.module.set)
        assert stage.module.values[EXPOSURE.id] == 20
        assert {i for i, change in reader.changes if change.active is False} == {i.id for i in INFOS} - {EXPOSURE.id}

    play(tmp_path, act)


def test_values_come_back_with_their_module_and_with_no_other(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.controls.write(FOCUS.id, 120, Origin.APP)
        await stage.controls.write(EXPOSURE.id, 20, Origin.APP)
        stage.controls.detach()
        other = Module()
        await stage.attach("maker/73mm/1", other)
        assert other.writes == []
        again = Module()
        await stage.attach("maker/35mm/1", again)
        assert again.values[FOCUS.id] == 120
        assert again.values[AUTO_FOCUS.id] == 0
        assert again.values[EXPOSURE.id] == 20
        assert stage.shown(FOCUS.id) == 120
        assert next(iter(again.writes[0])) == AUTO_FOCUS.id  # the switch before what it drives

    play(tmp_path, act)


def test_a_stored_value_does_not_fight_an_automatic(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.controls.write(FOCUS.id, 120, Origin.APP)
        await stage.controls.write(AUTO_FOCUS.id, 1, Origin.APP)
        again = Module()
        await stage.attach(module=again)
        assert again.values[AUTO_FOCUS.id] == 1
        assert all(FOCUS.id not in write for write in again.writes)

    play(tmp_path, act)


def test_reset_restores_what_left_the_factory(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.controls.write(EXPOSURE.id, 20, Origin.APP)
        await stage.controls.write(AUTO_FOCUS.id, 0, Origin.APP)
        await stage.controls.reset()
        assert stage.module.values == {info.id: info.default for info in INFOS}
        assert stage.store.get("maker/35mm/1") == {}
        assert stage.shown(EXPOSURE.id) == EXPOSURE.default

    play(tmp_path, act)


def test_reset_of_one_leaves_the_others(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.controls.write(EXPOSURE.id, 20, Origin.APP)
        await stage.controls.write(IRIS.id, 100, Origin.APP)
        assert await stage.controls.reset([EXPOSURE.id]) == {EXPOSURE.id: EXPOSURE.default}
        assert stage.store.get("maker/35mm/1") == {IRIS.id: 100}
        assert stage.shown(IRIS.id) == 100

    play(tmp_path, act)


def test_reset_brings_an_automatic_back_and_leaves_it_what_it_drives(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.controls.write(FOCUS.id, 300, Origin.APP)
        assert stage.module.values[AUTO_FOCUS.id] == 0
        await stage.controls.reset()
        assert stage.module.values[AUTO_FOCUS.id] == 1
        assert stage.shown(AUTO_FOCUS.id) == 1

    play(tmp_path, act)


def test_a_control_the_module_lacks_is_refused_and_greyed_out(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        reader = stage.node.open()
        with pytest.raises(Refused):
            await stage.controls.write(Cid.ZOOM_ABSOLUTE, 500, Origin.APP)
        with pytest.raises(Refused):
            await stage.controls.write(STATUS.id, 1, Origin.APP)
        await stage.controls.attach("maker/bare/1", (EXPOSURE,), {EXPOSURE.id: 80}, stage.module.set)
        assert {i for i, change in reader.changes if change.active is False} == {i.id for i in INFOS} - {EXPOSURE.id}
        stage.controls.detach()
        assert (EXPOSURE.id, False) in [(i, change.active) for i, change in reader.changes]

    play(tmp_path, act)


def test_what_the_module_refuses_is_put_back(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        stage.module.refuse = frozenset((EXPOSURE.id,))
        stage.app_sets(EXPOSURE.id, 11, *OBS)
        await stage.until(lambda: stage.shown(EXPOSURE.id) == EXPOSURE.default)
        stage.app_sets(IRIS.id, 12, *OBS)  # the worker goes on
        await stage.until(lambda: stage.module.values[IRIS.id] == 12)

    play(tmp_path, act)


def test_a_button_is_pressed_as_often_as_it_is_pressed(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        for press in range(1, 4):
            stage.app_sets(START.id, 1, *OBS)
            await stage.until(lambda: sum(START.id in write for write in stage.module.writes) == press)  # noqa: B023
        assert START.id not in stage.store.get("maker/35mm/1")

    play(tmp_path, act)


def test_menus_of_numbers_mean_the_same_numbers_on_both_sides(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        reader = stage.node.open()
        await stage.attach()
        change = next(c for i, c in reader.changes if i == ISO.id and c.range)
        low, high, left_out, default = change.range or (0, 0, 0, 0)
        assert (low, high, default) == (1, 4, 1)  # ISO 100 and ISO 800 in the node's list
        assert left_out == 0b00101  # ISO 50 and ISO 200
        stage.app_sets(ISO.id, 3, *OBS)  # ISO 400
        await stage.until(lambda: stage.module.values[ISO.id] == 1)
        stage.controls.changed(ISO.id, 2)
        assert stage.shown(ISO.id) == 4

    play(tmp_path, act)


def test_a_flood_of_writes_is_thinned_to_the_latest(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        gate = asyncio.Event()
        taken = stage.module.set

        async def slow(values: Mapping[int, int]) -> Mapping[int, int]:
            await gate.wait()
            return await taken(values)

        await stage.controls.attach("maker/slow/1", INFOS, stage.module.values, slow)
        for value in range(1, 301):
            stage.app_sets(EXPOSURE.id, value, *OBS)
            await asyncio.sleep(0)
        gate.set()
        await stage.until(lambda: stage.module.values[EXPOSURE.id] == 300)
        assert len(stage.module.writes) <= 3

    play(tmp_path, act)


def test_a_module_that_leaves_during_a_write_leaves_nothing_behind(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        asked, gate = asyncio.Event(), asyncio.Event()

        async def slow(values: Mapping[int, int]) -> Mapping[int, int]:
            asked.set()
            await gate.wait()
            return dict(values)

        await stage.controls.attach("maker/slow/1", INFOS, stage.module.values, slow)
        writing = asyncio.create_task(stage.controls.write(EXPOSURE.id, 20, Origin.APP))
        await asked.wait()
        stage.controls.detach()
        gate.set()
        await writing
        assert stage.controls.values == {}
        assert stage.store.get("maker/slow/1") == {}
        assert stage.store.get("") == {}

    play(tmp_path, act)


def test_values_survive_a_restart(tmp_path: Path) -> None:
    async def first(stage: Stage) -> None:
        await stage.controls.write(EXPOSURE.id, 20, Origin.APP)

    async def second(stage: Stage) -> None:
        assert stage.module.values[EXPOSURE.id] == 20

    play(tmp_path, first)
    play(tmp_path, second)
    document = json.loads((tmp_path / FILE_NAME).read_text())
    assert document["modules"]["maker/35mm/1"] == {f"0x{EXPOSURE.id:08x}": 20}
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_store_that_cannot_be_written_disturbs_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(stage: Stage) -> None:
        (tmp_path / FILE_NAME).with_suffix(".new").mkdir()
        await stage.controls.write(EXPOSURE.id, 20, Origin.APP)

    play(tmp_path, act)
    assert "not kept over a restart" in caplog.text


def test_replays_forget_old_programs() -> None:
    replays = Replays()
    for number in range(100):
        assert replays.judge(f"p{number}", 1, 5, 7, 0.0) is Verdict.ACCEPT
    assert replays.judge("p99", 1, 5, 7, 1.0) is Verdict.IGNORE
    assert replays.judge("p0", 1, 5, 7, 1.0) is Verdict.ACCEPT
    assert replays.judge("", 0, 5, 7, 1.0) is Verdict.ACCEPT
