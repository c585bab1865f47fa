# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits: how long the libcamera child may take, and how often a new one may be started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds. Loading libcamera with its pipelines takes seconds on a slow board."""

    open_s: float = 15.0  # from the start of the process to the camera's description
    configure_s: float = 5.0
    start_s: float = 5.0
    set_s: float = 1.0
    stop_s: float = 2.0
    first_frame_s: float = 5.0
    stall_s: float = 3.0  # between frames, and at least ten intervals
    restarts: int = 5  # at most so many children ...
    restart_window_s: float = 60.0  # ... within so long


class RestartGate:
    """Counts starts; says how long to wait for the next. ``now_s`` is a monotonic clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._starts: list[float] = []

    def wait_s(self, now_s: float) -> float:
        """Seconds until another start is allowed; 0 for now."""
        self._starts = [at for at in self._starts if now_s - at < self._limits.restart_window_s]
        if len(self._starts) < self._limits.restarts:
            return 0.0
        return self._starts[0] + self._limits.restart_window_s - now_s

    def forgive(self) -> None:
        """The last one ended by our own wish."""
        if self._starts:
            self._starts.pop()

    def started(self, now_s: float) -> None:
        """A child was started."""
        self._starts.append(now_s)
