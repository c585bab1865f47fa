# SPDX-License-Identifier: GPL-2.0-or-later
"""Replays: telling an app that writes back what it once wrote from a person who moves a slider.

OBS never reads controls back: opening its properties writes every value it has saved, exposure and focus included. A
slider that a person moves never writes the value it wrote before; a program that replays does just that. So the same
process writing its own last value of a control again is a replay. A new process of the same program may be a person
typing a command again, or the program started anew: there a second control within ``BURST_S`` tells.

What an automatic drives has moved on between OBS's reading and its writing, so that an unchanged slider looks moved.
But its burst writes the automatic's switch as well, and leaves it on: who does that does not mean to end it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
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
    last_write: float = 0.0
    burst: set[int] = field(default_factory=set)  # controls, each written within BURST_S of the one before


class Replays:
    """Judges writes by program and process. Times are a monotonic clock's seconds."""

    def __init__(self) -> None:
        self._programs: dict[str, _Program] = {}

    def judge(
        self, program: str, process: int, control: int, value: int, now: float, switches: Collection[int] = ()
    ) -> Verdict:
        """A write that changes the present value. Where the program is not known everything is accepted.
        ``switches``: of the automatics that drive the control now."""
        if not program:
            return Verdict.ACCEPT
        known = self._note(program, control, now)
        before = known.written.get(control)
        if before == (value, process):
            return Verdict.IGNORE
        if switches or (before is not None and before[0] == value):
            return Verdict.WAIT
        known.written[control] = (value, process)
        return Verdict.ACCEPT

    def unchanged(self, program: str, process: int, control: int, value: int, now: float) -> None:
        """A write of what is in force anyway: nothing to do, but it may be part of a burst."""
        if program:
            self._note(program, control, now).written[control] = (value, process)

    def undone(self, control: int, value: int) -> None:
        """This was never in force: who writes it once more means it."""
        for known in self._programs.values():
            if known.written.get(control, (None,))[0] == value:
                del known.written[control]

    def decide(self, program: str, process: int, control: int, value: int, switches: Collection[int] = ()) -> Verdict:
        """The second word on a write that had to wait; ``switches`` as they are now."""
        known = self._programs.get(program)
        if known is None:
            return Verdict.ACCEPT
        before = known.written.get(control)
        known.written[control] = (value, process)
        again = before is not None and before[0] == value and len(known.burst) > 1
        return Verdict.IGNORE if again or known.burst.intersection(switches) else Verdict.ACCEPT

    def _note(self, program: str, control: int, now: float) -> _Program:
        known = self._programs.pop(program, None) or _Program()
        self._programs[program] = known
        while len(self._programs) > MAX_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        if now - known.last_write > BURST_S:
            known.burst.clear()
        known.last_write = now
        known.burst.add(control)
        return known
