# SPDX-License-Identifier: GPL-2.0-or-later
"""The painter: which cards it draws, and which it never does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

from maglens_driver.mode import NV12, YUYV, Mode, make_mode
from maglens_v4l2.card import Card, render
from maglens_v4l2.painter import PATIENCE_S, Painter
from tests.unit import fake_clock

NODE = make_mode(NV12, 64, 48, Fraction(1, 30))
OTHER = make_mode(YUYV, 64, 48, Fraction(1, 30))
STILL = Card("No camera")
FOUND = Card("Module found", ("identify",), passing=True)
READY = Card("A module", ("starting",), passing=True)


def painted(act: Callable[[Painter], Awaitable[None]]) -> list[tuple[Mode, bytes]]:
    """What a painter draws, in order, that has begun with ``STILL``."""
    found: list[tuple[Mode, bytes]] = []

    async def run() -> None:
        with ThreadPoolExecutor(1) as brush:
            painter = Painter(asyncio.get_running_loop(), brush, lambda mode, image: found.append((mode, image)))
            painter.want(STILL, NODE)
            await act(painter)
            painter.stop()
            await asyncio.sleep(2 * PATIENCE_S)

    fake_clock.run(run())
    assert found[0] == (NODE, render(STILL, NODE))
    return found[1:]


def image(card: Card, mode: Mode = NODE) -> tuple[Mode, bytes]:
    return mode, render(card, mode)


async def wait(share: float) -> None:
    await asyncio.sleep(share * PATIENCE_S)


def test_a_card_about_what_is_under_way_is_drawn_only_if_it_lasts() -> None:
    async def gone_in_time(painter: Painter) -> None:
        painter.want(FOUND, NODE)
        await wait(0.6)
        painter.want(READY, NODE)
        await wait(0.6)
        painter.want(STILL, NODE)
        await wait(2)

    async def lasts(painter: Painter) -> None:
        painter.want(FOUND, NODE)
        await wait(0.6)
        painter.want(FOUND, NODE)  # said again: it waits no longer for that
        await wait(0.6)

    assert painted(gone_in_time) == []
    assert painted(lasts) == [image(FOUND)]


def test_any_other_card_is_drawn_at_once_and_so_is_one_for_another_format() -> None:
    async def act(painter: Painter) -> None:
        painter.want(Card("Module refused"), NODE)
        painter.want(FOUND, NODE, now=True)
        painter.want(FOUND, OTHER)

    assert painted(act) == [image(Card("Module refused")), image(FOUND), image(FOUND, OTHER)]


def test_a_card_that_is_drawn_already_is_not_drawn_again() -> None:
    async def act(painter: Painter) -> None:
        painter.want(STILL, NODE, now=True)
        painter.want(FOUND, NODE)
        painter.want(STILL, NODE)
        await wait(2)

    assert painted(act) == []
