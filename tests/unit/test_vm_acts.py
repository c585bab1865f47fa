# SPDX-License-Identifier: GPL-2.0-or-later
"""How recordings of real apps are judged: what the scenarios would notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from maglens_driver.virtual.mark import Mark
from tests.demo.recording import Shot
from tests.vm.guest.acts import Acts, check

ACTS = Acts(sources=[35, 73, 35], killed_ns=0, sent_at_kill=4, sent_at_end=12)


def good() -> list[Shot]:
    """Card, 35 mm, 73 mm, card, 35 mm through a kill, card."""
    marks: list[Mark | None] = [None, None]
    marks += [Mark(35, 1, number) for number in (3, 4, 5)]
    marks += [Mark(73, 1, number) for number in (1, 2, 2, 3)]
    marks += [None]
    marks += [Mark(35, 2, number) for number in range(10, 20)]
    marks += [None]
    return [Shot(index, index, mark, False) for index, mark in enumerate(marks)]


def test_a_good_recording_is_told_in_figures() -> None:
    figures = check(good(), ACTS)
    assert (figures["frames"], figures["cards"], figures["mixed"]) == (21, 4, 0)


def without(wanted: Callable[[Shot], bool]) -> list[Shot]:
    kept = [shot for shot in good() if not wanted(shot)]
    return [Shot(index, shot.time_ns, shot.mark, shot.mixed) for index, shot in enumerate(kept)]


def of(source: int, generation: int) -> Callable[[Shot], bool]:
    return lambda shot: shot.mark is not None and (shot.mark.source, shot.mark.generation) == (source, generation)


def changed(index: int, mark: Mark | None, mixed: bool = False) -> list[Shot]:
    shots = good()
    shots[index] = Shot(index, index, mark, mixed)
    return shots


@pytest.mark.parametrize(
    "shots",
    [
        changed(4, None, mixed=True),
        changed(6, Mark(35, 1, 9)),  # a late frame of the lens before
        changed(4, Mark(35, 1, 1)),  # numbers go back
        without(of(73, 1)),
        without(of(35, 2)),
        without(lambda shot: shot.mark is not None and shot.mark.generation == 2 and shot.mark.number > 13),
        without(lambda shot: shot.mark is None),
        good()[:-1],  # it ended in the last lens
        good()[2:],
    ],
    ids=["mixed", "late", "back", "no swap", "no return", "nothing after the kill", "no card", "no end", "no begin"],
)
def test_a_bad_one_is_refused(shots: list[Shot]) -> None:
    with pytest.raises(AssertionError):
        check(shots, ACTS)
