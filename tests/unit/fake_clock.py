# SPDX-License-Identifier: GPL-2.0-or-later
"""Fake clock: an event loop in which waiting costs nothing. For code without threads."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Instead of waiting, time goes on. Waiting for ever is a test that hangs, and an error at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everything waits, and nothing will ever come")
            self.now += max(0.0, timeout)
        return ready


class FakeClockLoop(asyncio.SelectorEventLoop):
    """Time is what the waits add up to."""

    def __init__(self) -> None:
        self._fake = _Selector()
        super().__init__(self._fake)

    def time(self) -> float:
        return self._fake.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` in fake time."""
    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        return runner.run(work)
