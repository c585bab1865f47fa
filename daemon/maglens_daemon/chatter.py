# SPDX-License-Identifier: GPL-2.0-or-later
"""Chatter: what a module says of itself, in the journal: some lines in a while, and how many were left out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

log = logging.getLogger(__name__)

LINES: Final = 10  # in one while
WHILE_S: Final = 10.0


class Chatter:
    """One per stay, in the event loop's thread. ``label`` and ``fields`` give what every line begins with and
    carries."""

    def __init__(self, label: Callable[[], str], fields: Callable[[], Mapping[str, str]]) -> None:
        self._label = label
        self._fields = fields
        self._said = 0  # in this while
        self._ends_s = 0.0  # loop time
        self._report: asyncio.TimerHandle | None = None  # of what is left out

    def say(self, level: int, text: str) -> None:
        """A line, or one more that is left out."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._ends_s:
            if self._report is not None:
                self._end()
            self._said, self._ends_s = 0, loop.time() + WHILE_S
        self._said += 1
        if self._said <= LINES:
            self._write(level, text)
        elif self._said == LINES + 1:
            self._report = loop.call_at(self._ends_s, self._end)

    def _end(self) -> None:
        """The while is over: how many there were besides."""
        if self._report is not None:
            self._report.cancel()
            self._report = None
        left, self._said, self._ends_s = self._said - LINES, 0, 0.0
        self._write(logging.WARNING, f"said {left} things more within {WHILE_S:.0f} s, which are left out")

    def _write(self, level: int, text: str) -> None:
        log.log(level, "%s: %s", self._label(), text, extra=self._fields())
