# SPDX-License-Identifier: GPL-2.0-or-later
"""Story: what happened and when, written beside a recording. Times are CLOCK_MONOTONIC in ns."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RECORDING = "recording.nut"
CYCLES = "cycles.nut"
STORY = "story.json"
RAW_LENS = "35mm-raw"  # the one that sends raw frames, for the automatics


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    time_ns: int
    kind: str
    text: str


@dataclass
class Story:
    """Everything that the recording itself cannot tell.

    ``stays``: as the virtual modules counted them, by lens. ``udev_add_ns``: start of udev's handling of each attach
    of the cycles, in order; ``attach_ns`` when the module was snapped on; ``cycles_ahead_ns``: their recording has
    times of arrival, by a clock so far ahead of CLOCK_MONOTONIC; ``c_reader_ns`` from udev's add to the first valid
    frame, for the C program. ``counters``: of the service just before it was killed (``kill``), of its successor
    after the ``film`` and after the ``cycles``. ``frames_cut_by_pull``: as the module counted them.
    """

    interval_ns: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    kernel: str = ""
    node: str = ""
    acceleration: str = ""  # of the virtual machine
    events: list[Event] = field(default_factory=list)
    stays: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    cycle_attach_ns: list[int] = field(default_factory=list)
    cycle_udev_add_ns: list[int] = field(default_factory=list)
    cycles_ahead_ns: int = 0
    c_reader_ns: list[int] = field(default_factory=list)
    cold_start_ns: int = 0
    automatics: dict[str, bool] = field(default_factory=dict)  # what a module that sends raw frames was set right in
    app_errors: list[str] = field(default_factory=list)
    app_restarts: int = 0
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    frames_cut_by_pull: int = 0

    @property
    def emulated(self) -> bool:
        """Whether an emulated processor (TCG) played it."""
        return "tcg" in self.acceleration.lower()

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Story:
        """Read what :meth:`save` wrote."""
        raw = json.loads(path.read_text())
        raw["events"] = [Event(**e) for e in raw["events"]]
        return cls(**raw)
