# SPDX-License-Identifier: GPL-2.0-or-later
"""``make bench``: run every benchmark module, write ``build/bench/report.json``, fail where a promise is not kept."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
from pathlib import Path

import tests.bench
from tests.bench.case import Case
from tests.bench.promises import missed
from tests.bench.report import Report

SUFFIX = "_bench"
REPORT = Path("build/bench/report.json")


def _modules(only: str) -> list[str]:
    names = [m.name for m in pkgutil.iter_modules(tests.bench.__path__) if m.name.endswith(SUFFIX)]
    return sorted(n for n in names if only in n)


def main() -> int:
    """Each module ``tests/bench/*_bench.py`` offers ``cases(quick)``, an iterable of :class:`Case`. A part that is
    not quick goes into the report that is there."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help="run benchmark modules whose name contains this")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats")
    parser.add_argument("--out", type=Path, default=REPORT)
    chosen = parser.parse_args()
    report = Report(chosen.out, into=bool(chosen.only) and not chosen.quick)
    found: list[Case] = []
    failed = False
    modules = _modules(chosen.only)
    for name in modules:
        print(f"bench: {name}", flush=True)
        began = time.monotonic()
        try:
            for case in importlib.import_module(f"tests.bench.{name}").cases(chosen.quick):
                found.append(case)
                report.add(case)
                print(f"  {case.case:58} {case.ratio:8.3f} x {case.peer_name} ({case.better} is better)", flush=True)
        except RuntimeError as error:  # the other parts are measured all the same
            failed = True
            print(f"  FAILED: {error}", flush=True)
        print(f"  took {time.monotonic() - began:.0f} s", flush=True)
    from tests.bench.plots import draw

    draw(report.entries, chosen.out.parent)
    print(f"bench: {len(found)} cases in {chosen.out}, plots beside it")
    lacking = list(missed(found, modules, whole=not chosen.quick))
    for what in lacking:
        print(f"bench: promised, not kept: {what}")
    return 0 if found and not lacking and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
