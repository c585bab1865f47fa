# SPDX-License-Identifier: GPL-2.0-or-later
"""Pipeline: what a stage needs of one, without pictures and without a thread: it counts what comes, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from maglens_driver.frame import Frame, Lease
from maglens_driver.mode import Mode
from maglens_v4l2.card import Card
from maglens_v4l2.node import Node, NodeEvent
from maglens_v4l2.pipeline import PipelineStats


class _Buffer:
    """Memory that nobody looks at."""

    def __init__(self, nbytes: int) -> None:
        self.view = memoryview(bytearray(nbytes))

    def release(self) -> None:
        """It goes by itself."""


class CountingFeed:
    """The sink of one stream."""

    def __init__(self, pipeline: CountingPipeline, generation: int) -> None:
        self._pipeline = pipeline
        self.generation = generation

    def lease(self, nbytes: int) -> Lease | None:
        """Always one."""
        return _Buffer(nbytes)

    def deliver(self, frame: Frame) -> None:
        """Note when."""
        self._pipeline.delivered(self.generation)
        frame.lease.release()

    def control(self, generation: int, control: int, value: int) -> None:
        """See the real one."""
        self._pipeline.on_control(generation, control, value)

    def dropped(self, generation: int, cause: str) -> None:
        """Counted by the source as well."""

    def lost(self, generation: int, why: Exception) -> None:
        """See the real one."""
        asyncio.get_running_loop().call_soon(self._pipeline.on_lost, generation, why)


class CountingPipeline:
    """Stands in for :class:`maglens_v4l2.pipeline.Pipeline`. ``watched`` is the bench's to set."""

    made: list[CountingPipeline] = []  # noqa: RUF012 the bench's way to it

    def __init__(
        self,
        node: Node,
        *,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[int, Exception], None],
        on_control: Callable[[int, int, int], None],
        on_taken: Callable[[int], None] = lambda generation: None,
        on_event: Callable[[NodeEvent], None] = lambda event: None,
        on_first: Callable[[int], None] = lambda generation: None,
        on_failed: Callable[[Exception], None] = lambda why: None,
        card: Card = Card("maglens"),  # noqa: B008 frozen
        **_unused: object,  # what the real one is told of pixels
    ) -> None:
        self.format = node.state().format
        self.watched = self.convertible = True
        self.card = card
        self.cards: list[Card] = [card]
        self.frames: list[tuple[float, int]] = []  # loop time, generation
        self.on_lost, self.on_control = on_lost, on_control
        self._loop, self._on_taken, self._on_first = loop, on_taken, on_first
        self._coming: set[int] = set()
        self._places: dict[int, int] = {}
        self._generation: int | None = None
        CountingPipeline.made.append(self)

    def begin(self, generation: int, mode: Mode, *_unused: object) -> CountingFeed:
        """See the real one."""
        self._coming.add(generation)
        return CountingFeed(self, generation)

    def prefer(self, generations: Sequence[int]) -> None:
        """See the real one."""
        self._places = {generation: place for place, generation in enumerate(generations)}

    def withdraw(self, generation: int) -> bool:
        """See the real one."""
        if generation in self._coming:
            self._coming.discard(generation)
            return True
        return self._generation != generation

    def delivered(self, generation: int) -> None:
        """A frame of a feed: its first takes the stage, unless a better one has it."""
        if generation in self._coming:
            last = len(self._places)
            if self._generation is not None and self._places.get(self._generation, last) < self._places.get(
                generation, last
            ):
                return
            self._coming.discard(generation)
            self._generation = generation
            self._on_taken(generation)
            self._loop.call_soon(self._on_first, generation)
        if generation == self._generation:
            self.frames.append((self._loop.time(), generation))

    def end(self, card: Card) -> None:
        """See the real one."""
        self._generation = None
        self.show(card)

    def show(self, card: Card) -> None:
        """See the real one."""
        if card != self.card:
            self.card = card
            self.cards.append(card)

    def stats(self) -> PipelineStats:
        """See the real one; nothing is dropped, and no time of the real clock is told."""
        return PipelineStats(len(self.frames), len(self.frames), 0, 0, 0, {}, 0, self._generation, 0)

    async def close(self) -> None:
        """Nothing runs."""
