# SPDX-License-Identifier: MIT
"""Stay: the time from one attaching of a module to its detaching, and what it sent meanwhile."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Final

MAX_STAYS: Final = 512  # kept; the oldest goes
MAX_RUNS: Final = 4096  # of consecutive numbers, kept per stay


@dataclass
class Stay:
    """Counts of one stay. Times are CLOCK_MONOTONIC in ns, 0 for what has not happened.

    ``runs``: first and last of each run of consecutive frame numbers that were sent whole (number: as in the mark).
    """

    generation: int
    attach_ns: int = 0
    attached_ns: int = 0
    enabled_ns: int = 0
    first_frame_ns: int = 0
    last_frame_ns: int = 0
    detach_ns: int = 0
    detached_ns: int = 0
    frames_sent: int = 0
    frames_damaged: int = 0
    frames_displaced: int = 0
    frames_skipped: dict[str, int] = field(default_factory=dict)  # by cause: never taken
    frames_cut: int = 0
    vendor_requests: int = 0
    runs: list[list[int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, number: int, now_ns: int) -> None:
        """A whole, undamaged frame has left."""
        with self._lock:
            self.frames_sent += 1
            self.last_frame_ns = now_ns
            if self.runs and self.runs[-1][1] == number - 1:
                self.runs[-1][1] = number
            elif len(self.runs) < MAX_RUNS:
                self.runs.append([number, number])

    def skipped(self, cause: str) -> None:
        """A frame was not taken at all."""
        with self._lock:
            self.frames_skipped[cause] = self.frames_skipped.get(cause, 0) + 1

    @property
    def last_number(self) -> int:
        """Number of the last frame sent whole, -1 for none."""
        return self.runs[-1][1] if self.runs else -1

    def as_dict(self) -> dict[str, Any]:
        """For the control socket."""
        with self._lock:
            return {
                "generation": self.generation,
                "attach_ns": self.attach_ns,
                "attached_ns": self.attached_ns,
                "enabled_ns": self.enabled_ns,
                "first_frame_ns": self.first_frame_ns,
                "last_frame_ns": self.last_frame_ns,
                "detach_ns": self.detach_ns,
                "detached_ns": self.detached_ns,
                "frames_sent": self.frames_sent,
                "frames_damaged": self.frames_damaged,
                "frames_displaced": self.frames_displaced,
                "frames_skipped": dict(self.frames_skipped),
                "frames_cut": self.frames_cut,
                "vendor_requests": self.vendor_requests,
                "last_number": self.last_number,
                "runs": [list(run) for run in self.runs],
            }
