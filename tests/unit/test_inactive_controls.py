# SPDX-License-Identifier: GPL-2.0-or-later
"""What an automatic drives a driver calls inactive: from the device's event to an app that writes it all the same."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maglens_daemon.cli import module
from maglens_daemon.fake import FakeVisitor
from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType, Origin
from maglens_driver.errors import Refused
from maglens_driver.gadget.describe import describe
from maglens_driver.mode import YUYV, make_mode
from maglens_driver.v4l2 import controls as device_controls
from maglens_driver.v4l2 import source
from maglens_driver.v4l2.source import V4L2Source
from maglens_v4l2.canonical import CONTROLS
from maglens_v4l2.controls import Controls
from maglens_v4l2.memory_node import MemoryNode, MemoryReader
from maglens_v4l2.store import Store
from tests.unit.source_conformance import RecordingSink
from tests.unit.test_daemon_manager import theatre

INACTIVE, ACTIVE = ControlFlag.INACTIVE, ControlFlag.NONE
MANUAL, APERTURE = 1, 3  # of EXPOSURE_AUTO
SWITCH = ControlInfo(Cid.EXPOSURE_AUTO, "Auto Exposure", ControlType.MENU, 0, 3, 1, APERTURE)
EXPOSURE = ControlInfo(Cid.EXPOSURE_ABSOLUTE, "Exposure", ControlType.INTEGER, 1, 2000, 1, 200, INACTIVE)
BRIGHTNESS = ControlInfo(Cid.BRIGHTNESS, "Brightness", ControlType.INTEGER, -64, 64, 1, 0)
WHO = "maker/webcam/1"
MODE = make_mode(YUYV, 640, 480, Fraction(1, 30))


class Webcam:
    """Its driver refuses an exposure time while the automatic is on, as uvcvideo does."""

    def __init__(self) -> None:
        self.values = {SWITCH.id: APERTURE, EXPOSURE.id: 200, BRIGHTNESS.id: 0}

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        for control, value in values.items():
            if control == EXPOSURE.id and self.values[SWITCH.id] != MANUAL:
                raise Refused("control", "EACCES")
            self.values[control] = value
        return dict(values)


class Desk:
    """Controls between a node that an app has open and the webcam."""

    def __init__(self, folder: Path) -> None:
        self.node = MemoryNode([MODE], CONTROLS)
        self.app: MemoryReader = self.node.open()
        self.store = Store(folder)
        self.controls = Controls(self.node, self.store)
        self.webcam = Webcam()

    async def attach(self, *infos: ControlInfo) -> None:
        infos = infos or (SWITCH, EXPOSURE, BRIGHTNESS)
        await self.controls.attach(WHO, infos, self.webcam.values, self.webcam.set)

    def active(self, control: int) -> bool | None:
        """What the app was told last."""
        told = [change.active for id, change in self.app.changes if id == control and change.active is not None]
        return told[-1] if told else None


def sit(tmp_path: Path, act: Callable[[Desk], Awaitable[None]]) -> None:
    async def run() -> None:
        desk = Desk(tmp_path)
        try:
            await act(desk)
        finally:
            await desk.controls.close()
            desk.node.close()

    asyncio.run(run())


def test_writing_what_an_automatic_drives_ends_it_whatever_the_flag(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.attach()
        assert desk.active(EXPOSURE.id) is True
        assert await desk.controls.write(EXPOSURE.id, 77, Origin.APP) == 77
        assert (desk.webcam.values[SWITCH.id], desk.webcam.values[EXPOSURE.id]) == (MANUAL, 77)

    sit(tmp_path, act)


def test_after_the_switch_the_flag_may_be_late(tmp_path: Path) -> None:
    """The device's event comes by another way than its answer."""

    async def act(desk: Desk) -> None:
        await desk.attach()
        await desk.controls.write(SWITCH.id, MANUAL, Origin.APP)
        assert await desk.controls.write(EXPOSURE.id, 77, Origin.APP) == 77
        assert desk.active(EXPOSURE.id) is True

    sit(tmp_path, act)


def test_stored_values_come_back_though_the_device_starts_with_its_automatic(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        for control, value in ((EXPOSURE.id, 77), (SWITCH.id, MANUAL)):
            desk.store.put(WHO, control, value)
        await desk.attach()
        assert (desk.webcam.values[SWITCH.id], desk.webcam.values[EXPOSURE.id]) == (MANUAL, 77)

    sit(tmp_path, act)


def test_what_no_automatic_of_ours_drives_is_greyed_out_as_the_device_says(tmp_path: Path) -> None:
    async def act(desk: Desk) -> None:
        await desk.attach(SWITCH, replace(BRIGHTNESS, flags=INACTIVE))
        assert desk.active(BRIGHTNESS.id) is False
        desk.controls.activated(BRIGHTNESS.id, True)
        assert desk.active(BRIGHTNESS.id) is True
        assert [info.flags for info in desk.controls.infos if info.id == BRIGHTNESS.id] == [ACTIVE]
        desk.controls.activated(BRIGHTNESS.id, False)
        assert desk.active(BRIGHTNESS.id) is False
        desk.controls.activated(EXPOSURE.id, True)  # which it has not

    sit(tmp_path, act)


def test_an_automatic_that_another_program_switched_on_can_be_ended(tmp_path: Path) -> None:
    """A driver tells first of what is driven, and then of the switch."""

    async def act(desk: Desk) -> None:
        desk.webcam.values[SWITCH.id] = MANUAL
        await desk.attach(SWITCH, replace(EXPOSURE, flags=ACTIVE))
        desk.webcam.values[SWITCH.id] = APERTURE
        desk.controls.activated(EXPOSURE.id, False)
        desk.controls.changed(SWITCH.id, APERTURE)
        assert desk.active(EXPOSURE.id) is True
        assert await desk.controls.write(EXPOSURE.id, 77, Origin.APP) == 77
        assert desk.webcam.values[SWITCH.id] == MANUAL

    sit(tmp_path, act)


# The device.

VALUE, FLAGS, RANGE = 1, 2, 4  # V4L2_EVENT_CTRL_CH_*


class Driver:
    """The calls of linuxpy that controls need; ``inactive``: which have the flag now."""

    EventType = SimpleNamespace(CTRL=3, EOS=2)

    def __init__(self) -> None:
        self.inactive = {int(EXPOSURE.id)}
        self.pending: list[Any] = []

    def iter_read_controls(self, fd: int) -> Iterator[Any]:
        for info in (SWITCH, EXPOSURE):
            yield SimpleNamespace(id=int(info.id), flags=0x10 if info.id in self.inactive else 0)

    def get_control(self, fd: int, control: int) -> int:
        return 1

    def subscribe_event(self, fd: int, kind: int, control: int) -> None: ...

    def deque_event(self, fd: int) -> Any:
        if not self.pending:
            raise OSError(errno.ENOENT, "nothing pending")
        return self.pending.pop(0)

    def tell(self, control: int, changes: int, *, value: int = 0, flags: int = 0, kind: int = 3) -> None:
        told = SimpleNamespace(changes=changes, value=value, flags=flags)
        self.pending.append(SimpleNamespace(type=kind, id=control, u=SimpleNamespace(ctrl=told)))


class Stream(source._Stream):
    """One on air whose thread is the test's."""

    def __init__(self, fd: int, path: str, mode: Any, sink: Any, generation: int, on_active: Any, *_: object) -> None:
        self._fd, self._sink, self._generation, self._on_active = fd, sink, generation, on_active

    def stop(self) -> None: ...


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(device_controls, "linuxpy", lambda: made)
    monkeypatch.setattr(source, "identify", lambda fd, path, ours: None)
    monkeypatch.setattr(source, "read_modes", lambda fd: [MODE])
    monkeypatch.setattr(source, "read_controls", lambda fd: (SWITCH, EXPOSURE))
    monkeypatch.setattr(source, "set_mode", lambda fd, wanted: wanted)
    monkeypatch.setattr(source, "_Stream", Stream)
    return made


@pytest.fixture
def device(driver: Driver, tmp_path: Path) -> V4L2Source:
    """A source on an ordinary file."""
    (tmp_path / "video").touch()
    return V4L2Source(str(tmp_path / "video"), ThreadPoolExecutor(1))


def flags(device: V4L2Source) -> ControlFlag:
    return next(info.flags for info in device.controls if info.id == EXPOSURE.id)


def test_flags_are_followed_while_it_streams(driver: Driver, device: V4L2Source) -> None:
    async def play() -> None:
        sink = RecordingSink()
        driver.inactive.clear()
        await device.configure(MODE)
        await device.start(sink, 4)
        assert flags(device) == ACTIVE, "as it was when the stream began, not when the device was opened"
        stream = device._stream
        assert stream is not None
        driver.tell(EXPOSURE.id, FLAGS, value=0, flags=0x10)  # without a value: it cannot be read now
        driver.tell(SWITCH.id, VALUE, value=APERTURE)
        driver.tell(EXPOSURE.id, VALUE, value=0, kind=2)
        stream._tell_changes()
        assert flags(device) == INACTIVE
        assert (sink.flags, sink.controls) == ([(4, EXPOSURE.id, False)], [(4, SWITCH.id, APERTURE)])
        driver.tell(EXPOSURE.id, FLAGS | VALUE, value=90, flags=0)
        driver.tell(EXPOSURE.id, RANGE, value=95, flags=0x10)
        stream._tell_changes()
        assert flags(device) == ACTIVE
        assert (sink.flags[1:], sink.controls[1:]) == ([(4, EXPOSURE.id, True)], [(4, EXPOSURE.id, 90)])
        await device.close()

    asyncio.run(play())


def test_flags_are_read_anew_with_the_values_while_it_rests(driver: Driver, device: V4L2Source) -> None:
    async def play() -> None:
        driver.inactive.clear()
        await device.get()
        assert flags(device) == ACTIVE
        driver.inactive.add(int(EXPOSURE.id))
        await device.get()
        assert flags(device) == INACTIVE
        await device.close()

    asyncio.run(play())


# On the way to the node, and out of it.


def test_the_stage_passes_on_what_becomes_active() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            visitor = FakeVisitor("7")
            inactive = replace(visitor.source.controls[0], flags=INACTIVE)
            visitor.source.controls = (inactive,)
            session = t.arrive(visitor)
            await t.until_playing(session)
            controls, sink = t.manager.stage.controls, visitor.source.sink
            assert controls is not None and sink is not None
            await until(lambda: controls.infos == (inactive,))
            sink.active(visitor.source.generation, inactive.id, True)
            await until(lambda: controls.infos == (replace(inactive, flags=ACTIVE),))
            sink.active(visitor.source.generation - 1, inactive.id, False)  # of a stream before
            sink.active(visitor.source.generation, inactive.id + 1, False)  # which it has not
            await asyncio.sleep(0)
            assert controls.infos == (replace(inactive, flags=ACTIVE),)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 what is attached tells nobody
                await asyncio.sleep(0.001)

    asyncio.run(play())


def test_a_boards_descriptor_says_nothing_of_the_moment() -> None:
    class Camera(SimpleNamespace):
        async def configure(self, want: Any, test_only: bool = False) -> Any:
            return want

    camera: Any = Camera(modes=[MODE], controls=[SWITCH_WITH_MENU, EXPOSURE], identity="camera")
    made = asyncio.run(describe(module.lens_data("webcam"), camera, "S1"))
    assert [info.flags for info in made.controls] == [ACTIVE, ACTIVE]


SWITCH_WITH_MENU = replace(SWITCH, menu=((MANUAL, "Manual Mode"), (APERTURE, "Aperture Priority Mode")))
