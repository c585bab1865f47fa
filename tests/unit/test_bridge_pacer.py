# SPDX-License-Identifier: GPL-2.0-or-later
"""The pacer and the stamps, with a clock of their own: rates, jitter, stalls."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest

from maglens_v4l2.pacer import GAP_MAX, Pacer
from maglens_v4l2.stamps import Stamps
from tests.unit.pacing_model import MS, SECOND, START, Delivery, Stalls, counts, largest_gap, play, stalling

T = 33_333_333


@dataclass
class Outcome:
    fresh: list[tuple[int, int]] = field(default_factory=list)  # (when, number)
    fillers: list[int] = field(default_factory=list)

    @property
    def times(self) -> list[int]:
        return sorted([when for when, _ in self.fresh] + self.fillers)

    def largest_gap(self) -> float:
        times = self.times
        return max(b - a for a, b in itertools.pairwise(times)) / T


def simulate(source_ns: int | None, arrivals: list[int], end: int) -> Outcome:
    """The pipeline's thread in miniature: newest frame wins, exact wake-ups."""
    pacer = Pacer(T)
    pacer.restart(0)
    pacer.follow(source_ns)
    out = Outcome()
    coming = list(enumerate(arrivals))
    mailbox: int | None = None
    now = 0
    while now < end:
        due = pacer.next_ns(mailbox is not None)
        if coming and coming[0][1] <= max(due, now):
            mailbox, when = coming.pop(0)
            now = max(now, when)
            pacer.arrived(now)
            continue
        now = max(now, due)
        if mailbox is None:
            out.fillers.append(now)
        else:
            out.fresh.append((now, mailbox))
        pacer.shown(now, mailbox is not None)
        mailbox = None
    return out


def jittered(source_ns: int, count: int, jitter: float, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return sorted(round(source_ns * (1 + n) + rng.uniform(-jitter, jitter) * T) for n in range(count))


def test_no_source_gives_an_exact_grid() -> None:
    out = simulate(None, [], 10 * SECOND)
    assert not out.fresh
    assert len(out.fillers) == pytest.approx(300, abs=2)
    assert out.largest_gap() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("jitter", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("ppm", [-2000, -50, 0, 50, 2000])
def test_same_rate_shows_every_frame_at_once(jitter: float, ppm: int) -> None:
    source = round(T * (1 + ppm / 1e6))
    arrivals = jittered(source, 900, jitter)
    out = simulate(source, arrivals, arrivals[-1])
    assert len(out.fresh) >= 0.98 * len(arrivals)
    assert len(out.times) == pytest.approx(arrivals[-1] / T, rel=0.02)
    assert out.largest_gap() <= 2
    late = [when - arrivals[number] for when, number in out.fresh]
    assert sum(wait == 0 for wait in late) >= 0.98 * len(late)


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("fps", [5, 10, 15, 20, 24, 25, 29.97])
def test_slower_source_is_filled_up_to_the_rate(fps: float, jitter: float) -> None:
    source = round(SECOND / fps)
    arrivals = jittered(source, round(fps * 30), jitter)
    out = simulate(source, arrivals, arrivals[-1])
    assert len(out.times) == pytest.approx(arrivals[-1] / T, rel=0.02)
    assert len(out.fresh) >= 0.98 * len(arrivals)
    assert out.largest_gap() <= 2


@pytest.mark.parametrize("jitter", [0.0, 0.1])
@pytest.mark.parametrize("fps", [40, 50, 60, 120])
def test_faster_source_is_thinned_to_the_rate(fps: int, jitter: float) -> None:
    source = round(SECOND / fps)
    arrivals = jittered(source, fps * 30, jitter)
    out = simulate(source, arrivals, arrivals[-1])
    assert len(out.times) == pytest.approx(arrivals[-1] / T, rel=0.02)
    assert out.largest_gap() <= 2
    numbers = [number for _, number in out.fresh]
    assert numbers == sorted(numbers)


def test_a_late_burst_costs_at_most_two_frames() -> None:
    arrivals = [T * n for n in range(1, 300)]
    for start in (50, 150, 250):  # three frames held up, then all at once
        for number in range(start, start + 3):
            arrivals[number] = arrivals[start + 3] + number - start - 4
    out = simulate(T, arrivals, arrivals[-1])
    assert len(out.fresh) >= len(arrivals) - 6
    assert out.largest_gap() <= 2
    assert len(out.times) == pytest.approx(arrivals[-1] / T, rel=0.02)


def test_a_stall_is_filled_at_the_rate() -> None:
    arrivals = [T * n for n in range(1, 60)]
    out = simulate(T, arrivals, 120 * T)
    assert len(out.fillers) == pytest.approx(60, abs=2)
    assert out.largest_gap() <= 2


def test_a_stopped_thread_does_not_burst_afterwards() -> None:
    pacer = Pacer(T)
    pacer.restart(0)
    pacer.shown(0, False)
    now = 50 * T
    quick = 0
    while pacer.next_ns(False) <= now:
        pacer.shown(now, False)
        quick += 1
    assert quick <= 2


def test_stamps_rise_without_jumps_from_frames_to_fillers_and_back() -> None:
    stamps = Stamps()
    lag = 2 * T
    now = 10 * SECOND
    seen = []
    for kind in ["frame"] * 20 + ["filler"] * 20 + ["frame"] * 20:
        now += T
        seen.append(stamps.frame(now - lag, now, T) if kind == "frame" else stamps.filler(now, T))
        stamps.shown(seen[-1], now, T)
        assert seen[-1] <= now
    steps = [b - a for a, b in itertools.pairwise(seen)]
    assert min(steps) > 0
    assert max(steps) < 1.5 * T
    assert seen[19] == 10 * SECOND + 20 * T - lag  # start of exposure
    assert seen[39] == 10 * SECOND + 40 * T  # worn off: now
    assert seen[59] == now - lag  # caught up


def test_an_exposure_in_the_future_or_long_ago_is_not_believed() -> None:
    stamps = Stamps()
    assert stamps.frame(20 * SECOND, 10 * SECOND, T) == 10 * SECOND
    stamps.shown(10 * SECOND, 10 * SECOND, T)
    assert stamps.frame(0, 11 * SECOND, T) == 11 * SECOND


def test_what_the_node_has_filled_is_taken_off_the_grid() -> None:
    """A stall in which the node showed three pictures by itself: the rate over the next seconds is the node's."""
    pacer = Pacer(T)
    pacer.restart(0)
    now, count, stalled = 0, 0, False
    times = []
    while now < 10 * SECOND:
        now = max(now, pacer.next_ns(False))
        filled = 0
        if not stalled and now > SECOND:
            now, filled, stalled = now + round(3.5 * T), 3, True
        count += 1 + filled
        pacer.shown(now, False, filled)
        times.append(now)
    assert count == pytest.approx(1 + 10 * SECOND / T, abs=1.1)  # without a stall: 301
    steps = [b - a for a, b in itertools.pairwise(times) if a > 1.3 * SECOND]
    assert max(steps) <= 1.1 * T


@pytest.mark.parametrize(("longest", "per_s", "fresh"), [(2, 1, 0.985), (4, 1, 0.955), (3, 2, 0.94), (8, 0.5, 0.95)])
def test_stalls_give_an_app_neither_gaps_nor_a_tenth_too_many(longest: float, per_s: float, fresh: float) -> None:
    """``fresh``: the share of the source's frames that is shown all the same, in four minutes."""
    shown = 0
    deliveries = [Delivery(START + n * T, START + n * T, 1, T) for n in range(1, 60 * 30)]
    for seed in range(4):
        stalls = stalling(random.Random(seed), 60, per_s, round(longest * T / MS))
        film = play(T, deliveries, START + 60 * SECOND, stalls=stalls)
        assert largest_gap(film.times) <= (GAP_MAX + 0.01) * T
        assert min(counts(film.times)) >= 0.9 * 60 and max(counts(film.times)) <= 1.1 * 60
        shown += film.kinds.count("frame")
    assert shown >= fresh * 4 * 60 * SECOND / T


def test_a_debt_to_the_node_costs_no_frame_of_a_source() -> None:
    pacer = Pacer(T)
    pacer.restart(0)
    pacer.follow(T)
    now = 0
    pacer.shown(now, True, 5)
    for number in range(1, 100):
        now = number * T
        pacer.arrived(now)
        assert pacer.next_ns(True) <= now
        pacer.shown(now, True)


def test_what_the_node_showed_before_its_owner_came_is_no_debt() -> None:
    """A minute without the daemon; fillers from its successor come at the rate, not later each."""
    pacer = Pacer(T)
    pacer.restart(0)
    pacer.shown(0, False, 1800)
    for number in range(1, 50):
        assert pacer.next_ns(False) == number * T
        pacer.shown(number * T, False)


@pytest.mark.parametrize("rate", [5, 15, 30, 60])
@pytest.mark.parametrize("ppm", [-1000, 1000])
def test_nothing_waits_for_a_quota_where_a_source_keeps_to_the_rate(rate: int, ppm: int) -> None:
    interval = SECOND // rate
    source = round(interval * (1 + ppm / 1e6))
    dice = random.Random(rate)
    exposed = [START + source * n for n in range(20 * rate)]
    deliveries = [Delivery(at + round(dice.uniform(0, 0.4) * interval), at, 1, source) for at in exposed]
    film = play(interval, deliveries, exposed[-1], stalls=Stalls([]))
    assert film.displaced == 0 and max(film.waits) == 0
    assert film.kinds.count("frame") >= len(film.kinds) - 2, "fillers only until it has begun"
    assert set(film.stamps[3:]) <= set(exposed), "told as it was"


def test_while_nobody_watches_pictures_are_as_far_apart_as_an_app_may_see() -> None:
    pacer = Pacer(T)
    pacer.restart(0)
    times = [pacer.idle_ns()]
    for _ in range(50):
        pacer.shown(times[-1], False)
        times.append(pacer.idle_ns())
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert min(steps) >= 1.5 * T
    assert max(steps) <= 2 * T
