# SPDX-License-Identifier: GPL-2.0-or-later
"""The herald: when changes are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from maglens_daemon.herald import PATIENCE_S, TELL_AFTER_S, Herald
from tests.unit import fake_clock


class Telling:
    """A herald, whether there is haste, and the times at which it told."""

    def __init__(self) -> None:
        self.haste = False
        self.times: list[float] = []
        self.herald = Herald(lambda: self.haste, lambda: self.times.append(asyncio.get_running_loop().time()))


def told(act: Callable[[Telling], Awaitable[None]]) -> list[float]:
    async def run() -> list[float]:
        telling = Telling()
        await act(telling)
        await asyncio.sleep(3 * PATIENCE_S)
        return telling.times

    return [round(time, 3) for time in fake_clock.run(run())]


def test_changes_that_come_together_are_told_together() -> None:
    async def act(telling: Telling) -> None:
        telling.herald.changed()
        telling.herald.changed()
        await asyncio.sleep(1)
        telling.herald.changed()

    assert told(act) == [TELL_AFTER_S, 1 + TELL_AFTER_S]


def test_in_haste_they_wait_until_it_is_over() -> None:
    async def act(telling: Telling) -> None:
        telling.haste = True
        telling.herald.changed()
        await asyncio.sleep(PATIENCE_S / 2)
        telling.haste = False

    (time,) = told(act)
    assert PATIENCE_S / 2 <= time <= PATIENCE_S / 2 + TELL_AFTER_S


def test_haste_without_end_does_not_keep_them_for_ever() -> None:
    async def act(telling: Telling) -> None:
        telling.haste = True
        telling.herald.changed()

    (time,) = told(act)
    assert PATIENCE_S <= time <= PATIENCE_S + TELL_AFTER_S


def test_a_closed_one_tells_nothing_more() -> None:
    async def act(telling: Telling) -> None:
        telling.herald.changed()
        telling.herald.close()

    assert told(act) == []
