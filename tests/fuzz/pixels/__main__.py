# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.fuzz.pixels [--count N] [--first SEED]``: the long form of test_pixels_fuzz."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator

from tests.fuzz.pixels.build import VARIANTS, Lacking, build, extension, run
from tests.fuzz.pixels.sanitized import PLANTED, Found, planted, run_calls

CALLS = 20
"""Calls from Python for each case of the C program: they are smaller."""
ENOUGH = 2000
"""Calls within which each planted bug must be found."""


def kernels(first: int, count: int) -> Iterator[str]:
    """exercise.c in every variant; all but the sanitized one must agree (the sanitized one decodes JPEG, too)."""
    sums: dict[str, str] = {}
    for variant in VARIANTS.values():
        try:
            sums[variant.name] = run(variant, build(variant), first, count)
            yield f"{variant.name}: {count} cases, checksum {sums[variant.name]}"
        except Lacking as lacking:
            yield f"{variant.name}: skipped, {lacking} is not installed"
    if len({value for name, value in sums.items() if name != "sanitized"}) > 1:
        raise Found("processors differ")


def calls(first: int, count: int) -> Iterator[str]:
    """The extension from Python, and then with bugs planted, which must be found."""
    yield f"calls: {run_calls(extension(), first, count)}"
    for patch in PLANTED:
        library = planted(patch)
        try:
            run_calls(library, 1, ENOUGH)
        except Found as found:
            yield f"{patch.stem}: found {str(found).splitlines()[0]}"
        else:
            raise Found(f"{patch.stem}: the planted bug was not found")


def main() -> int:
    """1 when something was found that was not planted, or a planted bug was not."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.pixels", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help=f"cases per variant, and calls by {CALLS}")
    parser.add_argument("--first", type=int, default=1, help="first seed")
    chosen = parser.parse_args()
    try:
        for line in kernels(chosen.first, chosen.count):
            print(line, flush=True)
        for line in calls(chosen.first, CALLS * chosen.count):
            print(line, flush=True)
    except Lacking as lacking:
        print(f"calls: skipped, {lacking} is not installed")
    except Found as found:
        print(found, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{error}\n{error.stderr}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
