# SPDX-License-Identifier: GPL-2.0-or-later
"""Case: one measured comparison, and how to measure two things fairly on a noisy machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

MIN_REPEATS = 3
WARM_UP = 1


@dataclass(frozen=True, slots=True)
class Case:
    """``ratio`` is ours/peer; ``spread`` (slowest - fastest)/median of ours; ``better`` tells which way is good."""

    case: str
    unit: str
    better: Literal["lower", "higher"]
    ours: float
    peer: float
    peer_name: str
    ratio: float
    repeats: int
    spread: float

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


def from_samples(
    name: str, unit: str, better: Literal["lower", "higher"], ours: list[float], peer: list[float], peer_name: str
) -> Case:
    """A case of samples taken in turn. Medians; the ratio is the median of the ratios pair by pair."""
    if len(ours) != len(peer) or len(ours) < MIN_REPEATS:
        raise ValueError(f"{name}: {len(ours)} and {len(peer)} samples, at least {MIN_REPEATS} pairs are needed")
    middle = statistics.median(ours)
    ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
    spread = (max(ours) - min(ours)) / middle
    return Case(name, unit, better, middle, statistics.median(peer), peer_name, ratio, len(ours), spread)


def timed(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    peer_name: str,
    *,
    repeats: int = 5,
    calls: int = 1,
) -> Case:
    """Time two callables in turn (A B A B ...), in milliseconds per call, so that drift hits both alike."""
    for _ in range(WARM_UP):
        ours()
        peer()
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, into in ((ours, samples[0]), (peer, samples[1])):
            start = time.perf_counter()
            for _ in range(calls):
                work()
            into.append((time.perf_counter() - start) * 1000 / calls)
    return from_samples(name, "ms", "lower", samples[0], samples[1], peer_name)
