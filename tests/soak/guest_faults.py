# SPDX-License-Identifier: GPL-2.0-or-later
"""Random attach, fault and detach cycles with virtual modules on a real kernel, under an app that reads.

    python -m tests.kernel.uml_guest --deadline 3000 -- python3 -m tests.soak.guest_faults --cycles 500

A cycle is drawn from the seed and its number alone: ``--first N --cycles 1`` plays one again. A second module stays
on its port all the while and must not notice. After every cycle the port has to be empty; every tenth has no fault.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

from maglens_daemon.status import ModuleStatus, Status
from maglens_driver.errors import MaglensError
from maglens_driver.gadget.faults import Fault
from tests.demo.guest import hold, hold_until, streaming
from tests.soak import holdings
from tests.soak.guest import PSS_MIB
from tests.soak.world import World, world
from tests.vm.guest.recorder import Recording

SETTLED_AFTER: Final = 20  # cycles
WELL_EVERY: Final = 10  # a cycle without a fault
FRAMES_WELL: Final = 5
SICK, HEALTHY = "SIM-35mm", "SIM-73mm"
BUDGET_MW: Final = 4500
CONFIG: Final = f"""
[node]
width = 640
height = 480
rate = 15
[power]
budget_mw = {BUDGET_MW}
[cameras]
auto = false
libcamera = false
[policy]
dwell_ms = 0
[[policy.rule]]
identity = "*/{HEALTHY}"
use = "never"
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """One cycle: which fault (None: none), asked for before the attach or some frames after it, so many times; how
    many frames the app reads from then on."""

    fault: Fault | None
    before: bool
    count: int
    frames_on: int
    frames_after: int

    def __str__(self) -> str:
        if self.fault is None:
            return "well"
        return f"{self.count} x {self.fault.value} {'before' if self.before else 'after'} attach"


def scene(seed: int, number: int) -> Scene:
    """Cycle ``number`` of a seed."""
    dice = Random(f"{seed}/{number}")
    fault = dice.choice(tuple(Fault)) if number % WELL_EVERY else None
    before = dice.random() < 0.5 or fault is Fault.STRANGER
    return Scene(fault, before, dice.randrange(1, 4), dice.randrange(1, 20), dice.randrange(1, 20))


class Soak:
    """The cycles under one app."""

    def __init__(self, made: World, app: Recording) -> None:
        self.failures: list[str] = []
        self.ends: Counter[str] = Counter()  # state and cause in which a module was lifted off
        self.most_mw = 0
        self._world = made
        self._app = app
        self._sick, self._healthy = made.sims

    def begin(self) -> None:
        """The healthy module comes, and stays."""
        self._healthy.attach()
        hold_until(self._app, lambda: self._module(HEALTHY, self._look()) is not None)
        hold_until(self._app, lambda: self._state(HEALTHY) in ("ready", "standby"))
        self._session = self._healthy_now(self._look())

    def cycle(self, number: int, what: Scene) -> str:
        """One; what was seen, in words."""
        sick, app = self._sick, self._app
        if what.fault is not None and what.before:
            sick.fault(what.fault.value, count=what.count)
        sick.attach()
        if what.fault is None:
            hold_until(app, lambda: streaming(sick, FRAMES_WELL))
        hold(app, what.frames_on)
        met = self._state(SICK)
        if what.fault is not None and not what.before:
            sick.fault(what.fault.value, count=what.count)
            hold(app, what.frames_after)
        now = self._look()
        module = self._module(SICK, now)
        end = "absent" if module is None else f"{module['state']} {module['cause']}".strip()
        self.ends[end] += 1
        sick.clear()
        sick.detach()
        hold_until(app, lambda: self._module(SICK, self._look()) is None)
        if self._healthy_now(self._look()) != self._session:
            self.failures.append(f"cycle {number}: the healthy module is {self._healthy_now(self._look())}")
        return f"{number}: {what}: {met}, {end}"

    def _look(self) -> Status:
        now = self._world.status()
        granted = now["power"]["granted_mw"]
        self.most_mw = max(self.most_mw, granted)
        if granted > BUDGET_MW:
            self.failures.append(f"{granted} mW are promised, of {BUDGET_MW}")
        return now

    @staticmethod
    def _module(serial: str, now: Status) -> ModuleStatus | None:
        """Where its descriptor could not be read it has no serial number: then by what the healthy one is not."""
        others = [m for m in now["modules"] if m["serial"] != HEALTHY]
        if serial == HEALTHY:
            return next((m for m in now["modules"] if m["serial"] == HEALTHY), None)
        return others[0] if others else None

    def _state(self, serial: str) -> str:
        module = self._module(serial, self._look())
        return module["state"] if module is not None else "absent"

    def _healthy_now(self, now: Status) -> tuple[str, bool]:
        module = self._module(HEALTHY, now)
        return ("gone", False) if module is None else (module["port"], module["contract"] is not None)


def main() -> int:
    """Exit status 1 where the app had an error, a port stayed in use, power was short of what was promised, the
    healthy module noticed, the daemon was restarted, or anything grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, metavar="N", help="begin with this cycle")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/soak")))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    nowhere = options.out / "faults.nut"
    nowhere.unlink(missing_ok=True)
    nowhere.symlink_to("/dev/null")
    story: list[str] = []
    seen: list[holdings.Holdings] = []
    began = time.monotonic()
    with world(CONFIG, ("35mm", "73mm")) as made:
        with Recording(made.node(), nowhere) as app:
            app.wait_frames(1, 60)
            soak = Soak(made, app)
            soak.begin()
            files = holdings.files(made.pid)
            for number in range(options.first, options.first + options.cycles):
                what = scene(options.seed, number)
                try:
                    story.append(soak.cycle(number, what))
                except (MaglensError, TimeoutError, AssertionError) as why:
                    soak.failures.append(f"cycle {number}, {what}: {why}\n{made.status()}\n{made.tail()}")
                    break
                before, files = files, holdings.files(made.pid)
                if new := sorted(files - before):
                    print(f"soak: {story[-1]}: now open as well: {', '.join(new)}", flush=True)
                if len(story) % SETTLED_AFTER == 0:
                    seen.append(holdings.of(made.pid))
                    print(f"soak: {number} cycles, {time.monotonic() - began:.0f} s, {seen[-1]}", flush=True)
                    made.tail()
            frames = app.frames
            if not made.same():
                soak.failures.append("the daemon was restarted")
        soak.failures += app.errors()
        if seen:
            soak.failures += seen[-1].grown(seen[0], math.inf)
        if creep := holdings.crept([held.pss_kib for held in seen], PSS_MIB):
            soak.failures.append(creep)
    nowhere.unlink()
    report = {
        "seed": options.seed,
        "cycles": len(story),
        "took_s": round(time.monotonic() - began),
        "frames": frames,
        "ends": dict(soak.ends),
        "most_mw": soak.most_mw,
        "budget_mw": BUDGET_MW,
        "seen": [asdict(held) for held in seen],
        "failures": soak.failures,
        "story": story,
    }
    (options.out / "faults-vm.json").write_text(json.dumps(report, indent=1) + "\n")
    for text in soak.failures:
        print(f"soak: FAILED: seed {options.seed}: {text}", flush=True)
    print(f"soak: {len(story)} fault cycles in {report['took_s']} s: {dict(soak.ends)}", flush=True)
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
