# SPDX-License-Identifier: GPL-2.0-or-later
"""From a leader's time to the picture in an app's buffer, of a raw module in memory and a node in memory: against
what was promised, one frame interval and 10 ms. What the kernel adds is in :mod:`tests.bench.path`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from tests.bench.case import MIN_REPEATS, Case, from_samples

RATE: Final = 30  # frames/s
PROMISED_MS: Final = 1000 / RATE + 10
SIZES: Final = {"vga": (640, 480), "1080p": (1920, 1080), "4k": (3840, 2160)}
FRAMES, QUICK_FRAMES = 300, 101


def measured(size: tuple[int, int], frames: int) -> dict[str, Any]:
    """One run in a process of its own; see :mod:`tests.tools.raw_path`."""
    command = [sys.executable, "-m", "tests.tools.raw_path", "--size", *map(str, size)]
    command += ["--rate", str(RATE), "--frames", str(frames)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def cases(quick: bool) -> Iterator[Case]:
    """Median and 99th percentile of each size."""
    for name, size in SIZES.items():
        runs = [measured(size, QUICK_FRAMES if quick else FRAMES)["late_ms"] for _ in range(MIN_REPEATS)]
        for figure, case in (("median", "latency"), ("p99", "latency-p99")):
            ours = [float(run[figure]) for run in runs]
            bound = [PROMISED_MS] * len(ours)
            yield from_samples(f"memory/{name}/raw10/nv12/{case}", "ms", "lower", ours, bound, "promised")
