# SPDX-License-Identifier: GPL-2.0-or-later
"""A module with a loose contact: it comes and goes, and must not cost a steady camera the stage."""

from __future__ import annotations

import asyncio

from maglens_daemon.fake import FakeVisitor
from maglens_daemon.session_state import SessionState
from tests.unit.test_daemon_manager import Theatre, theatre


class BuiltIn(FakeVisitor):
    """A camera that nobody has snapped on."""

    kind = "libcamera"
    snapped = False


async def touch(t: Theatre) -> None:
    """It comes, is brought, and goes before its first frame."""
    loose = FakeVisitor("2")
    loose.source.plays = False
    session = t.arrive(loose, "1-2")
    await t.until(lambda: session.state is SessionState.STREAMING)
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
                await touch(t)
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
