# SPDX-License-Identifier: GPL-2.0-or-later
"""Overdraw: whether a module takes more than its contract. Pure; time is given."""

from __future__ import annotations

from typing import Final

PATIENCE_S: Final = 0.1  # over the limit in every sample for so long
FAST_S: Final = 0.02  # between samples while it draws more than standby: five within the patience
SLOW_S: Final = 1.0  # ... and while it does not, only to notice when it begins
STANDBY_MW: Final = 2500  # USB PD's pSnkStdby


class Overdraw:
    """Judges samples of one module. ``tolerance`` is the meter's own error, as a share of the limit."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._since_s: float | None = None

    def judge(self, mw: int, limit_mw: int, now_s: float) -> bool:
        """Whether ``mw`` at ``now_s`` is the sample that makes it too much."""
        if mw <= limit_mw * (1 + self._tolerance):
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s >= PATIENCE_S

    def interval_s(self, mw: int, limit_mw: int) -> float:
        """How soon to measure again. A limit below standby power is watched from there on."""
        return FAST_S if mw > min(STANDBY_MW, limit_mw) or self._since_s is not None else SLOW_S

    def reset(self) -> None:
        """Another module, or another contract."""
        self._since_s = None
