# SPDX-License-Identifier: GPL-2.0-or-later
"""Auto exposure: light measured, exposure shared out anew when it is wrong.

::

    off -> settling -> steady -> settling
           settling -> limited -> settling
    * -> off

A frame says how it was exposed, so each tells how bright the scene is whatever is still on its way to the sensor;
only a frame that shows the last setting decides on the next.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from maglens_v4l2.exposure_program import Exposure, ExposureProgram, Free
from maglens_v4l2.measurement import Measurement

TARGET: Final = 0.18  # mean linear light of a well exposed picture
SETTLED: Final = 0.02  # how far off is right; the program's trim reaches a tenth of that
DISTURBED: Final = 0.05  # how far off a steady picture may drift ...
PATIENCE: Final = 2  # ... for so many frames
STARTLED: Final = 0.25  # a change this large is answered at once
CLIPPED: Final = 0.3  # of the picture: the light is more than can be measured ...
DIM_BY: Final = 4.0  # ... and taken to be so many times as much
BLOWN: Final = 0.95  # of the picture: nothing is seen any more of how much light there is ...
DIM_BLOWN_BY: Final = 16.0  # ... which may be far more
BRIGHTEN_BY: Final = 16.0  # the most that is trusted at a time of a dark frame, which is mostly noise
SAME: Final = 0.01  # settings that differ by less are the same
LATENCY: Final = 2  # frames from a setting to the first that shows it ...
LATE: Final = 150  # ... and so many until it is no longer waited for


class ExposureState(enum.Enum):
    """Where it is."""

    OFF = "off"  # a person sets exposure
    SETTLING = "settling"  # a setting is on its way, or the light has just changed
    STEADY = "steady"  # right
    LIMITED = "limited"  # as near as the module can come


_S = ExposureState
TRANSITIONS: Final[Mapping[ExposureState, frozenset[ExposureState]]] = {
    _S.OFF: frozenset((_S.SETTLING,)),
    _S.SETTLING: frozenset((_S.STEADY, _S.LIMITED, _S.OFF)),
    _S.STEADY: frozenset((_S.SETTLING, _S.OFF)),
    _S.LIMITED: frozenset((_S.SETTLING, _S.OFF)),
}


class AutoExposure:
    """Pure: measurements in, settings out. ``free`` and ``mains`` (POWER_LINE_FREQUENCY's value) may change at any
    time, by :meth:`steer`."""

    def __init__(self, program: ExposureProgram, now: Exposure) -> None:
        self.program = program
        self.state = ExposureState.OFF
        self.asked = now
        self._free = Free()
        self._mains = 1
        self._written = True  # the module has what was asked for
        self._frames = 0  # since then
        self._wrong = 0  # frames in a row that were off while steady

    def steer(self, free: Free, mains: int) -> None:
        """From now on. Nothing free: off."""
        if (free, mains) == (self._free, self._mains) and self.state is not ExposureState.OFF:
            return
        self._free, self._mains = free, mains
        if free.time or free.gain or free.iris:
            self._enter(ExposureState.SETTLING)
        else:
            self.stop()

    def stop(self) -> None:
        """A person sets it from now on."""
        self._enter(ExposureState.OFF)

    def set_by_hand(self, now: Exposure) -> None:
        """What is not free was moved; the rest makes up for it."""
        self.asked = now
        self._written, self._frames = True, 0
        if self.state is not ExposureState.OFF:
            self._enter(ExposureState.SETTLING)

    def wrote(self, now: Exposure) -> None:
        """The module has what was asked for, as it has clamped it."""
        self.asked = now
        self._written, self._frames = True, 0

    def observe(self, seen: Measurement, hold: bool = False) -> Exposure | None:
        """A frame came. The answer is the setting to write, if any; :meth:`wrote` is to follow. ``hold``: what is
        right stays unless the light changes much (focus is being searched for, and blur spreads light)."""
        if self.state is ExposureState.OFF or not self._written:
            return None
        self._frames += 1
        taken = self._taken(seen)
        if not self._shows(seen):
            return None
        error = seen.luma * self.asked.trim / TARGET
        off = max(error, 1 / max(error, 1e-9)) - 1
        if self.state is not ExposureState.SETTLING:
            self._wrong = self._wrong + 1 if off > DISTURBED else 0
            if self.state is ExposureState.LIMITED and self._better(seen, taken) is None:
                return None
            if (hold or self._wrong < PATIENCE) and off < STARTLED:
                return None
            self._enter(ExposureState.SETTLING)
        elif off < SETTLED:
            self._enter(ExposureState.STEADY)
            return None
        better = self._better(seen, taken)
        if better is None:
            self._enter(ExposureState.STEADY if off < DISTURBED else ExposureState.LIMITED)
            return None
        self.asked, self._written = better, False
        return better

    def _better(self, seen: Measurement, taken: Exposure) -> Exposure | None:
        """What would be nearer to the target; None where that is what there is."""
        if seen.clipped > CLIPPED:
            if seen.luma < TARGET:  # light of one colour, which is at its end before the picture is bright
                return None
            factor = 1 / (DIM_BLOWN_BY if seen.clipped > BLOWN else DIM_BY)
        else:
            factor = min(TARGET / max(seen.luma, 1e-6), BRIGHTEN_BY)
        free, asked = self._free, self.asked
        now = Exposure(
            asked.time_s if free.time else taken.time_s,
            asked.gain if free.gain else taken.gain,
            asked.fnumber if free.iris else taken.fnumber,
            asked.trim,
        )
        wanted = self.program.share(taken.light * factor, now, free, self._mains)
        return None if wanted == now else wanted

    def _taken(self, seen: Measurement) -> Exposure:
        """How a frame was exposed, without trim; what it does not say is as was asked for."""
        meta, asked = seen.meta, self.asked
        return Exposure(
            meta.exposure_us / 1e6 or asked.time_s,
            meta.gain_milli / 1000 or asked.gain,
            meta.fnumber_milli / 1000 or asked.fnumber,
        )

    def _shows(self, seen: Measurement) -> bool:
        """Whether a frame was taken with what was asked for last."""
        if self._frames >= LATE:
            return True
        if not (seen.meta.exposure_us and seen.meta.gain_milli and seen.meta.fnumber_milli):
            return self._frames > LATENCY
        taken, asked, free = self._taken(seen), self.asked, self._free
        same = (abs(a / b - 1) < SAME for a, b in zip(taken.settings, asked.settings, strict=True))
        return all(is_same or not free for is_same, free in zip(same, (free.time, free.gain, free.iris), strict=True))

    def _enter(self, state: ExposureState) -> None:
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"auto exposure: no way from {self.state.value} to {state.value}")
        self.state = state
        self._wrong = 0
