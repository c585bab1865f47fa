# SPDX-License-Identifier: GPL-2.0-or-later
"""``make soak``: the long runs, into ``build/soak/report.json``.

The 500 fault cycles run twice: in the virtual machine, with systemd and the stock kernel around them, where an
emulated processor leaves many modules no time to get far; and on User Mode Linux, whose kernel is real as well and
has native speed, so that faults meet every state. There, too, cameras of every kind take turns before an app.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tests.kernel import uml_guest
from tests.vm import lab

OUT = Path("build/soak")
SECONDS_PER_CYCLE = 10.0
SECONDS_AROUND = 300.0
UML_SECONDS_PER_STEP = 5.0
RAW_FRAMES = 10_000
RAW_SETTLE = 20_000  # before: the clock keeps its samples of half a minute, the interpreter some spare tuples
RAW_RATE = 400  # frames/s
RAW_NOISE = 3.0  # memory may seem to grow by so many times its own noise ...
RAW_KIB = 4.0  # ... and a page, by which it is counted
RAW_BLOCKS = 200  # that Python may have more at the end than at the beginning: a fiftieth of one per frame
PARTS = ("raw", "cycles", "faults", "faults-uml", "switches")
WRITTEN = {"guest": "cycles.json", "guest_faults": "faults-vm.json", "switches": "switches.json"}


def raw_path() -> dict[str, object]:
    """Memory over many raw frames, here, with a module and a node in memory."""
    wish = {"--frames": RAW_FRAMES, "--settle": RAW_SETTLE, "--rate": RAW_RATE}
    words = [word for option, value in wish.items() for word in (option, str(value))]
    run = subprocess.run([sys.executable, "-m", "tests.tools.raw_path", *words], check=True, stdout=subprocess.PIPE)
    found = json.loads(run.stdout)
    first, last = found["python_blocks"]
    steady = last - first < RAW_BLOCKS
    found["passed"] = steady and found["pss_grown_kib"] < RAW_NOISE * found["pss_noise_kib"] + RAW_KIB
    return dict(found)


def in_vm(module: str, cycles: int, *more: str) -> tuple[lab.Result, dict[str, object] | None]:
    """One part in a machine of its own; what it wrote there."""
    out = OUT / module
    with lab.machine(lab.Wish()) as machine:
        command = [lab.python(machine), "-m", f"tests.soak.{module}", "--out", "/out", "--cycles", str(cycles), *more]
        limit = SECONDS_AROUND + SECONDS_PER_CYCLE * cycles
        result = lab.run(machine, command, out=out, deadline_s=limit)
    found = out / WRITTEN[module]
    return result, json.loads(found.read_text()) if found.exists() else None


def in_uml(module: str, *words: str, limit_s: float) -> tuple[uml_guest.Result, dict[str, object] | None]:
    """One part at native speed; what it wrote there."""
    command = ["python3", "-m", f"tests.soak.{module}", *words]

    def pass_on(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    result = uml_guest.run(command, pass_on, name=f"soak-{module}", deadline_s=limit_s)
    found = result.out / WRITTEN[module]
    return result, json.loads(found.read_text()) if found.exists() else None


def main() -> int:
    """Exit status 1 if any run found a leak."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be given several times")
    parser.add_argument("--cycles", type=int, default=200, help="attach and detach cycles in the virtual machine")
    parser.add_argument("--faults", type=int, default=500, help="random fault cycles in the virtual machine")
    parser.add_argument("--faults-uml", type=int, default=500, help="random fault cycles in User Mode Linux")
    parser.add_argument("--switches", type=int, default=300, help="switches between cameras in User Mode Linux")
    parser.add_argument("--seed", type=int, default=1, help="of the faults and switches")
    options = parser.parse_args()
    parts = options.part or PARTS
    OUT.mkdir(parents=True, exist_ok=True)
    report: dict[str, object] = {}
    trouble: list[str] = []
    passed = True
    if "raw" in parts:
        report["raw_path"] = raw = raw_path()
        print(f"soak: {RAW_FRAMES} raw frames: {raw}", flush=True)
        passed = bool(raw["passed"])
    for part, module, cycles, more in (
        ("cycles", "guest", options.cycles, ()),
        ("faults", "guest_faults", options.faults, ("--seed", str(options.seed))),
    ):
        if part in parts:
            result, report[part] = in_vm(module, cycles, *more)
            trouble += result.kernel_trouble
            passed = passed and result.ok
    for part, module, count, words in (
        ("faults-uml", "guest_faults", options.faults_uml, ("--cycles", str(options.faults_uml))),
        ("switches", "switches", options.switches, ("--switches", str(options.switches))),
    ):
        if part in parts:
            limit = SECONDS_AROUND + UML_SECONDS_PER_STEP * count
            quick, report[part] = in_uml(module, *words, "--seed", str(options.seed), limit_s=limit)
            trouble += quick.complaints
            passed = passed and quick.ok
    report |= {"kernel_trouble": trouble, "passed": passed}
    (OUT / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"soak: {'passed' if passed else 'FAILED'}; see {OUT}/report.json")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
