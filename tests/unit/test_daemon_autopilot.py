# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual raw module through the whole daemon: it is exposed, balanced and focused here, until a person does it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from typing import cast

import pytest

from maglens_daemon import stage
from maglens_daemon.config import FOCUS_ZONE, Config, NodeConfig
from maglens_daemon.fake import FOCUS, FakeVisitor
from maglens_daemon.in_process import VirtualVisitor
from maglens_daemon.manager import Manager
from maglens_driver.control import Cid, Origin
from maglens_driver.errors import Deadline
from maglens_driver.mode import RAW
from maglens_driver.virtual.lens import load_lens
from maglens_driver.virtual.optics import SCENE_KELVIN, Optics
from maglens_driver.virtual.scene import LAYERS
from maglens_driver.virtual.source import VirtualSource
from maglens_v4l2.auto_focus import Status
from maglens_v4l2.autopilot import Autopilot
from maglens_v4l2.controls import Controls
from maglens_v4l2.measurement import Measurement, Window
from maglens_v4l2.memory_node import MemoryReader
from tests.unit.test_daemon_manager import theatre

PATIENCE_S = 60.0  # drawing a focus position takes a tenth of a second, under load more
MIREDS = 25  # that the scene is off neutral at most


def raw_module() -> VirtualSource:
    lens = load_lens("35mm")
    modes = tuple(mode for mode in lens.descriptor.modes if mode.fourcc in RAW and mode.width == 640)
    return VirtualSource(replace(lens, descriptor=replace(lens.descriptor, modes=modes)))


@dataclass
class Watching:
    """An app that reads on, and what is asked of the daemon between its frames."""

    manager: Manager
    source: VirtualSource
    app: MemoryReader

    @property
    def controls(self) -> Controls:
        found = self.manager.stage.controls
        assert found is not None
        return found

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    await asyncio.to_thread(self.app.copy, 1.0)
        except TimeoutError:
            raise AssertionError(f"never came: {what}; {self.controls.values}") from None

    async def converged(self, kelvin: int) -> None:
        await self.until(lambda: self.controls.values.get(Cid.AUTO_FOCUS_STATUS) == Status.REACHED, "focus")
        warm, cool = 1e6 / (1e6 / kelvin + MIREDS), 1e6 / (1e6 / kelvin - MIREDS)
        await self.until(lambda: warm < self.controls.values[Cid.WHITE_BALANCE_TEMPERATURE] < cool, "white balance")


def blur_circles(source: VirtualSource) -> float:
    """Of the sharpest thing there is, in circles of confusion."""
    sensor = source.descriptor.sensor
    assert sensor is not None
    optics = Optics.of(source.descriptor, source.camera.values())
    blur = min(optics.blur_pixels(layer.distance_m, sensor.width) for layer in LAYERS)
    return blur / (math.hypot(sensor.width, sensor.height) / 1500)


def test_the_usual_zone_is_written_once_more_for_want_of_numpy_in_a_daemon_that_idles() -> None:
    assert Window(*FOCUS_ZONE) == Window()


def test_converges_and_gives_way_to_an_app_and_to_a_hand() -> None:
    async def play() -> None:
        zone = Window(0.25, 0.25, 0.5, 0.5)
        async with theatre(Config(node=NodeConfig(width=640, height=480, focus_zone=astuple(zone)))) as t:
            source = raw_module()
            source.camera.set({Cid.FOCUS_ABSOLUTE: 350, Cid.EXPOSURE_ABSOLUTE: 3, Cid.IRIS_ABSOLUTE: 595})
            it = Watching(t.manager, source, t.watch())
            await t.until(lambda: t.manager.stage.watched)
            visitor = VirtualVisitor(source)
            session = t.manager.arrive("virtual", 5000, visitor)
            assert session is not None
            await t.until_playing(session)
            await it.converged(SCENE_KELVIN)
            flight = t.manager.stage._flight
            assert flight is not None and flight.pilot.window == zone
            assert blur_circles(source) < 2  # of the range's 280; positions of focus are drawn a circle apart
            assert source.camera.values()[Cid.EXPOSURE_ABSOLUTE] > 3

            source.camera.shine(3200, 0.5)
            await it.converged(3200)

            listed = {info.id for info in t.manager.list_controls(session)}
            told = await t.manager.get_controls(session)
            assert listed == set(told) > {info.id for info in source.controls}
            assert (told[Cid.FOCUS_AUTO], told[Cid.AUTO_WHITE_BALANCE]) == (1, 1)
            await t.manager.set_controls(session, {Cid.AUTO_WHITE_BALANCE: 0})
            assert (await t.manager.get_controls(session))[Cid.AUTO_WHITE_BALANCE] == 0

            await it.controls.write(Cid.EXPOSURE_ABSOLUTE, 33, Origin.APP)
            assert it.controls.values[Cid.EXPOSURE_AUTO] == 1
            source.turn(Cid.FOCUS_ABSOLUTE, 222)
            await it.until(lambda: it.controls.values[Cid.FOCUS_AUTO] == 0, "manual focus")
            assert it.controls.values[Cid.AUTO_FOCUS_STATUS] == Status.IDLE
            source.camera.shine(6500, 2.0)
            for _ in range(30):
                await asyncio.to_thread(it.app.copy, 1.0)
            values = source.camera.values()
            assert (values[Cid.EXPOSURE_ABSOLUTE], values[Cid.FOCUS_ABSOLUTE]) == (33, 222)
            visitor.unplug()
            t.manager.depart("virtual")
            await t.until(lambda: not t.manager.sessions)
            assert t.manager.stage._flight is None

    asyncio.run(play())


def pilots() -> int:
    """Autopilots at work."""
    return sum(task.get_name() == "maglens-autopilot" for task in asyncio.all_tasks())


def test_there_is_one_autopilot_at_a_time_and_its_defect_is_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage, "ATTACH_AGAIN_S", (0.0, 0.0))

    async def play() -> None:
        async with theatre(Config(node=NodeConfig(width=640, height=480))) as t:
            source = raw_module()
            late = [Deadline("no answer"), Deadline("no answer")]
            really = source.set

            async def slowly(values: Mapping[int, int]) -> Mapping[int, int]:
                if late:
                    raise late.pop()
                return await really(values)

            monkeypatch.setattr(source, "set", slowly)
            t.manager.store.put(source.identity.key, Cid.IRIS_ABSOLUTE, 300)
            it = Watching(t.manager, source, t.watch())
            await t.until(lambda: t.manager.stage.watched)
            session = t.manager.arrive("virtual", 5000, VirtualVisitor(source))
            assert session is not None
            await t.until_playing(session)
            await it.until(lambda: source.camera.values()[Cid.IRIS_ABSOLUTE] == 300, "what is stored")
            assert not late
            await it.until(lambda: pilots() == 1, "one autopilot")
            flight = t.manager.stage._flight
            assert flight is not None

            def broken(seen: Measurement) -> None:
                raise ZeroDivisionError

            monkeypatch.setattr(flight.pilot, "observe", broken)
            await it.until(lambda: t.manager.stage._flight is None, "its end")
            await it.until(lambda: pilots() == 0, "nobody drives")
            await it.controls.write(Cid.IRIS_ABSOLUTE, 200, Origin.APP)
            assert source.camera.values()[Cid.IRIS_ABSOLUTE] == 200
            assert caplog.text.count("its automatics end") == 1
            assert t.manager.stage.playing is not None

    asyncio.run(play())


class Clumsy:
    """An autopilot that cannot follow a hand on the ring."""

    closed = False

    def hand(self, control: int, value: int) -> Mapping[int, int]:
        raise ZeroDivisionError

    async def close(self) -> None:
        self.closed = True


def test_a_hand_that_its_automatics_cannot_follow_ends_them_and_is_seen_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            visitor = FakeVisitor()
            await t.until_playing(t.arrive(visitor))
            it, pilot = t.manager.stage, Clumsy()

            async def until(condition: Callable[[], bool]) -> None:
                async with asyncio.timeout(10):
                    while not condition():  # noqa: ASYNC110 tasks of the stage's
                        await asyncio.sleep(0.001)

            await until(lambda: it.controls is not None and FOCUS.id in it.controls.values)
            assert it.playing is not None
            it._flight = stage._Flight(it.playing, cast(Autopilot, pilot))
            for value in (120, 130):
                assert visitor.source.sink is not None
                visitor.source.sink.control(visitor.source.generation, FOCUS.id, value)
                await until(lambda value=value: it.controls is not None and it.controls.values[FOCUS.id] == value)  # type: ignore[misc]
            await until(lambda: it._flight is None)
            await until(lambda: pilot.closed)
            assert caplog.text.count("its automatics end") == 1

    asyncio.run(play())
