# SPDX-License-Identifier: GPL-2.0-or-later
"""How soon auto exposure is right after a step of light, and how still it keeps then: seeds x lenses x apertures
against the optics model; with the iris left alone, and with it in the loop.

    python -m tests.bench.auto_exposure_bench [--runs 50] [--first-seed 0] [--iris] [--workers N] [--out FILE]

Light before and after a step is anything that the module can expose rightly.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from maglens_driver.control import Cid
from maglens_v4l2.auto_exposure import TARGET, AutoExposure
from maglens_v4l2.exposure_program import GAIN_UNIT, TIME_UNIT_S, Exposure, ExposureProgram, Free
from tests.bench.auto_rig import INTERVAL, Rig
from tests.bench.auto_runs import (
    QUICK_SEEDS,
    SEEDS,
    Group,
    iris_at,
    name_of,
    options,
    shared_out,
    tell,
    worst_of,
)
from tests.bench.case import Case

SMALL: Final = (256, 192)
SETTLE: Final = 40  # frames before the step
WITHIN: Final = 12  # frames after it until exposure is right
STEADY: Final = 100  # frames over which it then keeps still
RIGHT: Final = 0.05  # how far off that is
STILL: Final = 0.02  # from the darkest frame to the brightest
MARGIN: Final = 2.0  # light stays inside what the module can expose by so much: scenes differ in their middle


def program_of(rig: Rig) -> ExposureProgram:
    """What the module can do."""
    time, gain, iris = (rig.controls.get(cid) for cid in (Cid.EXPOSURE_ABSOLUTE, Cid.GAIN, Cid.IRIS_ABSOLUTE))
    return ExposureProgram(time, gain, iris, float(INTERVAL), rig.descriptor.lens.fnumber_milli[1] / 1000)


def exposure_of(program: ExposureProgram, values: Mapping[int, int]) -> Exposure:
    """Of controls' values."""
    return Exposure(
        values[Cid.EXPOSURE_ABSOLUTE] * TIME_UNIT_S,
        values[Cid.GAIN] / GAIN_UNIT,
        program.fnumber(values[Cid.IRIS_ABSOLUTE]),
    )


class Loop:
    """Rig and controller in a loop; ``ratios`` is how far each frame is from the target."""

    def __init__(
        self,
        lens: str,
        seed: int,
        free: Free = Free(),  # noqa: B008 frozen
        mains: int = 1,
        stop: float | None = 2.8,
    ) -> None:
        self.rig = Rig(lens, seed, SMALL)
        self.rig.write({Cid.IRIS_ABSOLUTE: iris_at(self.rig, stop)})
        self.rig.skip()
        self.rig.skip()
        self.program = program_of(self.rig)
        self.it = AutoExposure(self.program, exposure_of(self.program, self.rig.values))
        self.it.steer(free, mains)
        self.ratios: list[float] = []
        self.writes = 0

    def run(self, frames: int) -> None:
        """So many frames."""
        for _ in range(frames):
            seen = self.rig.frame()
            self.ratios.append(seen.luma * self.it.asked.trim / TARGET)
            wanted = self.it.observe(seen)
            if wanted is None:
                continue
            self.writes += 1
            values: dict[int, int] = {
                Cid.EXPOSURE_ABSOLUTE: round(wanted.time_s / TIME_UNIT_S),
                Cid.GAIN: round(wanted.gain * GAIN_UNIT),
                Cid.IRIS_ABSOLUTE: self.program.iris_value(wanted.fnumber),
            }
            self.it.wrote(replace(exposure_of(self.program, self.rig.write(values)), trim=wanted.trim))

    def reach(self, iris_too: bool) -> tuple[float, float]:
        """The least and the most light that it can expose rightly, logarithms to base 2."""
        time, gain, iris = self.program.time, self.program.gain, self.program.iris
        assert time is not None
        assert gain is not None
        assert iris is not None
        now = self.rig.values[Cid.IRIS_ABSOLUTE]
        wide, narrow = (iris.maximum, iris.minimum) if iris_too else (now, now)
        optics = self.rig.optics()
        dark = replace(
            optics,
            exposure_s=min(time.maximum * TIME_UNIT_S, self.program.interval_s),
            gain=gain.maximum / GAIN_UNIT,
            fnumber=self.program.fnumber(wide),
        )
        bright = replace(
            optics,
            exposure_s=time.minimum * TIME_UNIT_S,
            gain=gain.minimum / GAIN_UNIT,
            fnumber=self.program.fnumber(narrow),
        )
        return math.log2(MARGIN / dark.brightness()), math.log2(1 / bright.brightness() / MARGIN)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One step: of how many stops; how many frames it took until all that came were right; by how much the frames
    from ``WITHIN`` on varied, from the darkest to the brightest."""

    stops: float
    frames: int
    variation: float

    @property
    def kept(self) -> bool:
        """As promised."""
        return self.frames <= WITHIN and self.variation < STILL


def attempt(lens: str, stop: float | None, seed: int, iris: bool = False) -> Attempt:
    """A scene at a random distance, right; then a step of its light. ``iris``: it is in the loop, and ``stop`` only
    where it begins."""
    loop = Loop(lens, seed, Free(iris=iris), stop=stop)
    random = np.random.default_rng(2000 + seed)
    loop.rig.at_udpt = float(random.uniform(0, loop.rig.controls[Cid.FOCUS_FINE].maximum))
    low, high = loop.reach(iris)
    before, after = random.uniform(low, high, 2)
    loop.rig.light = 2**before
    loop.run(SETTLE)
    loop.rig.light = 2**after
    loop.run(WITHIN + STEADY)
    return judged(loop.ratios[SETTLE:], float(after - before))


def judged(ratios: Sequence[float], stops: float) -> Attempt:
    """The frames from a step on."""
    wrong = [number for number, ratio in enumerate(ratios, 1) if abs(ratio - 1) >= RIGHT]
    still = ratios[WITHIN:]
    return Attempt(stops, max(wrong, default=0), max(still) / min(still) - 1)


def told(group: Group, runs: Sequence[Attempt], iris: bool) -> Iterator[Case]:
    """The slowest and the least steady run against what was promised of all."""
    name = f"auto/exposure/{'iris/' if iris else ''}{name_of(group)}"
    yield worst_of(f"{name}/frames", "frames", "lower", [run.frames for run in runs], WITHIN, "promised")
    yield worst_of(f"{name}/variation", "share", "lower", [run.variation for run in runs], STILL, "promised")


def cases(quick: bool = False) -> Iterator[Case]:
    """Two of each group with the iris left alone, and two with it in the loop."""
    for iris in (False, True):
        runs = QUICK_SEEDS if quick else SEEDS
        for group, found in shared_out(partial(attempt, iris=iris), runs, os.cpu_count() or 1).items():
            yield from told(group, found, iris)


def main() -> int:
    """0 if every run keeps the promise."""
    parser = options("python -m tests.bench.auto_exposure_bench", __doc__)
    parser.add_argument("--iris", action="store_true", help="the iris is in the loop")
    chosen = parser.parse_args()
    found = shared_out(partial(attempt, iris=chosen.iris), chosen.runs, chosen.workers, chosen.first_seed)
    tell(found, (c for group in found.items() for c in told(*group, chosen.iris)), chosen.first_seed, chosen.out)
    return int(not all(run.kept for runs in found.values() for run in runs))


if __name__ == "__main__":
    sys.exit(main())
