# SPDX-License-Identifier: GPL-2.0-or-later
"""Herald: tells of changes once what caused them is done; those that come together are told together.

While somebody waits for a picture that is on its way, telling waits too, for it costs as much as a step of an attach.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

TELL_AFTER_S: Final = 0.02
PATIENCE_S: Final = 1.0  # a change is told after so long even in haste


class Herald:
    """``in_haste`` says whether somebody waits for a picture; all of ``tellers`` are called in the event loop."""

    def __init__(self, in_haste: Callable[[], bool], *tellers: Callable[[], None]) -> None:
        self.tellers = list(tellers)
        self._in_haste = in_haste
        self._timer: asyncio.TimerHandle | None = None
        self._late_at = 0.0  # loop time

    def changed(self) -> None:
        """There is something to tell."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._late_at = loop.time() + PATIENCE_S
            self._timer = loop.call_later(TELL_AFTER_S, self._due)

    def close(self) -> None:
        """What was not told yet is not told any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        if self._in_haste() and loop.time() < self._late_at:
            self._timer = loop.call_later(TELL_AFTER_S, self._due)
        else:
            self._timer = None
            for tell in self.tellers:
                tell()
