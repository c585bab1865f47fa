# SPDX-License-Identifier: GPL-2.0-or-later
"""How often autofocus ends sharp, after how many positions: seeds x lenses x apertures against the optics model.

python -m tests.bench.auto_focus_bench [--runs 50] [--first-seed 0] [--gain 1] [--workers N] [--out FILE]
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from maglens_driver.control import Cid
from maglens_v4l2.auto_focus import FocusState
from maglens_v4l2.focus_search import MAX_POSITIONS
from tests.bench.auto_rig import Rig, autofocus
from tests.bench.auto_runs import QUICK_SEEDS, SEEDS, Group, iris_at, name_of, options, shared_out, tell
from tests.bench.case import Case

PROMISED: Final = 0.95  # of the runs


@dataclass(frozen=True, slots=True)
class Attempt:
    """One search: blur at its end in circles of confusion, positions evaluated, whether it claims to be sharp."""

    circles: float
    positions: int
    held: bool

    @property
    def kept(self) -> bool:
        """Sharp: within the depth of field, as promised."""
        return self.held and self.circles <= 1 and self.positions <= MAX_POSITIONS


def attempt(lens: str, stop: float | None, seed: int, gain: float = 1) -> Attempt:
    """A scene at a random distance, focus somewhere else, light as exposure would have it at this ``gain``."""
    rig = Rig(lens, seed)
    fine = rig.controls[Cid.FOCUS_FINE]
    rig.write({Cid.IRIS_ABSOLUTE: iris_at(rig, stop), Cid.GAIN: round(1000 * gain)})
    rig.skip()
    rig.skip()
    rig.light = 1 / rig.optics().brightness()
    random = np.random.default_rng(1000 + seed)
    rig.at_udpt = float(random.uniform(0, fine.maximum))
    focus = autofocus(rig, int(random.integers(0, fine.maximum)))
    return Attempt(rig.blur_circles(rig.optics()), focus.positions, focus.state is FocusState.HELD)


def told(group: Group, runs: Sequence[Attempt]) -> Iterator[Case]:
    """Share of sharp runs against what was promised, and the median of positions against the most allowed."""
    name = f"auto/focus/{name_of(group)}"
    sharp = sum(run.kept for run in runs) / len(runs)
    counts = [run.positions for run in runs]
    middle, spread = statistics.median(counts), (max(counts) - min(counts)) / statistics.median(counts)
    ratio = middle / MAX_POSITIONS
    yield Case(f"{name}/sharp", "share", "higher", sharp, PROMISED, "promised", sharp / PROMISED, len(runs), 0.0)
    yield Case(
        f"{name}/positions", "positions", "lower", middle, MAX_POSITIONS, "allowed", ratio, len(runs), spread
    )  # fmt: skip


def cases(quick: bool = False) -> Iterator[Case]:
    """Two of each group."""
    for group, runs in shared_out(attempt, QUICK_SEEDS if quick else SEEDS, os.cpu_count() or 1).items():
        yield from told(group, runs)


def main() -> int:
    """0 if every group keeps the promise."""
    parser = options("python -m tests.bench.auto_focus_bench", __doc__)
    parser.add_argument("--gain", type=float, default=1, help="of the sensor: 16 is dim light")
    chosen = parser.parse_args()
    found = shared_out(partial(attempt, gain=chosen.gain), chosen.runs, chosen.workers, chosen.first_seed)
    tell(found, (case for group in found.items() for case in told(*group)), chosen.first_seed, chosen.out)
    print(f"at most {max(run.positions for runs in found.values() for run in runs)} positions")
    return int(min(sum(run.kept for run in runs) / len(runs) for runs in found.values()) < PROMISED)


if __name__ == "__main__":
    sys.exit(main())
