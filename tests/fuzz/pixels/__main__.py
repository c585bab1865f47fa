# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.fuzz.pixels [--count N] [--first SEED]``: the long form of test_pixels_fuzz."""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.fuzz.pixels.build import CACHE, VARIANTS, Lacking, build, run


def main() -> int:
    """Runs every variant; 1 when one fails or the plain one and aarch64 disagree."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.pixels", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="cases per variant")
    parser.add_argument("--first", type=int, default=1, help="first seed")
    chosen = parser.parse_args()
    sums: dict[str, str] = {}
    for variant in VARIANTS.values():
        try:
            sums[variant.name] = run(variant, build(variant, CACHE), chosen.first, chosen.count)
            print(f"{variant.name}: {chosen.count} cases, checksum {sums[variant.name]}", flush=True)
        except Lacking as lacking:
            print(f"{variant.name}: skipped, {lacking} is not installed", flush=True)
        except subprocess.CalledProcessError as error:
            print(f"{variant.name}: {error}\n{error.stderr}", file=sys.stderr)
            return 1
    plain = {name: value for name, value in sums.items() if name != "sanitized"}
    return 0 if len(set(plain.values())) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
