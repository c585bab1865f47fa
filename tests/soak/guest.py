# SPDX-License-Identifier: GPL-2.0-or-later
"""Attach and detach cycles under an app that reads, on a machine with systemd and dummy_hcd; what maglensd holds."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from maglens_driver.gadget.client import SimClient, start
from maglens_driver.names import SERVICE_UNIT
from tests.demo.guest import hold, hold_until, node_status, streaming
from tests.demo.stage import allow_for_emulation, resize
from tests.soak import holdings
from tests.vm.guest import idle
from tests.vm.guest.devices import succeed
from tests.vm.guest.journal import Journal
from tests.vm.guest.recorder import Recording

SETTLED_AFTER = 20  # cycles
PSS_MIB = 2.0
FRAMES_ON = 5
FRAMES_OFF = 12
EVERY = 20
IDLE_S = 60.0
SIZE = "640x480"  # what an emulated processor carries


def at_rest(app: Recording, pid: int) -> holdings.Holdings:
    """What the daemon holds once the last module has left for good."""
    hold_until(app, lambda: not json.loads(succeed("maglens", "status", "--json"))["modules"])
    hold(app, FRAMES_OFF)
    return holdings.of(pid)


def main() -> int:
    """Exit status 1 if anything grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/soak")))
    options = parser.parse_args()
    if options.cycles <= SETTLED_AFTER:
        parser.error(f"more than {SETTLED_AFTER} cycles, please")
    allow_for_emulation()
    start("35mm")
    resize(SIZE)
    succeed("systemctl", "start", SERVICE_UNIT)
    pid = int(succeed("systemctl", "show", "-P", "MainPID", SERVICE_UNIT))
    node = node_status()
    nowhere = options.out / "soak.nut"
    nowhere.unlink(missing_ok=True)
    nowhere.symlink_to("/dev/null")
    sim, seen = SimClient("35mm"), []
    with Recording(node["path"], nowhere) as app:
        for number in range(1, options.cycles + 1):
            sim.attach()
            hold_until(app, lambda: streaming(sim, FRAMES_ON))
            sim.detach()
            hold(app, FRAMES_OFF)
            if number % EVERY == 0 or number == options.cycles:
                last = at_rest(app, pid)
                seen.append({"cycle": number, **asdict(last)})
                print(f"soak: {number} of {options.cycles} cycles, {seen[-1]}", flush=True)
            if number == SETTLED_AFTER:
                settled = last
        with Journal(SERVICE_UNIT) as log:
            sim.attach()
            hold_until(app, lambda: streaming(sim, FRAMES_ON))
            app.stop()
            log.wait_for("rests")
    idling = idle.measure(pid, IDLE_S)
    nowhere.unlink()
    same = pid == int(succeed("systemctl", "show", "-P", "MainPID", SERVICE_UNIT))
    grown = last.grown(settled, PSS_MIB) + app.errors() + ([] if same else ["the daemon was restarted"])
    grown += [f"idle, nobody watching: {what}" for what in idling.over()]
    report = {
        "cycles": options.cycles,
        "settled": asdict(settled),
        "last": asdict(last),
        "idle": asdict(idling),
        "grown": grown,
        "seen": seen,
    }
    (options.out / "cycles.json").write_text(json.dumps(report, indent=1) + "\n")
    for what in grown:
        print(f"soak: FAILED: {what}", flush=True)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
