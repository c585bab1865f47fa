# SPDX-License-Identifier: GPL-2.0-or-later
"""Ladder: down a step where a mode proves too much, up again after a quiet time, never to and fro. Pure.

Its steps are prices: what a mode takes of something that is short (Mbit/s of a link, a module's own work). A bad time
takes away the dearest that is left; a quiet time without one gives back the next.

It does not flap: a climb is tried only after a quiet time, and each climb that ends in a bad time before another
quiet time has passed doubles the one after it, up to the longest.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence


class Move(enum.Enum):
    """What a look leads to."""

    STAY = "stay"
    DOWN = "down"
    UP = "up"


class Ladder:
    """One thing that may be short, from attach to removal. ``ceiling`` is the dearest price that modes may have, None
    for any; ``quiet_s`` seconds lie before the next climb."""

    def __init__(self, quiet_s: float, longest_quiet_s: float) -> None:
        self.ceiling: int | None = None
        self.quiet_s = quiet_s
        self._first_quiet_s = quiet_s
        self._longest_quiet_s = longest_quiet_s
        self._bad_at: float | None = None  # end of the last bad time
        self._climbed_at: float | None = None

    def again_at(self) -> float | None:
        """When a climb may be tried; None where there is nothing to climb."""
        if self.ceiling is None or self._bad_at is None:
            return None
        return max(self._bad_at, self._climbed_at or self._bad_at) + self.quiet_s

    def look(self, now: float, bad: bool, prices: Sequence[int], playing: int) -> Move:
        """Whether it is ``bad`` at ``now`` with a mode of price ``playing``; ``prices`` are those of all modes."""
        return self._down(now, prices, playing) if bad else self._up(now, prices)

    def _down(self, now: float, prices: Sequence[int], playing: int) -> Move:
        if self._climbed_at is not None and now < self._climbed_at + self.quiet_s:
            self.quiet_s = min(self.quiet_s * 2, self._longest_quiet_s)  # that climb was a mistake
        self._climbed_at = None
        self._bad_at = now
        cheaper = [price for price in prices if price < playing]
        if not cheaper:
            return Move.STAY  # nothing smaller is left
        self.ceiling = max(cheaper)
        return Move.DOWN

    def _up(self, now: float, prices: Sequence[int]) -> Move:
        at = self.again_at()
        if at is None:
            if self._climbed_at is not None and now >= self._climbed_at + self.quiet_s:
                self._climbed_at, self.quiet_s = None, self._first_quiet_s  # back at the top, and it holds
            return Move.STAY
        if now < at:
            return Move.STAY
        assert self.ceiling is not None
        dearer = [price for price in prices if price > self.ceiling]
        self.ceiling = min(dearer) if dearer and min(dearer) < max(prices) else None
        self._climbed_at = now
        return Move.UP
