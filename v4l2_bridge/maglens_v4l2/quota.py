# SPDX-License-Identifier: GPL-2.0-or-later
"""Quota: between which two times the next picture has to come, so that any two seconds hold a tenth more or fewer
pictures than the rate says, and no more than that.

Each of the last pictures allows the one n places behind it no earlier than n intervals later, but for a slack: then
no two seconds hold too many. The other way round it is the same. A picture an interval or more after the one before
is never too early, and such are those that a node shows by itself: nobody has to ask before them.
"""

from __future__ import annotations

import math
from array import array

WINDOW_NS = 2_000_000_000
SHARE = 0.1
PICTURES = 2  # more or fewer may be in a window at any rate, however low: the beat of two clocks alone makes one
MARGIN = 1 / 16  # of an interval is kept back: timestamps reach apps in microseconds
OWN = 0.5  # of the pictures that may be missing, as many by choice; the others are for real gaps
_EVER = 1 << 62  # ns: beyond any time


class Quota:
    """The last pictures, as far as they are apart from a grid of one interval. Not thread-safe: one owner.

    ``earliest`` and ``latest`` (ns, the clock of what is added) are for the next picture.
    """

    def __init__(self, interval_ns: int) -> None:
        self.interval_ns = interval_ns
        nominal = WINDOW_NS / interval_ns
        self.most = max(math.floor((1 + SHARE) * nominal + MARGIN), math.floor(nominal + MARGIN) + PICTURES)
        missing = max(SHARE * nominal, PICTURES)
        self._ahead = round(self.most * interval_ns - WINDOW_NS - MARGIN * interval_ns)
        self._behind = round(OWN * missing * interval_ns)
        self.clear()

    def clear(self) -> None:
        """Forget them: any time is right for the next."""
        self._count = 0
        self.earliest, self.latest = -_EVER, _EVER
        # How far pictures are from the grid, by place in a round of ``most``; from the present place on, the extreme
        # of that place of the round before and all behind it. So one look tells that of what is left of that round.
        self._highs, self._lows = array("q", [-_EVER]) * (self.most + 1), array("q", [_EVER]) * (self.most + 1)
        self._high, self._low = -_EVER, _EVER  # of the present round

    def add(self, at: int) -> None:
        """A picture came."""
        place = self._count % self.most
        if place == 0:
            self._begin_round()
        offset = at - self._count * self.interval_ns
        self._highs[place] = self._lows[place] = offset
        self._high, self._low = max(self._high, offset), min(self._low, offset)
        self._count += 1
        grid = self._count * self.interval_ns
        self.earliest = grid + max(self._high, self._highs[place + 1]) - self._ahead
        self.latest = grid + min(self._low, self._lows[place + 1]) + self._behind

    def _begin_round(self) -> None:
        self._high, self._low = -_EVER, _EVER
        for place in range(self.most - 1, -1, -1):
            self._highs[place] = max(self._highs[place], self._highs[place + 1])
            self._lows[place] = min(self._lows[place], self._lows[place + 1])
