# SPDX-License-Identifier: GPL-2.0-or-later
"""What was converted is on its way to the node while the next is converted; nothing else happens meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from maglens_driver.errors import Gone
from maglens_driver.frame import Frame
from maglens_driver.mode import YUYV, make_mode
from maglens_v4l2.card import Card, render
from maglens_v4l2.convert import PictureConverter
from maglens_v4l2.feed import Feed
from tests.unit.test_bridge_pipeline import CARD, FAST, NODE, WAIT_S, Stage, flat, frame, is_card, play

CONVERTED = make_mode(YUYV, 128, 96, FAST)
A_WHILE_S = 0.2  # twenty pictures of the node


class Gate:
    """The node takes nothing until it is opened."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.threads: list[str] = []  # that submitted
        self.calls: list[str] = []  # what else the node was asked for meanwhile
        self.converted = self.converted_ns = 0  # how many, and when the last was begun
        self.fails: Exception | None = None
        self.takes = True
        submit, convert = stage.node.submit, PictureConverter.run

        def held(one: Frame) -> bool:
            self.threads.append(threading.current_thread().name.rstrip("_0123456789"))
            self.entered.set()
            assert self.open.wait(WAIT_S)
            if self.fails is not None:
                raise self.fails
            if not self.takes:
                one.lease.release()
            return self.takes and submit(one)

        def counted(converter: PictureConverter, one: Frame, dst: memoryview) -> str | None:
            self.converted_ns = time.monotonic_ns()
            self.converted += 1
            return convert(converter, one, dst)

        monkeypatch.setattr(stage.node, "submit", held)
        monkeypatch.setattr(PictureConverter, "run", counted)
        for name in ("repeat", "placeholder"):
            monkeypatch.setattr(stage.node, name, self._noted(name, getattr(stage.node, name)))

    def _noted(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object) -> object:
            if self.entered.is_set() and not self.open.is_set():
                self.calls.append(name)
            return call(*arguments)

        return noted


async def held_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> tuple[Gate, Feed]:
    """A first frame is on its way to the node, where the gate holds it."""
    await stage.see(is_card(CARD))
    gate = Gate(stage, monkeypatch)
    feed = stage.pipeline.begin(1, CONVERTED)
    feed.deliver(frame(feed, luma=60))
    await stage.until(gate.entered.is_set)
    return gate, feed


def test_the_next_is_converted_while_one_is_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        gate, feed = await held_up(stage, monkeypatch)
        feed.deliver(frame(feed, luma=70))
        await stage.until(lambda: gate.converted == 2)
        feed.deliver(frame(feed, luma=80))
        assert gate.threads == ["maglens-submit"]
        assert stage.pipeline.stats().submitted == 0
        gate.open.set()
        for luma in (60, 70, 80):
            await stage.see(flat(NODE, luma))
        await stage.until(lambda: stage.pipeline.stats().submitted == 3)
        assert stage.pipeline.stats().dropped == {}

    play(act)


def test_the_next_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pacer is told of a picture when it was shown; one on its way counts as well."""

    async def act(stage: Stage) -> None:
        gate, feed = await held_up(stage, monkeypatch)
        due = stage.pipeline._now()
        monkeypatch.setattr(stage.pipeline._pacer, "next_ns", lambda fresh: due)
        feed.deliver(frame(feed, luma=70))
        await stage.until(lambda: gate.converted == 2)
        assert gate.converted_ns - due >= NODE.interval_ns
        gate.open.set()

    play(act)


def test_one_that_would_be_too_many_waits_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many there were is known only when the one on its way has been shown."""

    async def act(stage: Stage) -> None:
        gate, feed = await held_up(stage, monkeypatch)
        feed.deliver(frame(feed, luma=70))
        await stage.until(lambda: gate.converted == 2)
        allowed = stage.pipeline._now() + round(A_WHILE_S * 1e9)
        monkeypatch.setattr(stage.pipeline._pacer, "early_ns", lambda now: allowed - now)
        gate.open.set()
        await stage.until(lambda: stage.pipeline.stats().submitted == 2)
        assert stage.pipeline.stats().last_frame_ns >= allowed

    play(act)


def test_no_filler_and_no_placeholder_overtakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        gate, _ = await held_up(stage, monkeypatch)
        stage.pipeline.show(Card("Other"))
        assert not gate.open.wait(A_WHILE_S)
        assert gate.calls == [] and len(gate.threads) == 1
        repeated = stage.pipeline.stats().repeated
        gate.open.set()
        await stage.see(flat(NODE, 60))
        await stage.until(lambda: stage.pipeline.stats().repeated > repeated)

    play(act)


def test_where_there_is_always_one_on_its_way_a_card_goes_between_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cards: list[bytes] = []  # that the node has, as each picture comes

    async def act(stage: Stage) -> None:
        gate, feed = await held_up(stage, monkeypatch)
        feed.deliver(frame(feed, luma=70))
        await stage.until(lambda: gate.converted == 2)
        submit = stage.node.submit

        def noting(one: Frame) -> bool:
            cards.append(stage.node.placeholder_image)
            return submit(one)

        monkeypatch.setattr(stage.node, "submit", noting)
        stage.pipeline.show(Card("Other"))
        await stage.until(lambda: stage.pipeline._card_image == render(Card("Other"), NODE))
        gate.open.set()
        await stage.see(flat(NODE, 70))
        assert cards[0] == render(Card("Other"), NODE)

    play(act)


def test_one_that_is_displaced_on_its_way_is_not_the_first_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        gate, _ = await held_up(stage, monkeypatch)
        successor = stage.pipeline.begin(2, CONVERTED)
        successor.deliver(frame(successor, luma=70))
        gate.open.set()
        await stage.see(flat(NODE, 60))
        await stage.see(flat(NODE, 70))
        await stage.until(lambda: stage.pipeline.stats().submitted == 2 and bool(stage.first))
        assert stage.taken == [1, 2] and stage.first == [2]

    play(act)


def test_what_passes_through_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        await stage.see(is_card(CARD))
        gate = Gate(stage, monkeypatch)
        gate.open.set()
        feed = stage.pipeline.begin(1, NODE)
        feed.deliver(frame(feed, luma=60))
        await stage.see(flat(NODE, 60))
        assert gate.threads[0] == "maglens-pipeline"

    play(act)


def test_what_the_node_does_not_take_is_counted_and_was_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        gate, feed = await held_up(stage, monkeypatch)
        gate.takes = False
        gate.open.set()
        await stage.until(lambda: stage.pipeline.stats().dropped == {"refused": 1})
        assert stage.pipeline.stats().submitted == 0 and stage.first == []
        gate.takes = True
        feed.deliver(frame(feed, luma=70))
        await stage.see(flat(NODE, 70))
        await stage.until(lambda: stage.first == [1])

    play(act)


@pytest.mark.parametrize("watched", [True, False])
def test_what_goes_wrong_there_ends_the_pipeline(watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        await stage.see(is_card(CARD))
        gate = Gate(stage, monkeypatch)
        gate.fails = Gone("the node was taken away")
        feed = stage.pipeline.begin(1, CONVERTED)
        feed.deliver(frame(feed, luma=60))
        await stage.until(gate.entered.is_set)
        if not watched:
            stage.reader.stop()
            await stage.until(lambda: not stage.pipeline.watched)
        gate.open.set()
        await stage.until(lambda: bool(stage.failed))
        assert stage.failed == [gate.fails]

    play(act)
