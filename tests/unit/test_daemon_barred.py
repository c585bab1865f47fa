# SPDX-License-Identifier: GPL-2.0-or-later
"""A source that a rule says never: people are told, and nobody waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from maglens_daemon import status
from maglens_daemon.cards import NOTHING
from maglens_daemon.config import PolicyConfig, Rule
from maglens_daemon.fake import FakeVisitor
from maglens_daemon.policy import BARRED
from maglens_daemon.session_state import SessionState
from tests.unit.test_daemon_manager import SMALL, theatre

NEVER = PolicyConfig(dwell_ms=0, rule=(Rule(identity="fake/camera/infrared", use="never"),))


def test_it_is_told_and_the_card_does_not_wait_for_it() -> None:
    async def play() -> None:
        async with theatre(replace(SMALL, policy=NEVER)) as t:
            t.watch()
            infrared = t.arrive(FakeVisitor("infrared"), "1-1")
            await t.until(lambda: infrared.state is SessionState.READY)
            await t.until(lambda: t.manager.obstacle(infrared) == BARRED)
            (only,) = t.manager.directors
            assert only.card() == NOTHING, "and not: starting ..."
            assert "ready" not in status.state_line(t.manager)
            t.manager.use("infrared")
            await t.until_playing(infrared)
            assert t.manager.obstacle(infrared) == ""
            t.manager.use("auto")
            await t.until_playing(None)
            assert t.manager.obstacle(infrared) == BARRED

    asyncio.run(play())
