# SPDX-License-Identifier: GPL-2.0-or-later
"""How often autofocus ends sharp, after how many positions: seeds x lenses x apertures against the optics model.

    python -m tests.bench.auto_focus_bench [--runs 50] [--first-seed 0] [--gain 1] [--workers N] [--out FILE]

Every run depends on nothing but its lens, aperture and seed, so that any number of processes finds the same. FILE
gets the cases and every single run.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
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


def attempt(lens: str, stop: float | None, seed: int, gain: float = 1) -> Attempt:
    """A scene at a random distance, focus somewhere else, light as exposure would have it at this ``gain``."""
    rig = Rig(lens, seed)
    iris, fine = rig.controls[Cid.IRIS_ABSOLUTE], rig.controls[Cid.FOCUS_FINE]
    smallest = rig.descriptor.lens.fnumber_milli[1] / 1000
    value = iris.maximum if stop is None else round(IRIS_UNITS * math.log2(smallest / stop))
    rig.write({Cid.IRIS_ABSOLUTE: value, Cid.GAIN: round(1000 * gain)})
    rig.skip()
    rig.skip()
    rig.light = 1 / rig.optics().brightness()
    random = np.random.default_rng(1000 + seed)
    rig.at_udpt = float(random.uniform(0, fine.maximum))
    focus = autofocus(rig, int(random.integers(0, fine.maximum)))
    return Attempt(rig.blur_circles(rig.optics()), focus.positions, focus.state is FocusState.HELD)


Group = tuple[str, float | None]  # lens and aperture
GROUPS: Final[tuple[Group, ...]] = tuple((lens, stop) for lens in LENSES for stop in STOPS)


def attempts(runs: int, workers: int, first: int = 0, gain: float = 1) -> Mapping[Group, Sequence[Attempt]]:
    """``runs`` searches of every group, shared out to ``workers`` processes; in the seeds' order from ``first``."""
    jobs = [(*group, seed, gain) for group in GROUPS for seed in range(first, first + runs)]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(attempt, *zip(*jobs, strict=True)))
    return {group: found[k * runs : (k + 1) * runs] for k, group in enumerate(GROUPS)}


def told(group: Group, runs: Sequence[Attempt]) -> list[Case]:
    """Share of sharp runs against what was promised, and the median of positions against the most allowed."""
    lens, stop = group
    name = f"auto/focus/{lens}/{'wide-open' if stop is None else f'f{stop:g}'}"
    sharp = sum(run.sharp for run in runs) / len(runs)
    counts = [run.positions for run in runs]
    middle, spread = statistics.median(counts), (max(counts) - min(counts)) / statistics.median(counts)
    ratio = middle / MAX_POSITIONS
    return [
        Case(f"{name}/sharp", "share", "higher", sharp, PROMISED, "promised", sharp / PROMISED, len(runs), 0.0),
        Case(
            f"{name}/positions", "positions", "lower", middle, MAX_POSITIONS, "allowed", ratio, len(runs), spread
        ),
    ]  # fmt: skip


def cases(quick: bool = False) -> list[Case]:
    """Two of each group."""
    found = attempts(5 if quick else SEEDS, os.cpu_count() or 1)
    return [case for group, runs in found.items() for case in told(group, runs)]


def main() -> int:
    """0 if every group keeps the promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.auto_focus_bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=SEEDS, help="of each lens and aperture")
    parser.add_argument("--first-seed", type=int, default=0, help="others than the search was made with")
    parser.add_argument("--gain", type=float, default=1, help="of the sensor: 16 is dim light")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--out", type=Path, help="a report of JSON")
    chosen = parser.parse_args()
    found = attempts(chosen.runs, chosen.workers, chosen.first_seed, chosen.gain)
    report: list[dict[str, object]] = []
    for group, runs in found.items():
        sharp, positions = told(group, runs)
        most = max(run.positions for run in runs)
        print(f"{sharp.case:36} {sharp.ours:6.1%}   positions {positions.ours:g}, at most {most}")
        report += [sharp.as_json(), positions.as_json()]
        for seed, run in enumerate(runs, chosen.first_seed):
            if not run.sharp:
                print(f"  seed {seed}: off by {run.circles:.2f} circles, {run.positions} positions, held {run.held}")
    if chosen.out is not None:
        single = {f"{lens} {stop or 'open'}": [asdict(run) for run in runs] for (lens, stop), runs in found.items()}
        chosen.out.write_text(json.dumps({"cases": report, "runs": single}, indent=1) + "\n")
    shares = [sum(run.sharp for run in runs) / len(runs) for runs in found.values()]
    return int(min(shares) < PROMISED)


if __name__ == "__main__":
    sys.exit(main())
