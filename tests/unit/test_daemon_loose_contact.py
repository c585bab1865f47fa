# SPDX-License-Identifier: GPL-2.0-or-later
"""A module with a loose contact: it comes and goes, and must not cost a steady camera the stage."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from maglens_daemon.config import PolicyConfig
from maglens_daemon.fake import FakeVisitor
from maglens_daemon.session_state import SessionState
from tests.unit.test_daemon_bare_lens import BareLens
from tests.unit.test_daemon_manager import SMALL, Theatre, theatre


class BuiltIn(FakeVisitor):
    """A camera that nobody has snapped on."""

    kind = "libcamera"
    snapped = False


async def touch(t: Theatre, loose: FakeVisitor, state: SessionState) -> None:
    """It comes, gets as far as this, and goes."""
    session = t.arrive(loose, "1-2")
    await t.until(lambda: session.state is state)
    loose.unplug()
    t.manager.depart("1-2")
    await t.until(lambda: session not in t.manager.sessions)


def test_it_does_not_keep_an_empty_stage_empty() -> None:
    """It comes and goes faster than the steady one has its first frame."""

    async def play() -> None:
        async with theatre() as t:
            t.watch()
            steady = BuiltIn("1")
            steady.source.plays = False
            one = t.arrive(steady, "1-1")
            await t.until(lambda: one.state is SessionState.STREAMING, "the steady one is on its way")
            for _ in range(3):
                loose = FakeVisitor("2")
                loose.source.plays = False
                await touch(t, loose, SessionState.STREAMING)
                assert one.state is SessionState.STREAMING, "it goes on beside what is better"
            assert steady.steps.passed["start"] == 1
            assert steady.source.frame()
            await t.until_playing(one)

    asyncio.run(play())


def test_a_better_one_of_another_kind_still_takes_the_stage_first() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            steady, module = BuiltIn("1"), FakeVisitor("2")
            steady.source.plays = False
            one = t.arrive(steady, "1-1")
            await t.until(lambda: one.state is SessionState.STREAMING)
            two = t.arrive(module, "1-2")
            await t.until_playing(two)
            await t.until(lambda: one.state is SessionState.READY, "called off")

    asyncio.run(play())


def test_a_bare_lens_that_comes_and_goes_leaves_the_camera_alone() -> None:
    async def play() -> None:
        async with theatre(replace(SMALL, policy=PolicyConfig(dwell_ms=10_000))) as t:
            t.watch()
            steady = BuiltIn("1")
            one = t.arrive(steady, "1-1")
            await t.until_playing(one)
            for _ in range(3):
                await touch(t, BareLens(), SessionState.READY)
            await t.until_playing(one)
            assert steady.steps.passed["start"] == 1

    asyncio.run(play())


def test_a_bare_lens_that_stays_counts_by_itself() -> None:
    async def play() -> None:
        async with theatre(replace(SMALL, policy=PolicyConfig(dwell_ms=50))) as t:
            app = t.watch()
            one = t.arrive(BuiltIn("1"), "1-1")
            await t.until_playing(one)
            t.arrive(BareLens(), "1-2")
            await t.until(lambda: (p := t.manager.stage.playing) is not None and p.optics is not None)
            app.stop()

    asyncio.run(play())
