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
        self._offsets = array("q", [0]) * self.most  # from the grid, of the last pictures
        self.clear()

    def clear(self) -> None:
        """Forget them: any time is right for the next."""
        self._count = 0
        self.earliest, self.latest = -_EVER, _EVER

    def add(self, at: int) -> None:
        """A picture came."""
        offset = at - self._count * self.interval_ns
        if not self._count:  # as if all before had come evenly
            for place in range(self.most):
                self._offsets[place] = offset
        self._offsets[self._count % self.most] = offset
        self._count += 1
        grid = self._count * self.interval_ns
        self.earliest = grid + max(self._offsets) - self._ahead
        self.latest = grid + min(self._offsets) + self._behind
