# SPDX-License-Identifier: GPL-2.0-or-later
"""Arrivals: a recording whose times say when the app dequeued each frame, not when its exposure began.

ffmpeg then stamps a frame with the time of day as it takes it from the node. How far that is ahead of CLOCK_MONOTONIC
is read before and after; a clock that was set meanwhile would make the times worthless.
"""

from __future__ import annotations

import time
from typing import Final

OPTIONS: Final = ("-use_wallclock_as_timestamps", "1")  # of the recording's input
STEADY_NS: Final = 1_000_000  # what two readings may differ by
_READINGS: Final = 20  # the one that took least time is the truest


def ahead_ns() -> int:
    """The time of day less CLOCK_MONOTONIC."""
    found = []
    for _ in range(_READINGS):
        before, day, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        found.append((after - before, day - (before + after) // 2))
    return min(found)[1]


def still_ahead_ns(before_ns: int) -> int:
    """What :func:`ahead_ns` said before, which must be true now: ``RuntimeError`` where the clock was set."""
    moved = ahead_ns() - before_ns
    if abs(moved) > STEADY_NS:
        raise RuntimeError(f"the clock was set by {moved / 1e6:.1f} ms during the recording: its times mean nothing")
    return before_ns
