# SPDX-License-Identifier: GPL-2.0-or-later
"""Timestamps: what an app takes for a gap, and what it must not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_v4l2.stamps import JUMP, STEP, Stamps

T = 1_000_000  # one interval, ns
START = 1_000 * T


def stamps(pictures: Sequence[tuple[float, float | None]]) -> list[float]:
    """Of pictures shown at a time with a lag (None: a filler), all in intervals from the start."""
    made = Stamps()
    found = []
    for at, lag in pictures:
        now = START + round(at * T)
        stamp = made.filler(now, T) if lag is None else made.frame(now - round(lag * T), now, T)
        made.shown(stamp, now, T)
        found.append((stamp - START) / T)
    return found


def test_frames_have_their_start_of_exposure_however_late_they_are_shown() -> None:
    assert stamps([(0, 2), (1.3, 2.3), (2, 2), (3.4, 2.4)]) == [-2, -1, 0, 1]


def test_a_filler_keeps_the_lag_and_wears_it_off() -> None:
    assert stamps([(0, 1), (1, None), (2, None), (3, None), (4, None), (5, None)]) == [-1, 0.25, 1.5, 2.75, 4, 5]


def test_a_filler_at_the_last_moment_makes_no_gap_of_its_own() -> None:
    assert stamps([(0, 1), (1.75, None), (2.75, None)]) == [-1, 0.75, 2.0]


def test_a_frame_that_is_less_late_than_the_one_before_is_no_gap() -> None:
    """After a stall the frames in flight come late; those that follow do not."""
    fillers: list[tuple[float, float | None]] = [(at + 0.75, None) for at in range(1, 6)]
    late = stamps([(0, 0.5), *fillers, (6, 6.5), (6.1, 5.6), *((at, 0.5) for at in range(7, 15))])
    gaps = [b - a for a, b in itertools.pairwise(late)]
    assert max(gaps) <= JUMP
    assert late[-1] == 13.5, "it is worn off"


@pytest.mark.parametrize("grown_in", [1, 8, 30])
def test_lags_that_grow_and_shrink_give_no_other_rate_than_the_pictures_have(grown_in: int) -> None:
    """A loaded machine: from one interval to seven, and back."""
    lags = [1.0] * 60 + [1 + 6 * min(1, n / grown_in) for n in range(90)] + [1.0] * 90
    seen = stamps([(float(at), lag) for at, lag in enumerate(lags)])
    counts = [sum(1 for other in seen if at <= other < at + 30) for at in seen[:-35]]
    assert min(counts) >= 27 and max(counts) <= 33
    assert seen[59] == 58 and seen[149] == 149 - 7 and seen[-1] == len(lags) - 1 - 1, "in the end they are right"


def test_a_real_gap_is_told() -> None:
    assert stamps([(0, 0.5), (1, 0.5), (7, 0.5)]) == [-0.5, 0.5, 6.5]


@given(st.lists(st.tuples(st.floats(0.01, 8), st.none() | st.floats(-3, 40)), min_size=2, max_size=40))
def test_stamps_rise_and_jump_no_further_than_time_did(steps: list[tuple[float, float | None]]) -> None:
    times = list(itertools.accumulate(step for step, _ in steps))
    seen = stamps([(at, lag) for at, (_, lag) in zip(times, steps, strict=True)])
    for (a, b), (early, late) in zip(itertools.pairwise(seen), itertools.pairwise(times), strict=True):
        assert b - a >= STEP - 1e-5
        assert b - a <= max(late - early, JUMP) + 1e-5
