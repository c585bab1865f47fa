# SPDX-License-Identifier: GPL-2.0-or-later
"""Judge: figures from a recording and from what truly happened beside it. Pure functions."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.demo.recording import Shot


@dataclass(frozen=True, slots=True)
class Stay:
    """One module's stay as seen in a recording: its source and generation, first and last shot, distinct numbers
    seen, and whether they only rose."""

    source: int
    generation: int
    first: Shot
    last: Shot
    numbers: tuple[int, ...]
    rising: bool

    @property
    def span(self) -> int:
        """Frames that the module took between the first and the last that were seen, both included."""
        return self.numbers[-1] - self.numbers[0] + 1


def stays(shots: Sequence[Shot]) -> tuple[Stay, ...]:
    """The stays in a recording, in order of appearance."""
    by_key: dict[tuple[int, int], list[Shot]] = {}
    for shot in shots:
        if shot.mark is not None:
            by_key.setdefault((shot.mark.source, shot.mark.generation), []).append(shot)
    result = []
    for (source, generation), seen in by_key.items():
        numbers = [s.mark.number for s in seen if s.mark is not None]
        rising = all(a <= b for a, b in itertools.pairwise(numbers))
        distinct = tuple(sorted(set(numbers)))
        result.append(Stay(source, generation, seen[0], seen[-1], distinct, rising))
    return tuple(result)


def interleaved(shots: Sequence[Shot]) -> int:
    """How often the recording goes back to a stay that another had followed: a late frame of one that is gone."""
    order = [(s.mark.source, s.mark.generation) for s in shots if s.mark is not None]
    runs = [key for key, _ in itertools.groupby(order)]
    return len(runs) - len(set(runs))


def gaps(shots: Sequence[Shot], interval_ns: int) -> tuple[float, ...]:
    """Time from each frame to the next, in intervals."""
    return tuple((b.time_ns - a.time_ns) / interval_ns for a, b in itertools.pairwise(shots))


@dataclass(frozen=True, slots=True)
class Gap:
    """Two pictures further apart than they should be, in intervals; ``before`` and ``after`` as in the recording."""

    intervals: float
    before: Shot
    after: Shot

    def __str__(self) -> str:
        return f"{self.intervals:.2f} intervals between {_what(self.before)} and {_what(self.after)}"


def _what(shot: Shot) -> str:
    return f"frame {shot.mark.number} of module {shot.mark.source}" if shot.mark else "a card"


def largest_gaps(shots: Sequence[Shot], interval_ns: int, over: float) -> tuple[Gap, ...]:
    """Those over so many intervals, in order."""
    pairs = zip(gaps(shots, interval_ns), itertools.pairwise(shots), strict=True)
    return tuple(Gap(wide, a, b) for wide, (a, b) in pairs if wide > over)


def first_after(shots: Sequence[Shot], time_ns: int, source: int) -> Shot | None:
    """The first frame with a mark of ``source`` whose timestamp is not before ``time_ns``."""
    return next((s for s in shots if s.mark and s.mark.source == source and s.time_ns >= time_ns), None)


def median(values: Sequence[float]) -> float:
    """Median; NaN of nothing, so that a comparison with it fails."""
    return statistics.median(values) if values else float("nan")
