# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures that an app sees in any two seconds, by the clock and by their timestamps: the rate's, within a tenth."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_v4l2.quota import Quota
from maglens_v4l2.stamps import MAX_LAG_NS, Stamps
from tests.unit.pacing_model import MS, SECOND, START, counts, largest_gap, play, stalling, switching

SECONDS = 20
ROUNDING_NS = 1000


@pytest.mark.parametrize("rate", [15, 30])
@pytest.mark.parametrize(("per_s", "longest_ms"), [(0, 0), (1, 100), (1, 300), (3, 300)])
@pytest.mark.parametrize("converted", [False, True])
def test_sources_that_come_and_go_leave_the_count_as_it_is(
    rate: int, per_s: float, longest_ms: int, converted: bool
) -> None:
    """Sources of 7.5 to 60 a second, whose frames come 5 to 200 ms after their exposure, take turns, while the
    pipeline's thread stands still now and then and the node fills by itself.

    A stall costs three quarters of a picture at most, however long it is, since the node goes on after 1.75
    intervals; so there is none too few either, with three of them in a second.
    """
    interval = SECOND // rate
    convert_ns, submit_ns = (20 * MS, 10 * MS) if converted else (0, 2 * MS)
    for seed in range(4):
        dice = random.Random(seed)
        deliveries, stalls = switching(dice, SECONDS), stalling(dice, SECONDS, per_s, longest_ms)
        film = play(
            interval,
            deliveries,
            START + SECONDS * SECOND,
            stalls=stalls,
            convert_ns=convert_ns,
            submit_ns=submit_ns,
            beside=converted,
        )
        for seen in (film.times, film.stamps):
            assert 1.8 * rate <= min(counts(seen)) and max(counts(seen)) <= 2.2 * rate
        assert largest_gap(film.times) <= 1.75 * interval + ROUNDING_NS
        assert largest_gap(film.stamps) <= 2 * interval
        assert max(film.waits) <= interval + 2 * (convert_ns + submit_ns), "the newest waits for its place at most"


@pytest.mark.parametrize("rates", [(15,), (15, 30, 7.5, 60)])
def test_a_stall_while_a_picture_is_handed_over_makes_one_too_many_at_most(rates: tuple[float, ...]) -> None:
    """By the clock: that one, which then comes right behind one of the node's."""
    rate = 15
    for seed in range(12):
        dice = random.Random(seed)
        deliveries, stalls = switching(dice, SECONDS, rates), stalling(dice, SECONDS, 5, 150)
        film = play(SECOND // rate, deliveries, START + SECONDS * SECOND, stalls=stalls, submit_ns=10 * MS, torn=True)
        assert max(counts(film.times)) <= 2.2 * rate + 1
        assert largest_gap(film.times) <= 1.75 * SECOND / rate + ROUNDING_NS


@given(st.sampled_from([5, 7.5, 10, 15, 24, 25, 30, 60]), st.lists(st.floats(0, 2.5), max_size=150))
def test_who_keeps_a_quota_keeps_the_count(rate: float, steps: list[float]) -> None:
    """Whatever is wanted; and what comes an interval after the one before is never too early. Each of the last
    pictures counts, and none before."""
    interval = round(SECOND / rate)
    quota = Quota(interval)
    times = [START]
    quota.add(START)
    ahead, behind = START + interval - quota.earliest, quota.latest - START - interval
    for step in steps:
        recent = times[-quota.most :]
        places = [at + interval * (len(recent) - place) for place, at in enumerate(recent)]  # of the next, by each
        assert (quota.earliest, quota.latest) == (max(places) - ahead, min(places) + behind)
        assert quota.earliest <= times[-1] + interval
        times.append(max(times[-1] + round(step * interval), quota.earliest))
        quota.add(times[-1])
    assert max(counts(times), default=0) <= max(2.2 * rate, 2 * rate + 2)


@given(st.lists(st.none() | st.integers(0, MAX_LAG_NS), max_size=100))
def test_whatever_lags_frames_have_timestamps_keep_the_count_of_even_pictures(lags: list[int | None]) -> None:
    interval = SECOND // 15
    stamps, seen = Stamps(), []
    for place, lag in enumerate(lags):
        now = START + place * interval
        seen.append(stamps.filler(now, interval) if lag is None else stamps.frame(now - lag, now, interval))
        stamps.shown(seen[-1], now, interval)
        assert seen[-1] <= now
    assert all(27 <= count <= 33 for count in counts(seen))
