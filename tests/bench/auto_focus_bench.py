# SPDX-License-Identifier: GPL-2.0-or-later
"""How often autofocus ends sharp, after how many positions: seeds x lenses x apertures against the optics model."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Final

import numpy as np

from maglens_driver.control import Cid
from maglens_v4l2.auto_focus import FocusState
from maglens_v4l2.exposure_program import IRIS_UNITS
from maglens_v4l2.focus_search import MAX_POSITIONS
from tests.bench.auto_rig import Rig, autofocus
from tests.bench.case import Case

LENSES: Final = ("35mm", "73mm", "234mm")
STOPS: Final = (None, 8.0)  # None: wide open
SEEDS: Final = 50
PROMISED: Final = 0.95  # of the runs


@dataclass(frozen=True, slots=True)
class Attempt:
    """One search: blur at its end in circles of confusion, positions evaluated, whether it claims to be sharp."""

    circles: float
    positions: int
    held: bool

    @property
    def sharp(self) -> bool:
        """Within the depth of field, as promised."""
        return self.held and self.circles <= 1 and self.positions <= MAX_POSITIONS


def attempt(lens: str, stop: float | None, seed: int) -> Attempt:
    """A scene at a random distance, focus somewhere else, light as exposure would have it."""
    rig = Rig(lens, seed)
    iris, fine = rig.controls[Cid.IRIS_ABSOLUTE], rig.controls[Cid.FOCUS_FINE]
    smallest = rig.descriptor.lens.fnumber_milli[1] / 1000
    value = iris.maximum if stop is None else round(IRIS_UNITS * math.log2(smallest / stop))
    rig.write({Cid.IRIS_ABSOLUTE: value})
    rig.skip()
    rig.skip()
    rig.light = 1 / rig.optics().brightness()
    random = np.random.default_rng(1000 + seed)
    rig.at_udpt = float(random.uniform(0, fine.maximum))
    focus = autofocus(rig, int(random.integers(0, fine.maximum)))
    return Attempt(rig.blur_circles(rig.optics()), focus.positions, focus.state is FocusState.HELD)


def cases(quick: bool = False) -> list[Case]:
    """Share of sharp runs against what was promised, and the median of positions against the most allowed."""
    found = []
    for lens in LENSES:
        for stop in STOPS:
            runs = [attempt(lens, stop, seed) for seed in range(5 if quick else SEEDS)]
            name = f"auto/focus/{lens}/{'wide-open' if stop is None else f'f{stop:g}'}"
            sharp = sum(run.sharp for run in runs) / len(runs)
            found.append(
                Case(
                    f"{name}/sharp", "share", "higher", sharp, PROMISED, "promised", sharp / PROMISED, len(runs), 0.0
                )
            )
            counts = [run.positions for run in runs]
            middle, spread = statistics.median(counts), (max(counts) - min(counts)) / statistics.median(counts)
            found.append(
                Case(
                    f"{name}/positions", "positions", "lower", middle, MAX_POSITIONS, "allowed",
                    middle / MAX_POSITIONS, len(runs), spread,
                )
            )  # fmt: skip
    return found
