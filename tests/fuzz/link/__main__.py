# SPDX-License-Identifier: MIT
"""``python -m tests.fuzz.link [--seconds N] [--seed S] [--target NAME]``: ends at a surprise, with its seed."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.fuzz.link.targets import TARGETS

_ROUND = 100  # inputs between two looks at the clock


def main() -> int:
    """Fuzz for a time; 1 when something other than our own errors came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.link", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="first seed; each input has its own")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    seed = options.seed
    while time.monotonic() < until:
        for name in options.target or TARGETS:
            for one in range(seed, seed + _ROUND):
                try:
                    TARGETS[name](random.Random(one))
                except Exception as error:
                    print(f"{name}, seed {one}: {error!r}", file=sys.stderr)
                    raise
        seed += _ROUND
    print(f"{len(options.target or TARGETS)} targets, seeds {options.seed} to {seed - 1}: only our own errors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
