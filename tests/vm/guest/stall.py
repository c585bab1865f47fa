# SPDX-License-Identifier: GPL-2.0-or-later
"""Stall: how long the machine beneath this one has stood still while something was measured.

A process of the highest real-time priority that sleeps for a moment, over and over: nothing in this machine keeps it
from running, so that what it is late is what the host has taken, and not what the programs here take from each other.

    python3 -m tests.vm.guest.stall     until SIGTERM; then it says the longest one, in nanoseconds
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType, TracebackType
from typing import Final, Self

TICK_NS: Final = 5_000_000
PRIORITY: Final = 90  # of 99


class Stall:
    """From ``with`` to its end; then ``worst_ns`` is known."""

    worst_ns = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.vm.guest.stall"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        said = self._process.communicate()[0]
        if kind is None:
            self.worst_ns = int(said)


def main() -> None:
    """Measure until told to end."""
    ended = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    print("ready", flush=True)
    worst = 0
    while not ended:
        before = time.monotonic_ns()
        time.sleep(TICK_NS / 1e9)
        worst = max(worst, time.monotonic_ns() - before - TICK_NS)
    print(worst, flush=True)


if __name__ == "__main__":
    main()
