# SPDX-License-Identifier: GPL-2.0-or-later
"""Meter: apps that watch nodes, and the processor time that their pictures take."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILD = Path("/tmp/c_reader")
LIMIT_S = 40.0  # for whatever should take a few seconds; apps give up on pictures by themselves
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """How long an app watches: some windows of so many seconds, one behind the other, in one run."""

    windows: int
    seconds: float


class Meter:
    """Processor time that the machine has spent, less that of some processes. Known by the tick (10 ms) only."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._last = self._read()

    def lap_s(self) -> float:
        """Seconds since the last lap, or since this was made."""
        now = self._read()
        spent, self._last = now - self._last, now
        return spent

    def _read(self) -> float:
        user, nice, system, _, _, irq, softirq = (
            int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
        )
        ticks = user + nice + system + irq + softirq
        for pid in self._pids:
            own = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks -= int(own[11]) + int(own[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def apps(devices: Sequence[str], span: Span, pids: Sequence[int], *mode: str) -> list[Figures]:
    """Watch nodes, each by an app of its own. Of each window: the first one's figures, the rate of all together, and
    the processor time per picture that everything but the modules took."""
    command = [str(BUILD / "app")]
    arguments = [str(span.windows), str(span.seconds), *mode]
    running = [
        subprocess.Popen([*command, device, *arguments], stdout=subprocess.PIPE, text=True) for device in devices
    ]
    try:
        first = running[0].stdout
        assert first is not None
        first.readline()  # it has found its pace
        meter = Meter(*pids)
        told, laps = [], []
        for line in first:
            laps.append(meter.lap_s())
            told.append(line)
        others = [one.communicate(timeout=LIMIT_S)[0].splitlines()[1:] for one in running[1:]]
        status = [one.wait(LIMIT_S) for one in running]
    finally:
        for one in running:
            one.kill()
    if any(status):
        raise RuntimeError(f"app: {status}")
    return together([told, *others], laps)


def together(told: Sequence[Sequence[str]], laps: Sequence[float]) -> list[Figures]:
    """What apps printed of each window, the first one's first, and the processor time that each window of it took.
    The others' windows are as long, and begin and end a little later: their rate is taken for that of the first's."""
    found = []
    for window, (spent, *lines) in enumerate(zip(laps, *told, strict=True)):
        figures: list[Figures] = [json.loads(line) for line in lines]
        rate = sum(each["frames_per_s"] for each in figures)
        shared = {"window": window, "frames_per_s": rate, "cpu_ms": 1000 * spent / (rate * figures[0]["seconds"])}
        found.append({**figures[0], **shared})
    return found
