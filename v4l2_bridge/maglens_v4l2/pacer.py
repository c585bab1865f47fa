# SPDX-License-Identifier: GPL-2.0-or-later
"""Pacer: when the next picture is due, so that an app sees the node's rate whatever the source does.

Pure arithmetic on CLOCK_MONOTONIC nanoseconds; the pipeline's thread asks it and does the waiting.

Pictures are counted on a grid of one interval T. A fresh frame goes out at once, even ahead of its place on the grid,
up to a limit (*lead*): latency comes before evenness. When none comes, a filler goes out at its place on the grid,
or, if the source's own rate says that a frame is about to come, after a short wait (*grace*). Lead and grace together
are wider than T, so a frame more or less moves the source within that band instead of toggling at its edge, and
jitter makes neither doubles nor drops. The grid is drawn slowly towards the source, so that two clocks that differ by
a few thousandths never need a filler at all.

A node may fill by itself when its owner is late. A filler that comes too late is left to it, instead of being shown
besides. What it showed is taken off the grid; what is more than that is a *debt*, paid back by pictures that come a
little later. A source's frame is left out for it only where frames come in a bunch, as they do after a stall: then
they are shown almost an interval apart, and the newest wins.

All that is arithmetic about the long run. What an app sees in any two seconds is kept by a quota besides: the picture
that would be one too many waits, whatever has led to it, and the newest wins. It waits for an interval after the
picture before at most, so the quota makes no gap.
"""

from __future__ import annotations

from maglens_v4l2.quota import Quota

# In intervals of the node.
GRACE = 0.5
LEAD_MAX = 1.5
LEAD_MIN = 0.25
GAP_MAX = 1.75  # an app may see two; a node that fills by itself does so then (maglens_patience in driver/kernel)
EARLY = 1 / 8  # where it has begun to fill, the next filler of ours comes so much before its
TOOK_MAX = 1 / 4  # the next picture may take as long to be shown as the one before, up to this
DEBT_MAX = 8
PAYBACK = 1 / 16  # later by so much, each filler, while there is a debt
BUNCH_DEBT = 1 / 2  # a debt from which on a bunch is drawn apart ...
APART = 15 / 16  # ... to this
PULL = 1 / 128  # of the lead, at each fresh frame: at most 1.2 % off the node's rate


class Pacer:
    """The grid and its next place. Not thread-safe: one owner."""

    def __init__(self, interval_ns: int) -> None:
        self.interval_ns = interval_ns
        self._source_ns: int | None = None
        self._due = 0
        self._debt = 0
        self._last: int | None = None
        self._node_due = 0  # what is handed over then finds that the node has filled; only after a first picture
        self._took = 0
        self.left = 0  # as many has it shown by itself since the last picture of ours, as far as is known
        self._quota = Quota(interval_ns)
        self._expected: int | None = None

    def follow(self, source_interval_ns: int | None) -> None:
        """A source of that interval begins; None: there is no source now."""
        self._source_ns = source_interval_ns
        self._expected = None

    def restart(self, now: int) -> None:
        """Someone begins to watch: a picture is due at once."""
        self._due = now
        self._debt = self.left = 0
        self._last = None
        self._quota.clear()

    def arrived(self, now: int) -> None:
        """The source delivered a frame."""
        if self._source_ns is not None:
            self._expected = now + self._source_ns

    def next_ns(self, fresh: bool) -> int:
        """When to show something; ``fresh``: a frame is waiting, else it will be a filler."""
        filler = self._filler_ns()
        if not fresh:
            return max(filler, self._quota.earliest)
        due = min(filler, self._due - self._lead_ns())
        if self._last is not None and self._debt > BUNCH_DEBT * self.interval_ns:
            due = max(due, self._last + round(APART * self.interval_ns))
        return max(due, self._quota.earliest)

    def early_ns(self, now: int) -> int:
        """For how long not even a frame that is ready may be shown; not positive: it may."""
        return self._quota.earliest - now

    def idle_ns(self) -> int:
        """When to show something while nobody watches: as seldom as lets an app that begins find a picture that is
        not too old."""
        return self._due if self._last is None else self._last + round(GAP_MAX * self.interval_ns)

    def leave(self, now: int) -> bool:
        """Whether a node that fills by itself has done so by now: what it showed counts, and a filler of ours would
        come too late."""
        if self._last is None or now < self._node_due:
            return False
        count = 1 + (now - self._node_due) // self.interval_ns
        self.left += count
        self._due += count * self.interval_ns
        self._node_filled(count)
        return True

    def shown(self, now: int, fresh: bool, filled: int = 0, took_ns: int = 0) -> None:
        """A picture was handed over, which the node took so long to show; before it the node has shown ``filled`` by
        itself, those that :meth:`leave` knew of among them."""
        interval = self.interval_ns
        if self._last is None:  # what it showed before anybody watched what is ours is no debt
            filled = min(filled, max(0, now - self._due) // interval)
        unforeseen, self.left = filled - self.left, 0
        self._node_filled(unforeseen)
        paid = min(self._debt, max(0, now - self._due))
        self._debt -= paid
        self._due += paid
        self._due += interval * (1 + unforeseen)
        if now - self._due > interval:  # stopped for longer: never make up for it with a burst
            self._due = now
        if filled and (ahead := self._due - now - interval) > 0:
            self._due -= ahead
            self._debt = min(self._debt + ahead, DEBT_MAX * interval)
        if fresh:
            self._due -= round((self._due - now - interval) * PULL)
        self._last = now
        self._took = min(took_ns, round(TOOK_MAX * interval))
        self._node_due = now + took_ns - self._took + round(GAP_MAX * interval)
        self._quota.add(now + took_ns)

    def _node_filled(self, count: int) -> None:
        """It has shown ``count`` more."""
        for place in range(min(count, self._quota.most), 0, -1):
            self._quota.add(self._node_due + self._took + (count - place) * self.interval_ns)
        self._node_due += max(0, count) * self.interval_ns

    def _filler_ns(self) -> int:
        grace = self._due + round(GRACE * self.interval_ns)
        due = grace if self._expected is not None and self._expected <= grace else self._due
        due += min(self._debt, round(PAYBACK * self.interval_ns))
        if self._last is None:
            return due
        return min(due, self._node_due - (round(EARLY * self.interval_ns) if self.left else 0))

    def _lead_ns(self) -> int:
        """How far ahead of the grid a fresh frame may go: little when the source is faster, so that the frames left
        out are spread evenly."""
        interval = self.interval_ns
        if self._source_ns is None:
            return round(LEAD_MAX * interval)
        wanted = 2.5 * self._source_ns - interval
        return round(min(max(wanted, LEAD_MIN * interval), LEAD_MAX * interval))
