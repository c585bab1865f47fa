# SPDX-License-Identifier: GPL-2.0-or-later
"""How near auto white balance comes to the light's temperature on coloured scenes that average neutral: seeds x
lenses x apertures against the optics model.

    python -m tests.bench.auto_white_balance_bench [--runs 50] [--first-seed 0] [--workers N] [--out FILE]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from maglens_driver.control import Cid
from maglens_v4l2.auto_white_balance import AutoWhiteBalance, BalanceState
from maglens_v4l2.exposure_program import GAIN_UNIT
from maglens_v4l2.recipe import recipe_for
from tests.bench.auto_rig import LATENCY, Rig
from tests.bench.auto_runs import QUICK_SEEDS, SEEDS, Group, iris_at, name_of, options, shared_out, tell, worst_of
from tests.bench.case import Case

FRAMES: Final = 25  # until it is to be right
RIGHT_K: Final = 200
DIM: Final = 0.3  # of what is rightly exposed: little of a scene in strong colours clips


def follow(rig: Rig, it: AutoWhiteBalance, frames: int) -> list[float]:
    """Temperatures written, the recipe being used from the next frame on, as the pipeline does it."""
    written = []
    for _ in range(frames):
        kelvin = it.observe(rig.frame())
        if kelvin is not None:
            written.append(kelvin)
            rig.book.tune(recipe_for(rig.facts, kelvin))
    return written


@dataclass(frozen=True, slots=True)
class Attempt:
    """Light of some temperature, how many kelvins it was off by in the end, and whether it claims to be right."""

    kelvin: float
    off_k: float
    steady: bool

    @property
    def kept(self) -> bool:
        """As promised."""
        return self.steady and self.off_k < RIGHT_K


def attempt(lens: str, stop: float | None, seed: int, kelvin: float | None = None) -> Attempt:
    """A coloured scene in light of ``kelvin`` (None: any that the module can be balanced for), balance elsewhere."""
    rig = Rig(lens, seed, coloured=True)  # large enough that sampling its rows leaves the average neutral
    widest = rig.descriptor.lens.fnumber_milli[0] / 1000
    gain = 1 if stop is None else (stop / widest) ** 2  # makes up for the iris, so that there is more noise
    rig.write({Cid.IRIS_ABSOLUTE: iris_at(rig, stop), Cid.GAIN: round(GAIN_UNIT * gain)})
    for _ in range(LATENCY):
        rig.skip()
    rig.light = DIM / rig.optics().brightness()
    random = np.random.default_rng(3000 + seed)
    temperature = rig.controls[Cid.WHITE_BALANCE_TEMPERATURE]
    limits = temperature.minimum, temperature.maximum
    start = random.uniform(*limits)
    rig.kelvin = float(random.uniform(*limits)) if kelvin is None else kelvin
    it = AutoWhiteBalance(rig.facts, start, limits)
    rig.book.tune(recipe_for(rig.facts, start))
    it.start()
    follow(rig, it, FRAMES)
    return Attempt(rig.kelvin, abs(it.kelvin - rig.kelvin), it.state is BalanceState.STEADY)


def told(group: Group, runs: Sequence[Attempt]) -> Iterator[Case]:
    """The run that is furthest off against what was promised of all, and how many are steady."""
    name = f"auto/white-balance/{name_of(group)}"
    yield worst_of(f"{name}/off", "K", "lower", [run.off_k for run in runs], RIGHT_K, "promised")
    steady = sum(run.steady for run in runs) / len(runs)
    yield Case(f"{name}/steady", "share", "higher", steady, 1.0, "all", steady, len(runs), 0.0)


def cases(quick: bool = False) -> Iterator[Case]:
    """Two of each group."""
    for group, runs in shared_out(attempt, QUICK_SEEDS if quick else SEEDS, os.cpu_count() or 1).items():
        yield from told(group, runs)


def main() -> int:
    """0 if every run keeps the promise."""
    chosen = options("python -m tests.bench.auto_white_balance_bench", __doc__).parse_args()
    found = shared_out(attempt, chosen.runs, chosen.workers, chosen.first_seed)
    tell(found, (case for group in found.items() for case in told(*group)), chosen.first_seed, chosen.out)
    return int(not all(run.kept for runs in found.values() for run in runs))


if __name__ == "__main__":
    sys.exit(main())
