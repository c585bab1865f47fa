# SPDX-License-Identifier: GPL-2.0-or-later
"""Painter: draws cards off the loop's thread; the one wanted last is painted last.

A card takes as long as all else that happens between a module's coming and its first frame. One that tells of what is
under way is therefore drawn only if it lasts: most often the camera's own picture is there first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final

from maglens_driver.mode import Mode
from maglens_v4l2.card import Card, render

PATIENCE_S: Final = 1.0  # a passing card that is asked for so long is drawn

log = logging.getLogger(__name__)


class Painter:
    """One per pipeline; called in the event loop's thread. ``brush`` draws, one card after the other, and then calls
    ``painted(format, image)``."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, brush: Executor, painted: Callable[[Mode, bytes], None]
    ) -> None:
        self._loop = loop
        self._brush = brush
        self._painted = painted
        self._wanted: tuple[Card, Mode] | None = None
        self._begun: tuple[Card, Mode] | None = None  # what is painted, or being painted
        self._due: asyncio.TimerHandle | None = None

    def want(self, card: Card, format: Mode, *, now: bool = False) -> None:
        """From here on ``card`` is the one to see; ``now``: even if it is a passing one."""
        if not now and self._wanted == (card, format):
            return
        self._wanted = (card, format)
        self.stop()
        if self._begun == self._wanted:
            return
        if card.passing and not now and self._begun is not None and self._begun[1] == format:
            self._due = self._loop.call_later(PATIENCE_S, self._begin, card, format)
        else:
            self._begin(card, format)

    def _begin(self, card: Card, format: Mode) -> None:
        self._begun = (card, format)

        def done(future: Future[bytes]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is not None:
                log.error("the card cannot be drawn", exc_info=error)
                return
            self._painted(format, future.result())

        self._brush.submit(render, card, format).add_done_callback(done)

    def stop(self) -> None:
        """Nothing is begun by itself any more."""
        if self._due is not None:
            self._due.cancel()
