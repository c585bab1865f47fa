# SPDX-License-Identifier: GPL-2.0-or-later
"""A module that is optics only: the camera that is built in plays through it, and without it as before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from maglens_daemon import status
from maglens_daemon.bare_lens import bare_lens, optics_for
from maglens_daemon.cards import NO_CAMERA, card_for
from maglens_daemon.cli.output import status_text
from maglens_daemon.fake import FakeVisitor
from maglens_daemon.session_state import SessionState
from maglens_driver.errors import MaglensError, WrongState
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.virtual.lens import load_lens
from tests.unit.test_daemon_manager import WAIT_S, theatre

LENS = load_lens("m-mount-50mm").with_serial("B1").descriptor


class BareLens(FakeVisitor):
    """Optics only."""

    def __init__(self, descriptor: Descriptor = LENS) -> None:
        super().__init__(descriptor.identity.serial, modes=())
        source: Any = self.source
        source.descriptor = descriptor
        source.identity = descriptor.identity


class BuiltIn(FakeVisitor):
    """A camera of the board's own."""

    kind = "v4l2"
    needs_power = False
    snapped = False


class PluggedIn(BuiltIn):
    """A webcam that came later."""

    snapped = True


def test_a_camera_plays_through_the_lens_and_without_it_again() -> None:
    async def play() -> None:
        async with theatre() as t:
            camera = t.arrive(BuiltIn("c"), "video0")
            app = t.watch()
            await t.until_playing(camera)
            before = t.manager.stage.playing
            assert before is not None
            assert before.optics is None
            assert status.status(t.manager)["optics"] is None

            lens = t.arrive(BareLens(), "1-1")
            await t.until(lambda: bool(status.status(t.manager)["optics"]), "the lens is before the camera")
            await t.until_playing(camera)
            playing = t.manager.stage.playing
            assert playing is not None
            assert playing.generation > before.generation
            said = status.status(t.manager)
            assert said["optics"] == {
                "identity": "maglens/M-Mount 50mm F2/B1",
                "lens": "50 mm f/2",
                "focal_mm": (50.0, 50.0),
                "fnumber": (2.0, 16.0),
            }
            assert "through   50 mm f/2 (maglens/M-Mount 50mm F2/B1), 50 mm" in status_text(said)
            assert lens.state is SessionState.READY
            assert "sensor" in t.manager.obstacle(lens)

            t.manager.depart("1-1")
            await t.until(lambda: (p := t.manager.stage.playing) is not None and p.optics is None, "without it again")
            assert status.status(t.manager)["optics"] is None
            app.stop()

    asyncio.run(play())


def test_the_picture_is_the_lens_s() -> None:
    """An even grey comes out with the vignetting undone: brighter to the corners than it went in."""

    async def play() -> None:
        async with theatre() as t:
            visitor = BuiltIn("c")
            camera = t.arrive(visitor, "video0")
            t.arrive(BareLens(), "1-1")
            app = t.watch()
            await t.until(lambda: (p := t.manager.stage.playing) is not None and p.optics is not None)
            await t.until_playing(camera)
            pipeline = t.manager.stage.pipeline
            assert pipeline is not None
            width, height = pipeline.format.width, pipeline.format.height
            assert visitor.source.frame(100)
            middle = width * height // 2 + width // 2
            while (got := await asyncio.to_thread(app.copy, WAIT_S)) is not None:
                if abs(got[1][middle] - 100) <= 2:
                    break
            assert got is not None
            assert got[1][0] > 110
            app.stop()

    asyncio.run(play())


@pytest.mark.parametrize("visitor", [FakeVisitor, PluggedIn])
def test_what_a_person_has_put_there_is_left_alone(visitor: type[FakeVisitor]) -> None:
    """A module with a sensor, or a webcam: it has a lens of its own."""

    async def play() -> None:
        async with theatre() as t:
            module = t.arrive(visitor("m"), "1-2")
            lens = t.arrive(BareLens(), "1-1")
            app = t.watch()
            await t.until_playing(module)
            await t.until(lambda: lens.state is SessionState.READY)
            assert bare_lens(module, t.manager.sessions) is None
            assert optics_for(module, t.manager.sessions) is None
            playing = t.manager.stage.playing
            assert playing is not None
            assert playing.optics is None
            app.stop()

    asyncio.run(play())


def test_the_card_tells_of_the_camera_behind_the_lens() -> None:
    async def play() -> None:
        async with theatre() as t:
            lens = t.arrive(BareLens(), "1-1")
            await t.until(lambda: "sensor" in t.manager.obstacle(lens))
            alone = card_for(t.manager.sessions, {lens.id: t.manager.obstacle(lens)})
            assert (alone.title, alone.lines) == ("maglens M-Mount 50mm F2", NO_CAMERA)
            camera = t.arrive(BuiltIn("c"), "video0")
            await t.until(lambda: camera.state is SessionState.READY)
            with_it = card_for([camera, lens], {lens.id: t.manager.obstacle(lens)})
            assert camera.identity is not None
            assert with_it.title == f"{camera.identity.maker} {camera.identity.model}"
            assert with_it.passing

    asyncio.run(play())


@pytest.mark.parametrize(("visitor", "what"), [(FakeVisitor, "Module"), (BuiltIn, "Camera")])
def test_a_webcam_is_called_no_module(visitor: type[FakeVisitor], what: str) -> None:
    async def play() -> None:
        async with theatre() as t:
            session = t.arrive(visitor("c"), "video0")
            await t.until(lambda: session.state is SessionState.READY)
            session.fail(MaglensError("it is broken"))
            assert card_for([session], {}).title == f"{what} refused"

    asyncio.run(play())


def test_a_lens_is_no_source_that_can_be_chosen() -> None:
    async def play() -> None:
        async with theatre() as t:
            camera, lens = t.arrive(BuiltIn("c"), "video0"), t.arrive(BareLens(), "1-1")
            app = t.watch()
            await t.until(lambda: "sensor" in t.manager.obstacle(lens))
            await t.until_playing(camera)
            assert camera.identity is not None
            assert [shown.name for shown in t.nodes[0].inputs] == ["Automatic", camera.identity.model]
            with pytest.raises(WrongState, match="a lens without a camera"):
                t.manager.use("B1")
            assert t.manager.pinned == "auto"
            app.stop()

    asyncio.run(play())
