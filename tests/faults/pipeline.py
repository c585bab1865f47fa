# SPDX-License-Identifier: GPL-2.0-or-later
"""Pipeline: the bridge's own, taking its turns in the event loop instead of a thread, so that it lives in fake time;
and an app that reads what it shows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from maglens_driver.errors import Gone, MaglensError
from maglens_v4l2.card import Card
from maglens_v4l2.memory_node import MemoryReader
from maglens_v4l2.pipeline import Pipeline

P = ParamSpec("P")
T = TypeVar("T")


class _Bell(threading.Condition):
    """Told of news, it calls instead of waking a thread."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def notify(self, n: int = 1) -> None:
        self._ring()

    def notify_all(self) -> None:
        self._ring()


class _Here(Executor):
    """Everything is done at once."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class App:
    """Reads the node as an app does, each picture as soon as it is there."""

    def __init__(self, reader: MemoryReader) -> None:
        self.pictures = 0
        self.wrong: list[str] = []  # what no app may ever see
        self.longest_gap_s = 0.0
        self._reader = reader
        self._begun_s = asyncio.get_running_loop().time()
        self._last_s = self._begun_s
        self._before = (0, 0)
        reader.start()

    def take(self) -> None:
        """Read what is there."""
        while (shown := self._reader.read(0)) is not None:
            self._reader.give_back(shown)
            self.pictures += 1
            now = asyncio.get_running_loop().time()
            self.longest_gap_s, self._last_s = max(self.longest_gap_s, now - self._last_s), now
            sequence, stamp = self._before
            if self.pictures > 1 and (shown.sequence != sequence + 1 or shown.timestamp_ns <= stamp):
                self.wrong.append(f"picture {shown.sequence} of {shown.timestamp_ns} ns after {self._before}")
            self._before = (shown.sequence, shown.timestamp_ns)

    def waits_s(self) -> float:
        """The longest time between two pictures, up to now."""
        return max(self.longest_gap_s, asyncio.get_running_loop().time() - self._last_s)

    def close(self) -> None:
        """It ends."""
        self._reader.close()


class BenchPipeline(Pipeline):
    """Begins with no app; ``app`` is the bench's to set."""

    app: App | None = None

    @property
    def card(self) -> Card:
        """The one that is shown while no frame is."""
        return self._card

    @property
    def shows_card(self) -> bool:
        """Whether the last picture was the card."""
        return self._showing is not None

    @staticmethod
    def _now() -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def _begin(self) -> tuple[Executor, Executor]:
        self._turn: asyncio.Handle | None = None
        self._wake = _Bell(self._ring)
        self._ring()
        return _Here(), _Here()

    def _ring(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
        self._turn = None if self._closing else self._loop.call_soon(self._take_turns)

    def _take_turns(self) -> None:
        """All that is due; then sleep until more is, or until rung for."""
        self._turn = None
        try:
            while (found := self._due())[0] is not None:
                self._serve(found[0])
                if self.app is not None:
                    self.app.take()
        except (MaglensError, OSError, Gone) as error:
            self._call(self._on_failed, error)
            return
        if found[1] is not None and self._turn is None:
            self._turn = self._loop.call_later(found[1], self._take_turns)

    def _join(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
