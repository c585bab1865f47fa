# SPDX-License-Identifier: GPL-2.0-or-later
"""``make soak``: the long runs, into ``build/soak/report.json``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.vm import lab

OUT = Path("build/soak")
SECONDS_PER_CYCLE = 10.0
SECONDS_AROUND = 300.0


def main() -> int:
    """Exit status 1 if any run found a leak."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--cycles", type=int, default=200, help="attach and detach cycles in the virtual machine")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    with lab.machine(lab.Wish()) as machine:
        run = [lab.python(machine), "-m", "tests.soak.guest", "--out", "/out", "--cycles", str(options.cycles)]
        limit = SECONDS_AROUND + SECONDS_PER_CYCLE * options.cycles
        result = lab.run(machine, run, out=OUT / "vm", deadline_s=limit)
    found = OUT / "vm" / "cycles.json"
    report = {
        "attach_detach": json.loads(found.read_text()) if found.exists() else None,
        "kernel_trouble": list(result.kernel_trouble),
        "passed": result.ok,
    }
    (OUT / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"soak: {'passed' if result.ok else 'FAILED'}; see {OUT}/report.json")
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
