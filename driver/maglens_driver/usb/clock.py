# SPDX-License-Identifier: GPL-2.0-or-later
"""ModuleClock: from a module's time to the host's CLOCK_MONOTONIC, by offset and drift fitted to clock samples.

A sample tells that a module time was latched between the host's ``before`` and ``after``. The latch is taken to lie
in the middle; its error is at most half the round trip, so samples with the shortest round trips are the good ones.
Drift needs a baseline much longer than the samples' error: before there is one it is taken as 0.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW: Final = 32  # samples kept; with one per RESAMPLE_S they span half a minute
RESAMPLE_S: Final = 1.0
FIRST_RESAMPLE_S: Final = 0.05  # right after the start the clock has one sample; a few more make it good
_GOOD_FACTOR: Final = 1.5  # samples with up to this many shortest round trips take part in the fit
_GOOD_SLACK_NS: Final = 20_000
_BASELINE: Final = 2_000  # drift is fitted once the samples span this many times the shortest round trip
MAX_DRIFT_PPM: Final = 500  # crystals keep to 100; beyond this the samples are wrong, not the crystal


@dataclass(frozen=True, slots=True)
class ClockSample:
    """All in ns: host before, module, host after."""

    before: int
    module: int
    after: int

    @property
    def round_trip(self) -> int:
        """Host time that the exchange took."""
        return self.after - self.before

    @property
    def offset(self) -> int:
        """Host minus module time, with the latch in the middle."""
        return (self.before + self.after) // 2 - self.module


@dataclass(frozen=True, slots=True)
class ClockFit:
    """``host = module + offset + drift * (module - origin)``; ``error_ns`` bounds the error at the samples."""

    origin: int
    offset: int
    drift: float
    error_ns: int

    def to_host(self, module_ns: int) -> int:
        """Host CLOCK_MONOTONIC, ns."""
        return module_ns + self.offset + round(self.drift * (module_ns - self.origin))


def fit(samples: list[ClockSample]) -> ClockFit:
    """Least squares through the good samples; at least one sample."""
    best = min(samples, key=lambda s: s.round_trip)
    limit = best.round_trip * _GOOD_FACTOR + _GOOD_SLACK_NS
    good = [s for s in samples if s.round_trip <= limit]
    span = max(s.module for s in good) - min(s.module for s in good)
    if span < _BASELINE * max(best.round_trip, 1):
        return ClockFit(best.module, best.offset, 0.0, best.round_trip // 2)
    origin = good[-1].module
    mean_x = sum(s.module - origin for s in good) / len(good)
    mean_y = sum(s.offset - best.offset for s in good) / len(good)
    over = sum((s.module - origin - mean_x) * (s.offset - best.offset - mean_y) for s in good)
    under = sum((s.module - origin - mean_x) ** 2 for s in good)
    drift = over / under
    if abs(drift) > MAX_DRIFT_PPM * 1e-6:
        return ClockFit(best.module, best.offset, 0.0, best.round_trip // 2)
    return ClockFit(origin, best.offset + round(mean_y - drift * mean_x), drift, best.round_trip // 2)


class ModuleClock:
    """The present fit. One thread adds samples, any thread converts."""

    def __init__(self) -> None:
        self._samples: deque[ClockSample] = deque(maxlen=WINDOW)
        self._fit: ClockFit | None = None

    @property
    def fit(self) -> ClockFit | None:
        """None before the first sample."""
        return self._fit

    def add(self, sample: ClockSample) -> None:
        """Take one more sample. Module time that went back means a reboot: everything before is forgotten."""
        if self._samples and sample.module < self._samples[-1].module:
            self._samples.clear()
        self._samples.append(sample)
        self._fit = fit(list(self._samples))

    def to_host(self, module_ns: int) -> int:
        """Host CLOCK_MONOTONIC, ns. Needs a sample."""
        if self._fit is None:
            raise ValueError("the module's clock was never read")
        return self._fit.to_host(module_ns)
