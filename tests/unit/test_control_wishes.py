# SPDX-License-Identifier: GPL-2.0-or-later
"""What apps want of a module that has no time for it: once more, then what the module truly has; who overtakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from maglens_driver.control import Origin
from maglens_driver.errors import Deadline, Gone, Refused
from maglens_v4l2 import wishes
from tests.unit.test_bridge_controls import EXPOSURE, INFOS, IRIS, OBS, START, Module, Stage, play

WHO = "maker/35mm/1"
LATE = Deadline("no answer")


@dataclass
class LateModule(Module):
    """Has no time for the next writes, by ``errors``; a late one is in force all the same where ``takes`` says so.
    ``gate``: no write goes on without it."""

    errors: list[Exception] = field(default_factory=list)
    takes: bool = False
    tried: list[dict[int, int]] = field(default_factory=list)
    reads: int = 0
    mute: bool = False
    gate: asyncio.Event | None = None

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        self.tried.append(dict(values))
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            error = self.errors.pop(0)
            if self.takes:
                self.values.update(values)
            raise error
        return await super().set(values)

    async def read(self) -> Mapping[int, int]:
        self.reads += 1
        if self.mute:
            raise LATE
        return dict(self.values)


async def joined(stage: Stage, module: LateModule, who: str = WHO) -> LateModule:
    stage.module = module
    await stage.controls.attach(who, INFOS, module.values, module.set, module.read)
    return module


def seen(stage: Stage, control: int) -> Callable[[], list[int]]:
    """Values of which an app hears from now on."""
    reader = stage.node.open()
    return lambda: [change.value for i, change in reader.changes if i == control and change.value is not None]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes, "AGAIN_S", 0.0)


@pytest.mark.parametrize("why", [LATE, Refused("BUSY", "not now")], ids=["late", "busy"])
def test_a_module_that_had_no_time_is_asked_once_more(why: Exception, tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        module = await joined(stage, LateModule(errors=[why]))
        told = seen(stage, IRIS.id)
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: module.values[IRIS.id] == 200)
        await stage.until(lambda: stage.controls.values[IRIS.id] == 200)
        assert set(told()) == {200}, "the app never sees another"
        assert stage.store.get(WHO)[IRIS.id] == 200

    play(tmp_path, act, attach=False)


@pytest.mark.parametrize("mute", [False, True])
def test_a_module_that_has_no_time_twice_keeps_what_it_has(mute: bool, tmp_path: Path) -> None:
    """Apps see that, and one that asks once more means it."""

    async def act(stage: Stage) -> None:
        module = await joined(stage, LateModule(errors=[LATE, LATE], mute=mute))
        told = seen(stage, IRIS.id)
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: told()[-1:] == [IRIS.default])
        assert len(module.tried) == 2
        assert module.reads == 1
        assert stage.shown(IRIS.id) == IRIS.default
        assert IRIS.id not in stage.store.get(WHO)
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: module.values[IRIS.id] == 200)

    play(tmp_path, act, attach=False)


def test_a_module_that_took_it_and_said_so_too_late_has_it(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        module = await joined(stage, LateModule(errors=[LATE, LATE], takes=True))
        told = seen(stage, IRIS.id)
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: stage.controls.values[IRIS.id] == 200)
        assert module.reads == 1
        assert set(told()) == {200}
        assert stage.store.get(WHO)[IRIS.id] == 200

    play(tmp_path, act, attach=False)


def test_a_newer_value_takes_the_place_of_a_late_one(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        module = await joined(stage, LateModule(errors=[LATE], gate=asyncio.Event()))
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: len(module.tried) == 1)
        stage.app_sets(IRIS.id, 300, *OBS)
        await asyncio.sleep(0)
        assert module.gate is not None
        module.gate.set()
        await stage.until(lambda: module.values[IRIS.id] == 300)
        await stage.settle()
        assert module.tried == [{IRIS.id: 200}, {IRIS.id: 300}]

    play(tmp_path, act, attach=False)


def test_who_takes_a_write_back_while_it_is_under_way_is_heard(tmp_path: Path) -> None:
    """The value that is in force still is no news of what is wanted then."""

    async def act(stage: Stage) -> None:
        module = await joined(stage, LateModule(gate=asyncio.Event()))
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: len(module.tried) == 1)
        stage.app_sets(IRIS.id, IRIS.default, *OBS)
        await asyncio.sleep(0)
        assert module.gate is not None
        module.gate.set()
        await stage.until(lambda: len(module.writes) == 2)
        assert module.values[IRIS.id] == IRIS.default
        await stage.until(lambda: stage.shown(IRIS.id) == IRIS.default)

    play(tmp_path, act, attach=False)


def test_a_late_control_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes, "AGAIN_S", 3600.0)

    async def act(stage: Stage) -> None:
        module = await joined(stage, LateModule(errors=[LATE]))
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: len(module.tried) == 1)
        stage.app_sets(EXPOSURE.id, 20, *OBS)
        await stage.until(lambda: module.values[EXPOSURE.id] == 20)
        assert await stage.controls.write(IRIS.id, 100, Origin.APP) == 100
        assert module.tried == [{IRIS.id: 200}, {EXPOSURE.id: 20}, {IRIS.id: 100}]
        assert stage.shown(IRIS.id) == 100

    play(tmp_path, act, attach=False)


@pytest.mark.parametrize("by", ["command", "ring"])
def test_what_came_later_is_not_undone_by_a_second_try(by: str, tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        module = await joined(stage, LateModule(errors=[LATE], gate=asyncio.Event()))
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: len(module.tried) == 1)
        assert module.gate is not None
        if by == "ring":
            module.values[IRIS.id] = 100
            stage.controls.changed(IRIS.id, 100)
            module.gate.set()
        else:
            writing = asyncio.create_task(stage.controls.write(IRIS.id, 100, Origin.APP))
            await asyncio.sleep(0)
            module.gate.set()
            assert await writing == 100
        await stage.settle()
        assert {IRIS.id: 200} not in module.tried[1:]
        assert (module.values[IRIS.id], stage.shown(IRIS.id)) == (100, 100)

    play(tmp_path, act, attach=False)


def test_a_module_that_has_left_is_asked_no_more_and_nor_is_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(stage: Stage) -> None:
        monkeypatch.setattr(wishes, "AGAIN_S", 0.01)
        first = await joined(stage, LateModule(errors=[LATE]))
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: len(first.tried) == 1)
        stage.controls.detach()
        second = await joined(stage, LateModule(), "maker/73mm/2")
        await stage.settle()
        assert (len(first.tried), second.tried) == (1, [])
        assert stage.shown(IRIS.id) == IRIS.default

    play(tmp_path, act, attach=False)


def test_a_module_that_leaves_while_others_wait_for_it_ends_nobody(tmp_path: Path) -> None:
    """An app asks while a command's write hangs; then the module is pulled. The next one is written to."""

    async def act(stage: Stage) -> None:
        hanging = await joined(stage, LateModule(errors=[Gone("unplugged")], gate=asyncio.Event()))
        command = asyncio.create_task(stage.controls.write(EXPOSURE.id, 20, Origin.APP))
        await stage.until(lambda: len(hanging.tried) == 1)
        stage.app_sets(IRIS.id, 200, *OBS)
        await asyncio.sleep(0.01)  # the worker waits for its turn
        stage.controls.detach()
        assert hanging.gate is not None
        hanging.gate.set()
        with pytest.raises(Gone):
            await command
        good = await joined(stage, LateModule(), "good/one/1")
        stage.app_sets(IRIS.id, 77, *OBS)
        await stage.until(lambda: good.values[IRIS.id] == 77)

    play(tmp_path, act, attach=False)


def test_what_is_asked_while_the_same_module_begins_to_play_is_written(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        module = await joined(stage, LateModule(gate=asyncio.Event()))
        command = asyncio.create_task(stage.controls.write(EXPOSURE.id, 20, Origin.APP))
        await stage.until(lambda: len(module.tried) == 1)
        playing = asyncio.create_task(joined(stage, module))
        await asyncio.sleep(0)
        stage.app_sets(IRIS.id, 200, *OBS)  # behind both
        await asyncio.sleep(0.01)
        assert module.gate is not None
        module.gate.set()
        await command
        await playing
        await stage.until(lambda: module.values[IRIS.id] == 200)
        await stage.until(lambda: stage.shown(IRIS.id) == 200)

    play(tmp_path, act, attach=False)


def test_a_button_is_not_pressed_again(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        module = await joined(stage, LateModule(errors=[LATE]))
        stage.app_sets(START.id, 1, *OBS)
        await stage.until(lambda: len(module.tried) == 1)
        await stage.settle()
        assert len(module.tried) == 1

    play(tmp_path, act, attach=False)


def test_a_module_that_cannot_be_read_for_a_defect_leaves_the_next_its_controls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> Mapping[int, int]:
        raise ZeroDivisionError

    async def act(stage: Stage) -> None:
        module = LateModule(errors=[LATE, LATE])
        await stage.controls.attach(WHO, INFOS, module.values, module.set, broken)
        stage.app_sets(IRIS.id, 200, *OBS)
        await stage.until(lambda: "was not set to 200" in caplog.text)
        await stage.until(lambda: stage.shown(IRIS.id) == IRIS.default)
        stage.app_sets(IRIS.id, 77, *OBS)
        await stage.until(lambda: module.values[IRIS.id] == 77)

    play(tmp_path, act, attach=False)
