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
"""

from __future__ import annotations

# In intervals of the node.
GRACE = 0.5
LEAD_MAX = 1.5
LEAD_MIN = 0.25
GAP_MAX = 1.75  # an app may see two; a node that fills by itself does so then (maglens_patience in driver/kernel)
LATE = 1 / 16  # after that a filler is left to such a node
EARLY = 1 / 8  # where it has begun to fill, the next filler of ours comes so much before its
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
        self._node_due = 0  # when the node would fill by itself; only where there is a last picture
        self._left = 0  # fillers that were left to it since the last picture of ours
        self._expected: int | None = None

    def follow(self, source_interval_ns: int | None) -> None:
        """A source of that interval begins; None: there is no source now."""
        self._source_ns = source_interval_ns
        self._expected = None

    def restart(self, now: int) -> None:
        """Someone begins to watch: a picture is due at once."""
        self._due = now
        self._debt = self._left = 0
        self._last = None

    def arrived(self, now: int) -> None:
        """The source delivered a frame."""
        if self._source_ns is not None:
            self._expected = now + self._source_ns

    def next_ns(self, fresh: bool) -> int:
        """When to show something; ``fresh``: a frame is waiting, else it will be a filler."""
        filler = self._filler_ns()
        if not fresh:
            return filler
        due = min(filler, self._due - self._lead_ns())
        if self._last is not None and self._debt > BUNCH_DEBT * self.interval_ns:
            due = max(due, self._last + round(APART * self.interval_ns))
        return due

    def idle_ns(self) -> int:
        """When to show something while nobody watches: as seldom as lets an app that begins find a picture that is
        not too old."""
        return self._due if self._last is None else self._last + round(GAP_MAX * self.interval_ns)

    def leave(self, now: int) -> bool:
        """Whether a filler would come too late, since a node that fills by itself has done so: it counts as its."""
        if self._last is None or now < self._node_due + round(LATE * self.interval_ns):
            return False
        count = 1 + (now - self._node_due) // self.interval_ns
        self._left += count
        self._due += count * self.interval_ns
        self._node_due += count * self.interval_ns
        return True

    def shown(self, now: int, fresh: bool, filled: int = 0) -> None:
        """A picture went out; before it the node has shown ``filled`` by itself, those that were left to it among
        them."""
        interval = self.interval_ns
        unforeseen, self._left = filled - self._left, 0
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
        self._node_due = now + round(GAP_MAX * interval)

    def _filler_ns(self) -> int:
        grace = self._due + round(GRACE * self.interval_ns)
        due = grace if self._expected is not None and self._expected <= grace else self._due
        due += min(self._debt, round(PAYBACK * self.interval_ns))
        if self._last is None:
            return due
        return min(due, self._node_due - (round(EARLY * self.interval_ns) if self._left else 0))

    def _lead_ns(self) -> int:
        """How far ahead of the grid a fresh frame may go: little when the source is faster, so that the frames left
        out are spread evenly."""
        interval = self.interval_ns
        if self._source_ns is None:
            return round(LEAD_MAX * interval)
        wanted = 2.5 * self._source_ns - interval
        return round(min(max(wanted, LEAD_MIN * interval), LEAD_MAX * interval))
