# SPDX-License-Identifier: GPL-2.0-or-later
"""Stamps: the timestamps an app sees. Start of exposure, strictly rising, no jumps where time did not jump, and in
any two seconds as many as the rate says, within a tenth."""

from __future__ import annotations

from maglens_v4l2.quota import Quota

MAX_LAG_NS = 1_000_000_000  # an exposure further back than this, or in the future, is not believed
STEP = 0.25  # smallest step between two pictures, and how fast a lag is worn off, in intervals
BAND = 0.5  # a lag no further from the usual one is told as it is, in intervals ...
SLEW = 1 / 16  # ... and the usual one changes by so much of the time that passes
JUMP = 1.75  # two pictures may be so many intervals apart, however soon the one was shown after the other
LEAST_NS = 1_000  # what a node makes of timestamps that do not rise


class Stamps:
    """Frames carry their start of exposure, which lies some way (*lag*) before they are shown. A filler that follows
    one keeps that lag and wears it off, instead of jumping to now; a frame that follows a filler may lie before
    it, and is then moved just behind it until the source's own timeline has caught up.

    Where the lag itself changes (a machine under load delivers later and later, another source plays, the module's
    clock is known better now) timestamps would run slower and then faster than the pictures: an app would count too
    many of them, then too few. So the lag is told as it is near what is usual, which follows slowly. And whatever it
    does, a quota keeps the count: a timestamp that would be one too many in two seconds is told nearer to now (which
    always helps, since pictures have the same quota, and none has a timestamp after its time), and a lag is worn off
    no faster than the quota allows.

    :meth:`frame` and :meth:`filler` choose; what was shown then is told by :meth:`shown`. A node may show pictures by
    itself meanwhile, with timestamps of its own: they are reckoned here as it does.
    """

    def __init__(self) -> None:
        self._quota: Quota | None = None
        self._last = 0  # timestamp; 0: none yet
        self._lag = 0
        self._shown = 0  # when
        self._usual: int | None = None  # lag of frames
        self._framed = 0  # when one was shown last
        self._node_due = self._node_lag = 0  # when the node will show one by itself, and the lag it goes by
        self._replayed = 0  # of those, since the last picture of ours

    def frame(self, exposure_ns: int, now: int, interval_ns: int, left: int = 0) -> int:
        """The timestamp of a source's frame that is shown at ``now``; ``left``: as many has the node, it seems, shown
        by itself since the last picture of ours."""
        self._replay(left - self._replayed, interval_ns)
        lag = now - exposure_ns
        if not 0 <= lag <= MAX_LAG_NS:
            lag = 0
        return self._within(now - self._near_usual(lag, now, interval_ns), now, interval_ns)

    def filler(self, now: int, interval_ns: int, left: int = 0) -> int:
        """The timestamp of a repeated frame or a card that is shown at ``now``; ``left`` as for :meth:`frame`."""
        self._replay(left - self._replayed, interval_ns)
        return self._within(now - max(0, self._lag - round(STEP * interval_ns)), now, interval_ns)

    def shown(self, stamp: int, now: int, interval_ns: int, filled: int = 0, took_ns: int = 0) -> None:
        """A picture was shown with the timestamp ``stamp`` that was chosen at ``now``, ``took_ns`` later, after
        ``filled`` that the node had shown by itself since the one before."""
        self._replay(filled - self._replayed, interval_ns)
        self._replayed = 0
        self._node_due = now + took_ns + round(JUMP * interval_ns)
        self._node_lag = now + took_ns - stamp
        self._tell(stamp, now + took_ns, interval_ns)
        self._lag = max(0, now - self._last)

    def _near_usual(self, lag: int, now: int, interval_ns: int) -> int:
        step, band = round(SLEW * (now - self._framed)), round(BAND * interval_ns)
        self._framed = now
        if self._usual is None:
            self._usual = lag
        self._usual += max(-step, min(step, lag - self._usual))
        return max(self._usual - band, min(self._usual + band, lag))

    def _within(self, wanted: int, now: int, interval_ns: int) -> int:
        """As near to ``wanted`` as may be."""
        if not self._last:
            return wanted
        quota, passed = self._quota_of(interval_ns), now - self._shown
        least, most = self._last + round(STEP * interval_ns), self._last + max(passed, round(JUMP * interval_ns))
        earliest = max(least, min(quota.earliest, now, most))
        latest = min(most, max(quota.latest, self._last + passed))
        return max(earliest, min(latest, wanted))

    def _replay(self, count: int, interval_ns: int) -> None:
        """``count`` more of the node's own, as maglens_fill() in driver/kernel does them."""
        if count <= 0 or not self._last:
            return
        self._replayed += count
        if (beyond := count - self._quota_of(interval_ns).most) > 0:  # nobody asks for them any more
            self._node_due += beyond * interval_ns
            self._node_lag, self._last = 0, max(self._last, self._node_due - interval_ns)
            count -= beyond
        for _ in range(count):
            kept = self._node_due - self._node_lag
            worn = kept + min(self._node_lag, interval_ns // 4)
            stamp = min(max(self._last + round(JUMP * interval_ns), kept), worn)
            self._node_lag = self._node_due - stamp
            self._tell(stamp, self._node_due, interval_ns)
            self._node_due += interval_ns

    def _tell(self, stamp: int, at: int, interval_ns: int) -> None:
        """Apps get ``stamp`` at ``at``, or what the node makes of one that does not rise."""
        if stamp < self._last + LEAST_NS:
            stamp = max(min(self._last + interval_ns // 4, at), self._last + LEAST_NS)
        self._last, self._lag, self._shown = stamp, max(0, at - stamp), at
        self._quota_of(interval_ns).add(stamp)

    def _quota_of(self, interval_ns: int) -> Quota:
        if self._quota is None or self._quota.interval_ns != interval_ns:
            self._quota = Quota(interval_ns)
        return self._quota
