# SPDX-License-Identifier: GPL-2.0-or-later
"""Exposure program: how much light is shared out over exposure time, gain, iris, and a last digital step.

Mains light pulses twice a period. An exposure that lasts whole pulses sees the same of each, so times at and above
one pulse are multiples of it. Below one pulse nothing helps but to close the iris first, where it may be moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from maglens_driver.control import ControlInfo

TIME_UNIT_S: Final = 1e-4  # of EXPOSURE_ABSOLUTE
GAIN_UNIT: Final = 1000  # of GAIN
IRIS_UNITS: Final = 200  # of IRIS_ABSOLUTE, per doubling of the f-number's inverse
IRIS_MOST: Final = 20 * IRIS_UNITS  # twice as many doublings as any lens has; a module may say anything
PULSE_S: Final = {0: 0.0, 1: 1 / 100, 2: 1 / 120}  # by POWER_LINE_FREQUENCY's items: off, 50 Hz, 60 Hz
BASE_S: Final = 0.01  # where the iris may be moved, it keeps the time from getting shorter than this
MAX_TRIM: Final = 1.25  # the most that is made up for by digital gain


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a frame was, or will be, taken with: seconds, factor, f-number; digital ``trim`` (1 or more)."""

    time_s: float
    gain: float
    fnumber: float
    trim: float = 1.0

    @property
    def settings(self) -> tuple[float, float, float]:
        """What the module sets: time, gain, f-number."""
        return self.time_s, self.gain, self.fnumber

    @property
    def light(self) -> float:
        """Time x gain / f-number^2, trim included."""
        return self.time_s * self.gain * self.trim / self.fnumber**2


@dataclass(frozen=True, slots=True)
class Free:
    """What may be moved."""

    time: bool = True
    gain: bool = True
    iris: bool = False


@dataclass(frozen=True, slots=True)
class ExposureProgram:
    """A module's ranges. ``interval_s``: the frame's, which no exposure exceeds; ``fnumber_most``: the aperture at
    IRIS_ABSOLUTE 0; None for what the module cannot move. Least time and gain are above 0 (:func:`above_zero`)."""

    time: ControlInfo | None
    gain: ControlInfo | None
    iris: ControlInfo | None
    interval_s: float
    fnumber_most: float

    def fnumber(self, iris: int) -> float:
        """Of a value of IRIS_ABSOLUTE."""
        return self.fnumber_most / opening(iris)

    def iris_value(self, fnumber: float) -> int:
        """The inverse, as the module takes it; between two values the smaller aperture."""
        assert self.iris is not None
        return self.iris.clamp(math.floor(IRIS_UNITS * math.log2(self.fnumber_most / fnumber) + 1e-6))

    def share(self, light: float, now: Exposure, free: Free, mains: int) -> Exposure:
        """The exposure nearest to ``light``. What is not free stays as it is ``now``. Time and gain are rounded down,
        and ``trim`` makes up for it."""
        pulse = PULSE_S.get(mains, 0.0)
        fnumber = now.fnumber
        if self.iris is not None and free.iris:
            base = (pulse or BASE_S) if free.time else now.time_s
            fnumber = math.sqrt(base * self._least_gain(now, free) / light)
            fnumber = self.fnumber(self.iris_value(fnumber))
        gain = self._least_gain(now, free)
        time_s = now.time_s
        if self.time is not None and free.time:
            time_s = self._time(light * fnumber**2 / gain, pulse)
        if self.gain is not None and free.gain:
            gain = _down(self.gain, light * fnumber**2 / time_s * GAIN_UNIT) / GAIN_UNIT
        trim = light * fnumber**2 / (time_s * gain)
        return Exposure(time_s, gain, fnumber, min(max(trim, 1.0), MAX_TRIM))

    def _least_gain(self, now: Exposure, free: Free) -> float:
        return self.gain.minimum / GAIN_UNIT if self.gain is not None and free.gain else now.gain

    def _time(self, wanted_s: float, pulse_s: float) -> float:
        assert self.time is not None
        most = min(self.time.maximum * TIME_UNIT_S, self.interval_s)
        wanted_s = min(wanted_s, most)
        if pulse_s and wanted_s >= pulse_s:
            wanted_s = math.floor(wanted_s / pulse_s + 1e-9) * pulse_s
            whole_s = self.time.clamp(round(wanted_s / TIME_UNIT_S)) * TIME_UNIT_S
            if whole_s <= most:  # 2 pulses at 60 Hz are 166.67 units: with 167 a frame would take longer than at 60/s
                return whole_s
        return _down(self.time, wanted_s / TIME_UNIT_S) * TIME_UNIT_S


def opening(iris: int) -> float:
    """How many times as wide as at IRIS_ABSOLUTE 0 a lens is open; beyond ``IRIS_MOST`` no further."""
    return float(2 ** (min(max(iris, -IRIS_MOST), IRIS_MOST) / IRIS_UNITS))


def above_zero(info: ControlInfo | None) -> ControlInfo | None:
    """An exposure time's or a gain's range from its least value that lets light through; None where it has none."""
    if info is None or info.minimum > 0:
        return info
    step = max(info.step, 1)
    least = info.minimum + (1 - info.minimum + step - 1) // step * step
    return replace(info, minimum=least) if least <= info.maximum else None


def _down(info: ControlInfo, value: float) -> int:
    """The greatest legal value that is not above ``value``."""
    step = max(info.step, 1)
    value = min(max(value + 1e-6, info.minimum), info.maximum)
    return info.minimum + math.floor((value - info.minimum) / step) * step
