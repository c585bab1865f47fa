# SPDX-License-Identifier: GPL-2.0-or-later
"""Replays: telling an app that writes back what it once wrote from a person who moves a slider.

OBS never reads controls back: opening its properties writes every value it has saved, exposure and focus included. A
slider that a person moves never writes the value it wrote before; a program that replays does just that. So the same
process writing its own last value of a control again is a replay. A new process of the same program may be a person
typing a command again, or the program started anew: there a second control within ``BURST_S`` tells.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

BURST_S = 0.05
MAX_PROGRAMS = 32  # those that wrote longest ago are forgotten beyond this


class Verdict(enum.Enum):
    """What to do with a write."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    WAIT = "wait"  # ask again, with :meth:`Replays.decide`, after BURST_S


@dataclass(slots=True)
class _Program:
    """What one program wrote: the last value of each control, by whom, and what came within the present burst."""

    written: dict[int, tuple[int, int]] = field(default_factory=dict)  # control: value, process
    burst_began: float = 0.0
    burst: set[int] = field(default_factory=set)


class Replays:
    """Judges writes by program and process. Times are a monotonic clock's seconds."""

    def __init__(self) -> None:
        self._programs: dict[str, _Program] = {}

    def judge(self, program: str, process: int, control: int, value: int, now: float) -> Verdict:
        """A write that changes the present value. Where the program is not known everything is accepted."""
        if not program:
            return Verdict.ACCEPT
        known = self._note(program, control, now)
        before = known.written.get(control)
        if before is None or before[0] != value:
            known.written[control] = (value, process)
            return Verdict.ACCEPT
        if before[1] == process:
            return Verdict.IGNORE
        return Verdict.WAIT

    def unchanged(self, program: str, process: int, control: int, value: int, now: float) -> None:
        """A write of what is in force anyway: nothing to do, but it may be part of a burst."""
        if program:
            self._note(program, control, now).written[control] = (value, process)

    def decide(self, program: str, process: int, control: int, value: int) -> Verdict:
        """The second word on a write that had to wait."""
        known = self._programs.get(program)
        if known is None:
            return Verdict.ACCEPT
        known.written[control] = (value, process)
        return Verdict.IGNORE if len(known.burst) > 1 else Verdict.ACCEPT

    def _note(self, program: str, control: int, now: float) -> _Program:
        known = self._programs.pop(program, None) or _Program()
        self._programs[program] = known
        while len(self._programs) > MAX_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        if now - known.burst_began > BURST_S:
            known.burst_began = now
            known.burst.clear()
        known.burst.add(control)
        return known
