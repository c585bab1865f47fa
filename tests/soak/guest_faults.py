# SPDX-License-Identifier: GPL-2.0-or-later
"""Random attach, fault and detach cycles with virtual modules on a real kernel, under an app that reads."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Final

from maglens_driver.gadget.client import SimClient, start
from maglens_driver.gadget.faults import Fault
from maglens_driver.names import SERVICE_UNIT
from tests.demo.guest import hold, node_status
from tests.soak import holdings
from tests.soak.guest import PSS_MIB
from tests.vm.guest.devices import succeed
from tests.vm.guest.recorder import Recording

SETTLED_AFTER: Final = 20  # cycles
FRAMES_OFF: Final = 6
FAULTS: Final = tuple(f for f in Fault if f not in (Fault.STRANGER, Fault.HANG))


def main() -> int:
    """Exit status 1 where the app had an error, the daemon was restarted, or anything grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/soak")))
    options = parser.parse_args()
    chance = Random(options.seed)
    start("35mm")
    succeed("systemctl", "restart", SERVICE_UNIT)
    pid = int(succeed("systemctl", "show", "-P", "MainPID", SERVICE_UNIT))
    nowhere = options.out / "faults.nut"
    nowhere.unlink(missing_ok=True)
    nowhere.symlink_to("/dev/null")
    sim, story, settled = SimClient("35mm"), [], None
    with Recording(node_status()["path"], nowhere) as app:
        for number in range(1, options.cycles + 1):
            fault = chance.choice(FAULTS)
            before = chance.random() < 0.5
            story.append(f"{fault.value} {'before' if before else 'after'} attach")
            if before:
                sim.fault(fault.value)
            sim.attach()
            hold(app, chance.randrange(1, 20))
            if not before:
                sim.fault(fault.value)
                hold(app, chance.randrange(1, 20))
            sim.clear()
            sim.detach()
            hold(app, FRAMES_OFF)
            if number % SETTLED_AFTER == 0:
                print(f"soak: {number} of {options.cycles}, {holdings.of(pid)}", flush=True)
            if number == SETTLED_AFTER:
                settled = holdings.of(pid)
        last = holdings.of(pid)
    nowhere.unlink()
    same = pid == int(succeed("systemctl", "show", "-P", "MainPID", SERVICE_UNIT))
    grown = (last.grown(settled, PSS_MIB) if settled is not None else []) + app.errors()
    grown += [] if same else ["the daemon was restarted"]
    report = {
        "seed": options.seed,
        "cycles": options.cycles,
        "settled": asdict(settled) if settled is not None else None,
        "last": asdict(last),
        "grown": grown,
        "story": story,
        "at": time.time(),
    }
    (options.out / "faults-vm.json").write_text(json.dumps(report, indent=1) + "\n")
    for what in grown:
        print(f"soak: FAILED: seed {options.seed}: {what}", flush=True)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
