# SPDX-License-Identifier: GPL-2.0-or-later
"""Stock: the long stress and v4l2-compliance on Debian's own kernel in the VM lab, with two CPUs."""

from pathlib import Path

from tests.kernel import compliance
from tests.kernel.compliance import Verdict
from tests.kernel.tap import Tap
from tests.vm import lab

SCENARIO = "tests/vm/scenarios/test_kernel_stress.py"
DEADLINE_S = 4 * 3600.0


def check(tap: Tap, out: Path) -> dict[str, Verdict]:
    """Run it in a machine of its own: compliance mode and kernel -> verdict. What it left is in `out`."""
    verdicts = {}
    with lab.machine(lab.Wish(start=False), name="kernel-test") as machine:
        release = machine.output(["uname", "-r"]).strip()
        argv = lab.pytest(machine, [SCENARIO])
        result = lab.run(machine, argv, out=out, env={"MAGLENS_LONG": "1"}, deadline_s=DEADLINE_S)
    for tap_file in out.glob("test_stress*/stress.tap"):
        tap.take(f"stock {release} stress", tap_file.read_text())
    for mode in compliance.MODES:
        verdict = compliance.read(out / f"test_compliance[{mode}]", mode)
        tap.check(verdict.as_expected(mode), f"stock {release}: v4l2-compliance, {mode}: {verdict.counts}")
        verdicts[f"{mode}, {release} stock"] = verdict
    tap.check(result.ok, f"stock {release}: {result.summary}")
    tap.note("\n".join(result.kernel_trouble))
    return verdicts
