# SPDX-License-Identifier: GPL-2.0-or-later
"""A module that talks without end fills no journal."""

from __future__ import annotations

import asyncio
import logging

import pytest

from maglens_daemon.chatter import LINES, WHILE_S, Chatter
from tests.unit.fake_clock import run


def test_a_flood_is_told_in_few_lines_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    chatter = Chatter(lambda: "it", lambda: {"MAGLENS_PORT": "1-1"})

    async def flood() -> None:
        for number in range(300):
            chatter.say(logging.WARNING, f"fault {number}")
            await asyncio.sleep(0.005)
        assert [r.getMessage() for r in caplog.records] == [f"it: fault {n}" for n in range(LINES)]
        await asyncio.sleep(WHILE_S)
        assert caplog.records[-1].getMessage() == "it: said 290 things more within 10 s, which are left out"
        assert vars(caplog.records[-1])["MAGLENS_PORT"] == "1-1"
        chatter.say(logging.WARNING, "later")
        assert caplog.records[-1].getMessage() == "it: later", "a new while has begun"
        assert len(caplog.records) == LINES + 2

    with caplog.at_level(logging.INFO, "maglens_daemon.chatter"):
        run(flood())


def test_a_few_words_now_and_then_are_all_told(caplog: pytest.LogCaptureFixture) -> None:
    chatter = Chatter(lambda: "it", dict)

    async def talk() -> None:
        for number in range(40):
            chatter.say(logging.INFO, f"button {number}")
            await asyncio.sleep(1.01)

    with caplog.at_level(logging.INFO, "maglens_daemon.chatter"):
        run(talk())
    assert len(caplog.records) == 40
