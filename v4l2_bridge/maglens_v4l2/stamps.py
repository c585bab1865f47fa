# SPDX-License-Identifier: GPL-2.0-or-later
"""Stamps: the timestamps an app sees. Start of exposure, strictly rising, no jumps where time did not jump."""

from __future__ import annotations

MAX_LAG_NS = 1_000_000_000  # an exposure further back than this, or in the future, is not believed
STEP = 0.25  # smallest step between two pictures, and how fast a lag is worn off, in intervals
BAND = 0.5  # a lag no further from the usual one is told as it is, in intervals ...
SLEW = 1 / 16  # ... and the usual one changes by so much of the time that passes
JUMP = 1.75  # two pictures may be so many intervals apart, however soon the one was shown after the other


class Stamps:
    """Frames carry their start of exposure, which lies some way (*lag*) before they are shown. A filler that follows
    one keeps that lag and wears it off, instead of jumping to now; a frame that follows a filler may lie before
    it, and is then moved just behind it until the source's own timeline has caught up.

    Where the lag itself changes (a machine under load delivers later and later, another source plays, the module's
    clock is known better now) timestamps would run slower and then faster than the pictures: an app would count too
    many of them, then too few. So the lag is told as it is near what is usual, which follows slowly.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lag = 0
        self._shown = 0  # when
        self._usual: int | None = None  # lag of frames
        self._framed = 0  # when one was shown last

    def frame(self, exposure_ns: int, now: int, interval_ns: int) -> int:
        """The timestamp of a source's frame that is shown at ``now``."""
        lag = now - exposure_ns
        if not 0 <= lag <= MAX_LAG_NS:
            lag = 0
        lag = self._near_usual(lag, now, interval_ns)
        if self._last:
            lag = max(lag, now - self._latest(now, interval_ns))
        return self._advance(now - lag, now, interval_ns)

    def _near_usual(self, lag: int, now: int, interval_ns: int) -> int:
        step, band = round(SLEW * (now - self._framed)), round(BAND * interval_ns)
        self._framed = now
        if self._usual is None:
            self._usual = lag
        self._usual += max(-step, min(step, lag - self._usual))
        return max(self._usual - band, min(self._usual + band, lag))

    def filler(self, now: int, interval_ns: int) -> int:
        """The timestamp of a repeated frame or a card that is shown at ``now``."""
        lag = max(0, self._lag - round(STEP * interval_ns))
        if self._last:
            lag = max(lag, now - self._latest(now, interval_ns))
        return self._advance(now - lag, now, interval_ns)

    def _latest(self, now: int, interval_ns: int) -> int:
        """The timestamp that makes no gap, but for the one there was between the two pictures themselves."""
        return self._last + max(now - self._shown, round(JUMP * interval_ns))

    def _advance(self, wanted: int, now: int, interval_ns: int) -> int:
        self._last = max(wanted, self._last + round(STEP * interval_ns))
        self._lag = max(0, now - self._last)
        self._shown = now
        return self._last
