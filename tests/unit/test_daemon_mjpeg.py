# SPDX-License-Identifier: GPL-2.0-or-later
"""An app that takes MJPEG, which is passed on and never made: its choice is no failure of any camera."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from maglens_daemon import director
from maglens_daemon.config import Config, SourceConfig
from maglens_daemon.fake import MODE, FakeVisitor
from maglens_daemon.session_state import SessionState
from maglens_driver.frame import Frame
from maglens_driver.mode import MJPG, Mode
from maglens_v4l2.memory_node import MemoryReader
from tests.unit.test_daemon_bare_lens import BareLens, BuiltIn
from tests.unit.test_daemon_manager import SMALL, WAIT_S, Theatre, theatre

JPEG = replace(SMALL.node.mode, fourcc=MJPG, stride=0)
TURNED = replace(SMALL, source={"fake/*": SourceConfig(rotate=180)})


@asynccontextmanager
async def stage(config: Config = SMALL) -> AsyncIterator[tuple[Theatre, MemoryReader]]:
    async with theatre(config, also=(JPEG,)) as t:
        yield t, t.watch()


async def choose(t: Theatre, app: MemoryReader, mode: Mode) -> None:
    """The app changes its mind, between two streams."""
    app.stop()
    app.choose_format(mode)
    app.start()
    pipeline = t.manager.stage.pipeline
    assert pipeline is not None
    async with asyncio.timeout(WAIT_S):
        while pipeline.format != mode or not pipeline.watched:  # noqa: ASYNC110 no event
            await asyncio.sleep(0.001)


def test_what_a_camera_says_that_its_frames_take_at_most_says_nothing_of_them() -> None:
    """uvcvideo says as much as raw frames would take. A frame that is too large is left out, and no more."""
    wide = replace(JPEG, nbytes=2 * JPEG.nbytes)

    async def play() -> None:
        async with stage() as (t, app):
            visitor = FakeVisitor(modes=[MODE, wide])
            session = t.arrive(visitor)
            await t.until_playing(session)
            visitor.source.plays = False
            await choose(t, app, JPEG)
            await t.until(lambda: session.mode == wide and session.state is SessionState.STREAMING)

            def send(shade: int, nbytes: int) -> None:
                sink = visitor.source.sink
                assert sink is not None
                lease = sink.lease(wide.nbytes)
                assert lease is not None
                lease.view[:nbytes] = bytes((shade,)) * nbytes
                sink.deliver(Frame(lease, nbytes, wide, 1, time.monotonic_ns(), visitor.source.generation))

            async def until_shown(picture: bytes) -> None:
                while (got := await asyncio.to_thread(app.copy, WAIT_S)) is not None:
                    if got[1] == picture:
                        return
                pytest.fail("never shown")

            send(200, 100)
            await until_shown(b"\xc8" * 100)
            send(201, wide.nbytes)
            pipeline = t.manager.stage.pipeline
            assert pipeline is not None
            async with asyncio.timeout(WAIT_S):
                while pipeline.stats().dropped.get("refused") != 1:  # noqa: ASYNC110 no event
                    await asyncio.sleep(0.001)
            send(202, 100)
            await until_shown(b"\xca" * 100)

    asyncio.run(play())


@pytest.mark.parametrize("why", ["turned", "lens"])
def test_mjpeg_is_neither_turned_nor_corrected(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The camera waits until the app takes something else, and is told so."""
    monkeypatch.setattr(director, "RETRY_S", (0.0,) * len(director.RETRY_S))

    async def play() -> None:
        async with stage(TURNED if why == "turned" else SMALL) as (t, app):
            visitor = BuiltIn("c", modes=[MODE, JPEG])
            session = t.arrive(visitor, "video0")
            if why == "lens":
                t.arrive(BareLens(), "1-1")
            await t.until_playing(session)
            await choose(t, app, JPEG)
            obstacles = t.manager.directors[0].obstacles
            ended = (SessionState.QUARANTINED,)
            await t.until(lambda: "MJPEG" in obstacles.get(session.id, "") or session.state in ended)
            assert session.state not in ended, session.reason
            await choose(t, app, SMALL.node.mode)
            await t.until_playing(session)

    asyncio.run(play())
