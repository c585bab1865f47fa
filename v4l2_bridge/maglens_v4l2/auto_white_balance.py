# SPDX-License-Identifier: GPL-2.0-or-later
"""Auto white balance: the world is grey on the average, and lit by something between a candle and a blue sky.

::

    off -> settling -> steady -> settling
    * -> off

The average colour of a frame, as the sensor has it, is looked up on the line of colours that white takes from warm
light to cool; what lies off that line (a lawn, a red wall) moves it only along.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import numpy as np

from maglens_driver.color import MAX_K, MIN_K, neutral
from maglens_driver.raw import RawFacts
from maglens_v4l2.measurement import Measurement

LIMITS_K: Final = (2300, 9500)  # lights outside are taken to be coloured things
SHARE: Final = 0.3  # of the way to what a frame says, gone with each
SETTLED_MIRED: Final = 1.0  # a mired is a million / kelvin: equal steps look alike
DISTURBED_MIRED: Final = 3.0  # what a steady balance may be off ...
PATIENCE: Final = 10  # ... for so many frames
STEPS: Final = 96  # of the table


class BalanceState(enum.Enum):
    """Where it is."""

    OFF = "off"  # a person sets the temperature
    SETTLING = "settling"  # on its way
    STEADY = "steady"  # right


_S = BalanceState
TRANSITIONS: Final[Mapping[BalanceState, frozenset[BalanceState]]] = {
    _S.OFF: frozenset((_S.SETTLING,)),
    _S.SETTLING: frozenset((_S.STEADY, _S.OFF)),
    _S.STEADY: frozenset((_S.SETTLING, _S.OFF)),
}


class AutoWhiteBalance:
    """Pure: measurements in, kelvin out. ``ValueError`` where the module's matrices make no sense."""

    def __init__(self, facts: RawFacts, kelvin: float, limits: tuple[int, int] = LIMITS_K) -> None:
        low, high = (min(max(limit, MIN_K), MAX_K) for limit in limits)
        warm = min(max(low, LIMITS_K[0]), high)
        self.limits = warm, max(min(high, LIMITS_K[1]), warm)  # between which the module's matrices make sense
        self._mireds = np.linspace(1e6 / self.limits[1], 1e6 / warm, STEPS)
        whites = np.array([neutral(facts, 1e6 / mired) for mired in self._mireds])
        warmth = np.log(whites[:, 0] / whites[:, 2])  # red to blue
        # Where the line of daylight gives way to that of black bodies it goes back a little.
        self._warmth = np.maximum.accumulate(warmth)
        one = self.limits[0] == self.limits[1]  # that is all the module has, and all that it is developed for
        if not one and (warmth.argmax() != STEPS - 1 or warmth.argmin() != 0):
            raise ValueError("its colour matrices do not make warm light redder than cool light")
        self.state = BalanceState.OFF
        self._mired = _mired(kelvin)
        self._wrong = 0

    @property
    def kelvin(self) -> float:
        """The light it takes the scene to be in."""
        return float(1e6 / self._mired)

    def start(self) -> None:
        """Follow the light from now on."""
        if self.state is BalanceState.OFF:
            self._enter(BalanceState.SETTLING)

    def stop(self, kelvin: float) -> None:
        """A person has set it."""
        self._enter(BalanceState.OFF)
        self._mired = _mired(kelvin)

    def observe(self, seen: Measurement) -> float | None:
        """A frame came. The answer is the temperature to develop for, where that changes."""
        if self.state is BalanceState.OFF or not seen.red or not seen.blue:
            return None
        wanted = float(np.interp(np.log(seen.red / seen.blue), self._warmth, self._mireds))
        off = wanted - self._mired
        if self.state is BalanceState.STEADY:
            self._wrong = self._wrong + 1 if abs(off) > DISTURBED_MIRED else 0
            if self._wrong < PATIENCE:
                return None
            self._enter(BalanceState.SETTLING)
        if abs(off) < SETTLED_MIRED:
            self._enter(BalanceState.STEADY)
            return None
        self._mired += off * SHARE
        return self.kelvin

    def _enter(self, state: BalanceState) -> None:
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"auto white balance: no way from {self.state.value} to {state.value}")
        self.state = state
        self._wrong = 0


def _mired(kelvin: float) -> float:
    """Of a temperature that is a module's word: it may be any number."""
    return 1e6 / min(max(kelvin, MIN_K), MAX_K)
