# SPDX-License-Identifier: GPL-2.0-or-later
"""Random switches between cameras of every kind under an app that reads; what maglensd holds before and after.

    python -m tests.soak --part switches

A switch makes another camera play, in one of the ways there are: the module is snapped on or pulled, the webcam
plugged in, pulled or left without its driver, libcamera's process killed, or a person chooses. Each is waited for.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from maglens_daemon.director import STREAM_TRIES, STREAM_WINDOW_S
from tests.soak import holdings
from tests.soak.guest import PSS_MIB
from tests.vm.guest.recorder import Recording
from tests.vm.guest.troupe import BUILT_IN, MODULE, WEBCAM, Troupe

SETTLED_AFTER = 150  # switches: every kind of them has come several times, and Python's memory grows no more
EVERY = 30
CONFIG = "[node]\nwidth = 640\nheight = 480\nrate = 15\n[policy]\ndwell_ms = 0\n"


class Stay:
    """Who is there and who plays, as the daemon should have it."""

    def __init__(self, troupe: Troupe, dice: random.Random) -> None:
        self._troupe = troupe
        self._dice = dice
        self._arrived: list[str] = []  # the last one plays
        self._chosen = ""
        self.done: Counter[str] = Counter()
        self._killed = deque([-STREAM_WINDOW_S] * (STREAM_TRIES - 2))  # when; one that ends more often is refused

    @property
    def playing(self) -> str:
        """Who plays now."""
        return self._chosen or (self._arrived[-1] if self._arrived else BUILT_IN)

    def switch(self) -> None:
        """One of those that change what plays, and wait until it has."""
        name, act = self._dice.choice(self._ways())
        before = self.playing
        self._troupe.log.skip()  # one that has failed and begun anew meanwhile has said that it plays, too
        act()
        self.done[name] += 1
        if self.playing != before or name == "kill":
            self._troupe.plays(self.playing)

    def rest(self) -> None:
        """The built-in camera alone, for measuring."""
        before = self.playing
        self._troupe.log.skip()
        self._choose("")
        if self.playing != before:
            self._troupe.plays(self.playing)
        for who in (MODULE, WEBCAM):
            if who in self._arrived:
                before = self.playing
                self._troupe.log.skip()
                self._leave(who, self._troupe.sim.detach if who == MODULE else self._troupe.unplug)
                if self.playing != before:
                    self._troupe.plays(self.playing)

    def _ways(self) -> list[tuple[str, Callable[[], None]]]:
        troupe = self._troupe
        ways: list[tuple[str, Callable[[], None]]] = []
        if self._chosen:
            return [("auto", lambda: self._choose(""))]
        if MODULE not in self._arrived:
            ways.append(("attach", lambda: self._arrive(MODULE, troupe.sim.attach)))
        elif self.playing == MODULE:
            ways.append(("detach", lambda: self._leave(MODULE, troupe.sim.detach)))
        if WEBCAM not in self._arrived:
            ways.append(("plug", lambda: self._arrive(WEBCAM, troupe.plug)))
        elif self.playing == WEBCAM:
            ways.append(("unplug", lambda: self._leave(WEBCAM, troupe.unplug)))
            ways.append(("unbind", lambda: self._leave(WEBCAM, self._unbind)))
        if self.playing == BUILT_IN and time.monotonic() - self._killed[0] > STREAM_WINDOW_S:
            ways.append(("kill", self._kill))
        others = [who for who in (BUILT_IN, *self._arrived) if who != self.playing]
        if others:
            ways.append(("use", lambda: self._choose(self._dice.choice(others))))
        return ways

    def _arrive(self, who: str, act: Callable[[], object]) -> None:
        act()
        self._arrived.append(who)

    def _leave(self, who: str, act: Callable[[], object]) -> None:
        here = self._troupe.log.place
        act()
        self._arrived.remove(who)
        self._troupe.log.wait_for(f"{who}.*: removed")
        self._troupe.log.place = here  # the next one may have begun before that

    def _kill(self) -> None:
        try:
            pid = self._troupe.child_pid()
        except LookupError:  # it has ended by itself just now, and the camera begins anew
            self._troupe.plays(BUILT_IN)
            pid = self._troupe.child_pid()
        os.kill(pid, signal.SIGKILL)
        self._killed.popleft()
        self._killed.append(time.monotonic())

    def _unbind(self) -> None:
        self._troupe.unbind()
        self._troupe.unplug()

    def _choose(self, who: str) -> None:
        if who != self._chosen:
            keys = {module["identity"]: module for module in self._troupe.status()["modules"]}
            wanted = {BUILT_IN: "lab0", MODULE: MODULE, WEBCAM: WEBCAM}.get(who, "auto")
            key = next((key for key in keys if wanted in key), "auto")
            self._troupe.maglens("use", key)
            self._chosen = who


def main() -> int:
    """Exit status 1 if anything grew, or an app had an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--switches", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/soak")))
    options = parser.parse_args()
    if options.switches <= SETTLED_AFTER:
        parser.error(f"more than {SETTLED_AFTER} switches, please")
    options.out.mkdir(parents=True, exist_ok=True)
    nowhere = options.out / "switches.nut"
    nowhere.unlink(missing_ok=True)
    nowhere.symlink_to("/dev/null")
    seen = []
    with Troupe(CONFIG) as troupe:
        node = troupe.status()["node"]["path"]
        stay = Stay(troupe, random.Random(options.seed))
        with Recording(node, nowhere, ["-input_format", "nv12", "-video_size", "640x480"]) as app:
            troupe.plays(BUILT_IN)
            for number in range(1, options.switches + 1):
                try:
                    stay.switch()
                except LookupError:
                    print("\n".join(troupe.log.lines[-40:]), flush=True)
                    raise
                app.wait_more(2, 60)
                if number % EVERY == 0 or number == options.switches:
                    stay.rest()
                    app.wait_more(15, 60)
                    held = asdict(holdings.of(troupe.daemon.pid))
                    print(f"soak: {number} of {options.switches} switches, {held}", flush=True)
                    files = holdings.files(troupe.daemon.pid)
                    kinds = Counter(re.sub("[0-9]+", "N", file) for file in files)
                    print(f"soak: {sorted(kinds.items())}", flush=True)
                    seen.append({"switch": number, **held, "files": sorted(files)})
                    if number == SETTLED_AFTER:
                        settled = holdings.of(troupe.daemon.pid)
            last = holdings.of(troupe.daemon.pid)
        errors = app.errors()
    nowhere.unlink()
    grown = last.grown(settled, PSS_MIB) + errors
    report = {
        "switches": dict(stay.done),
        "settled": asdict(settled),
        "last": asdict(last),
        "grown": grown,
        "seen": seen,
    }
    (options.out / "switches.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"soak: {dict(stay.done)}", flush=True)
    for what in grown:
        print(f"soak: FAILED: {what}", flush=True)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
