# SPDX-License-Identifier: GPL-2.0-or-later
"""A pipeline's thread and a node that fills by itself, in miniature and in a time of their own: what an app sees of
sources that come and go, on a machine that stands still now and then."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from maglens_v4l2.pacer import Pacer
from maglens_v4l2.stamps import Stamps

SECOND = 1_000_000_000
MS = 1_000_000
START = 100 * SECOND
WINDOW = 2 * SECOND


@dataclass(frozen=True, slots=True)
class Delivery:
    """A frame that is there at ``at``; ``interval_ns`` is its source's. Without it: that source is lost."""

    at: int
    exposed: int
    generation: int
    interval_ns: int | None


@dataclass
class Film:
    """What an app has seen: when each picture was there, its timestamp, and whose it was (``frame``, ``filler``,
    ``node``). ``waits``: from a frame's delivery to the app, less what the machine stood still meanwhile."""

    times: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    displaced: int = 0

    def add(self, at: int, stamp: int, kind: str) -> None:
        self.times.append(at)
        self.stamps.append(stamp)
        self.kinds.append(kind)


class FillingNode:
    """The kernel node as maglens-frame.c does it: maglens_fill(), maglens_show(), maglens_accept()."""

    def __init__(self, interval_ns: int, film: Film) -> None:
        self._interval = interval_ns
        self._patience = 2 * interval_ns - interval_ns // 4
        self._film = film
        self._due = START + self._patience
        self._last = self._lag = self._filled = 0

    def run(self, now: int) -> None:
        """Until then nothing is submitted."""
        while self._due <= now:
            kept = self._due - self._lag
            stamp = min(max(self._last + self._patience, kept), kept + min(self._lag, self._interval // 4))
            self._lag = self._due - stamp
            self._show(self._due, stamp, "node")
            self._filled += 1
            self._due += self._interval

    def submit(self, at: int, stamp: int, kind: str) -> int:
        """How many it has shown by itself since the one before."""
        self.run(at)
        filled, self._filled = self._filled, 0
        self._lag, self._due = at - stamp, at + self._patience
        self._show(at, stamp, kind)
        return filled

    def _show(self, at: int, stamp: int, kind: str) -> None:
        if stamp < self._last + 1000:
            stamp = max(min(self._last + self._interval // 4, at), self._last + 1000)
        self._last = stamp
        self._film.add(at, stamp, kind)


class Stalls:
    """When nothing here runs, but the node does: from, until."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self._spans = spans
        self._begins = [began for began, _ in spans]

    def awake(self, at: int) -> int:
        """``at``, or the end of the stall it falls into."""
        place = bisect.bisect_right(self._begins, at) - 1
        return max(at, self._spans[place][1]) if place >= 0 else at

    def within(self, began: int, ended: int) -> int:
        """How much of that time."""
        return sum(max(0, min(ended, b) - max(began, a)) for a, b in self._spans)


def play(
    interval_ns: int,
    deliveries: Sequence[Delivery],
    end: int,
    *,
    stalls: Stalls,
    convert_ns: int = 0,
    submit_ns: int = 0,
    beside: bool = False,
    torn: bool = False,
) -> Film:
    """As the pipeline's thread does it; ``beside``: what was converted is submitted by a thread of its own. ``torn``:
    a stall may also fall between the choice of a timestamp and the node's taking the picture."""
    film = Film()
    pacer, stamps, node = Pacer(interval_ns), Stamps(), FillingNode(interval_ns, film)
    coming = [(stalls.awake(one.at), one) for one in deliveries]
    place = generation = 0
    mailbox: tuple[int, Delivery] | None = None
    going: tuple[int, int, int, tuple[int, Delivery] | None] | None = None  # handed over, there, timestamp, frame
    now = START
    pacer.restart(now)

    def there() -> None:
        nonlocal going
        assert going is not None
        handed, at, stamp, frame = going
        going = None
        filled = node.submit(at, stamp, "filler" if frame is None else "frame")
        if frame is not None:
            film.waits.append(at - frame[0] - stalls.within(frame[0], at))
        pacer.shown(handed, frame is not None, filled, at - handed)
        stamps.shown(stamp, handed, interval_ns, filled, at - handed)

    while now < end:
        if going is not None and going[1] <= now:
            there()
        while place < len(coming) and coming[place][0] <= now:
            at, one = coming[place]
            place += 1
            if one.interval_ns is None:
                pacer.follow(None)
                continue
            if one.generation != generation:
                generation = one.generation
                pacer.follow(one.interval_ns)
            film.displaced += mailbox is not None
            mailbox = (at, one)
            pacer.arrived(at)
        news = [coming[place][0]] if place < len(coming) else []
        news += [going[1]] if going is not None else []
        if mailbox is None and going is not None:
            now = min(news)
            continue
        due = pacer.next_ns(mailbox is not None) + (0 if going is None else interval_ns)
        if now < due:
            now = stalls.awake(min([due, *news]))
            continue
        if going is None and pacer.leave(now):
            continue
        frame, mailbox = mailbox, None
        if frame is not None:
            now = stalls.awake(now + convert_ns)
            if going is not None:
                now = max(now, going[1])
                there()
            while (early := pacer.early_ns(now)) > 0:
                now = stalls.awake(now + early)
        pacer.leave(now)
        if frame is not None:
            stamp = stamps.frame(frame[1].exposed, now, interval_ns, pacer.left)
        else:
            stamp = stamps.filler(now, interval_ns, pacer.left)
        going = (now, stalls.awake(now + submit_ns) if torn else now + submit_ns, stamp, frame)
        if not (beside and frame is not None):
            now = going[1]
            there()
    node.run(end)
    return film


def switching(dice: random.Random, seconds: float, rates: Sequence[float] = (15, 30, 7.5, 60)) -> list[Delivery]:
    """Sources of different rates, clocks and lags (5 to 200 ms), each for some seconds, with and without a pause."""
    found: list[Delivery] = []
    at, generation = START, 0
    while at < START + seconds * SECOND:
        generation += 1
        interval = round(SECOND / dice.choice(rates) * (1 + dice.uniform(-1e-3, 1e-3)))
        lag = dice.randint(5, 200) * MS
        jitter = dice.uniform(0, 0.3)
        first = at + dice.randint(0, interval)
        count = max(2, round(dice.uniform(0.5, 6) * SECOND) // interval)
        for exposed in range(first, first + count * interval, interval):
            there = exposed + lag + round(dice.uniform(0, jitter) * interval)
            found.append(Delivery(there, exposed, generation, interval))
        at = first + count * interval
        if dice.random() < 0.6:
            found.append(Delivery(found[-1].at + interval // 3, 0, generation, None))
            at += round(dice.choice([0, 0.2, 1.5]) * SECOND)
    found.sort(key=lambda one: one.at)
    best = list(itertools.accumulate((one.generation for one in found), max))
    return [one for one, newest in zip(found, best, strict=True) if one.generation == newest]


def stalling(dice: random.Random, seconds: float, per_s: float, longest_ms: int) -> Stalls:
    """So many in a second, of any length up to the longest."""
    spans: list[tuple[int, int]] = []
    at = START
    while per_s and at < START + seconds * SECOND:
        at += round(dice.expovariate(per_s) * SECOND)
        spans.append((at, at + round(dice.uniform(0, longest_ms) * MS)))
        at = spans[-1][1]
    return Stalls(spans)


def counts(times: Sequence[int]) -> list[int]:
    """Pictures in every two seconds that begin with one."""
    return [
        bisect.bisect_left(times, at + WINDOW) - place for place, at in enumerate(times) if at + WINDOW <= times[-1]
    ]


def largest_gap(times: Sequence[int]) -> int:
    """Between two pictures, ns."""
    return max(b - a for a, b in itertools.pairwise(times))
