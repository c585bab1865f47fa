# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of the automatics: lenses x apertures x seeds, shared out to processes, and told as cases.

Every run depends on nothing but its lens, aperture and seed, so that any number of processes finds the same.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, TypeVar

from maglens_driver.control import Cid
from maglens_v4l2.exposure_program import IRIS_UNITS
from tests.bench.auto_rig import Rig
from tests.bench.case import Case

LENSES: Final = ("35mm", "73mm", "234mm")
STOPS: Final = (None, 8.0)  # None: wide open
SEEDS: Final = 50
QUICK_SEEDS: Final = 5

Group = tuple[str, float | None]  # lens and aperture
GROUPS: Final[tuple[Group, ...]] = tuple((lens, stop) for lens in LENSES for stop in STOPS)


class Run(Protocol):
    """What came of one; a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def kept(self) -> bool:
        """As promised."""
        ...


R = TypeVar("R", bound=Run)
Attempt = Callable[[str, float | None, int], R]  # lens, aperture, seed


def name_of(group: Group) -> str:
    """As in the names of cases."""
    lens, stop = group
    return f"{lens}/{'wide-open' if stop is None else f'f{stop:g}'}"


def iris_at(rig: Rig, stop: float | None) -> int:
    """IRIS_ABSOLUTE for an aperture."""
    smallest = rig.descriptor.lens.fnumber_milli[1] / 1000
    most = rig.controls[Cid.IRIS_ABSOLUTE].maximum
    return most if stop is None else round(IRIS_UNITS * math.log2(smallest / stop))


def shared_out(attempt: Attempt[R], runs: int, workers: int, first: int = 0) -> Mapping[Group, Sequence[R]]:
    """``runs`` of every group, by ``workers`` processes; in the seeds' order from ``first``."""
    jobs = [(*group, seed) for group in GROUPS for seed in range(first, first + runs)]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(attempt, *zip(*jobs, strict=True)))
    return {group: found[k * runs : (k + 1) * runs] for k, group in enumerate(GROUPS)}


def worst_of(
    name: str, unit: str, better: Literal["lower", "higher"], values: Sequence[float], bound: float, bound_name: str
) -> Case:
    """The worst of all runs against the bound that each of them is to keep."""
    worst = max(values) if better == "lower" else min(values)
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / middle if middle else 0.0
    return Case(name, unit, better, worst, bound, bound_name, worst / bound, len(values), spread)


def options(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Those that every one of these benches has."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--runs", type=int, default=SEEDS, help="of each lens and aperture")
    parser.add_argument("--first-seed", type=int, default=0, help="others than the controller was made with")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--out", type=Path, help="a report of JSON: the cases and every single run")
    return parser


def tell(found: Mapping[Group, Sequence[Run]], cases: Iterable[Case], first: int, out: Path | None) -> None:
    """Print the cases, and by its seed each run that did not keep the promise."""
    told = list(cases)
    for case in told:
        print(f"{case.case:44} {case.ours:8.4g} {case.unit}, {case.peer_name}: {case.peer:g}")
    for group, runs in found.items():
        for seed, run in enumerate(runs, first):
            if not run.kept:
                print(f"  {name_of(group)}, seed {seed}: {run}")
    if out is not None:
        single = {name_of(group): [asdict(run) for run in runs] for group, runs in found.items()}
        out.write_text(json.dumps({"cases": [case.as_json() for case in told], "runs": single}, indent=1) + "\n")
