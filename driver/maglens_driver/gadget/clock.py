# SPDX-License-Identifier: MIT
"""Clock: a module's own time. It starts anywhere and runs a little fast, as a crystal does."""

from __future__ import annotations

import random
import time
from typing import Final

DRIFT_PPM: Final = 50
_MILLION: Final = 1_000_000
_MAX_EPOCH_NS: Final = 1 << 56  # far from the end of 64 bits: over two years


class ModuleClock:
    """Module time as a function of this machine's CLOCK_MONOTONIC; a new one for every power-up."""

    def __init__(self, drift_ppm: int = DRIFT_PPM) -> None:
        self._drift_ppm = drift_ppm
        self._began_ns = time.monotonic_ns()
        self._epoch_ns = random.randrange(1 << 40, _MAX_EPOCH_NS)

    def at(self, monotonic_ns: int) -> int:
        """Module time at a CLOCK_MONOTONIC time, ns; 0 for times before the module's clock began to count."""
        passed = monotonic_ns - self._began_ns
        return max(0, self._epoch_ns + passed + passed * self._drift_ppm // _MILLION)

    def now(self) -> int:
        """Module time now, ns."""
        return self.at(time.monotonic_ns())
