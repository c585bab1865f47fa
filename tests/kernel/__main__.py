# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m tests.kernel`: maglens.ko on User Mode Linux, with sanitizers and without. TAP on standard output,
figures in build/kernel-test/report.json."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.kernel import compliance, headers, source, stock, uml, uml_guest
from tests.kernel.compliance import Verdict
from tests.kernel.guest import Boot, boot
from tests.kernel.tap import Tap
from tests.kernel.uml import Uml
from tests.vm.progress import LabError, say

REPO = Path(__file__).parents[2]
WORK = REPO / "build/kernel-test"
PROGRAMS = Path(__file__).parent / "programs"
FUZZ = REPO / "tests/fuzz/kernel"
PLANTED = FUZZ / "planted.patch"
PLANTED_S = 60
"""Within this time the fuzzer must find the planted bug."""

COST_RATIO = 1.5
"""A 1080p SUBMIT to one reader, less a 64-byte one, over a memcpy of the frame: at most this."""

BOOT_S = 60
"""What a boot, the end of one and its search for leaks may take on a busy machine."""

SCENARIOS_S = 180.0
"""For the scenarios of the plain kernel, boot included."""

CHECKS = ("style", "headers", "promises", "stress", "compliance", "fuzz", "planted", "cost", "guest", "stock")
LONG_ONLY = {"stock"}
ON_SANITIZED = {"promises", "stress", "compliance", "fuzz", "planted"}


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to try."""

    kills: int
    cycles: int
    fuzz_s: int


SHORT = Effort(kills=10, cycles=500, fuzz_s=60)
LONG = Effort(kills=50, cycles=10_000, fuzz_s=600)


@dataclass(slots=True)
class Run:
    """One invocation: where its kernels come from, what it has found."""

    tap: Tap
    debian: Path
    effort: Effort
    seed: int
    report: dict[str, object]

    def boot(self, name: str, kernel: Uml, script: str, limit_s: float, patch: Path | None = None) -> Boot:
        """Boot in a fresh directory with the module, loaded, and the programs; account for what the kernel said."""
        where = WORK / name
        shutil.rmtree(where, ignore_errors=True)
        shutil.copytree(WORK / "bin", where / "bin")
        for directory in ("corpus", "found"):
            (where / directory).mkdir()
        for path in (FUZZ / "corpus").glob("*"):
            shutil.copy(path, where / "corpus")
        uml.module(kernel, where / "module", patch)
        say(f"booting {kernel.version} for {name}, at most {limit_s:.0f} s")
        done = boot(kernel, self.debian, where, f"insmod /mnt/module/maglens.ko\n{script}", limit_s + BOOT_S)
        if patch is None:
            self.tap.check(done.finished, f"{name}: the guest came to its end (see {where.relative_to(REPO)}/out)")
            self.tap.check(not done.complaints, f"{name}: the kernel had nothing to complain about")
            self.tap.note("\n".join(done.complaints))
            self._account(kernel, done)
        return done

    def verdicts(self, found: dict[str, Verdict]) -> None:
        """Put verdicts of v4l2-compliance, by mode and kernel, into the report."""
        table = self.report["v4l2_compliance"]
        assert isinstance(table, dict)
        table.update({key: asdict(verdict) for key, verdict in found.items()})

    def tries(self, kind: str, text: str) -> None:
        """Put into the report how many tries each promise took that a busy machine may fail: the best one counts."""
        table = self.report["tries"]
        assert isinstance(table, dict)
        found = re.findall(r"^(?:not )?ok \d+ - ([^:]+): .* try (\d+)$", text, re.M)
        table.update({f"{name}, {kind}": int(tries) for name, tries in found})

    def _account(self, kernel: Uml, done: Boot) -> None:
        reports = self.report["sanitizer_reports"]
        assert isinstance(reports, int)
        self.report["sanitizer_reports"] = reports + len(done.complaints)
        if kernel.sanitized:
            leaks = self.report["leaks"]
            assert isinstance(leaks, int)
            self.report["leaks"] = leaks + done.leaks
            self.tap.check(not done.leaks, f"kmemleak: {done.leaks} leaks")


def programs() -> None:
    """Build the test programs into WORK/bin."""
    where = WORK / "bin"
    lib = PROGRAMS / "lib.c"
    uml.program("init", [PROGRAMS / "init.c"], where)
    for name in ("backend", "stress", "cost"):
        uml.program(name, [lib, PROGRAMS / f"{name}.c"], where)
    uml.program("behave", [lib, *sorted(PROGRAMS.glob("behave*.c"))], where)
    uml.program("fuzz", sorted(FUZZ.glob("*.c")), where)


def check_module(run: Run, kernel: Uml, wanted: set[str]) -> None:
    """Promises, stress and compliance, in one boot; the module is removed at the end."""
    kind = "sanitized" if kernel.sanitized else "plain"
    script = ""
    if "promises" in wanted:
        script += "/mnt/bin/behave > /mnt/out/behave.tap 2>&1\n"
    if "stress" in wanted:
        effort = run.effort
        script += f"/mnt/bin/stress {run.seed} {effort.kills} {effort.cycles} > /mnt/out/stress.tap 2>&1\n"
    if "compliance" in wanted:
        script += "".join(compliance.script(mode) for mode in compliance.MODES)
    script += "rmmod maglens && touch /mnt/out/removed\n"
    limit = 240 + run.effort.kills + run.effort.cycles / 10
    done = run.boot(kind, kernel, script, limit)
    for name in ("behave", "stress"):
        if {"behave": "promises", "stress": "stress"}[name] in wanted:
            run.tap.take(f"{kind} {name}", done.text(f"{name}.tap"))
            run.tries(kind, done.text(f"{name}.tap"))
    run.tap.check((done.out / "removed").exists(), f"{kind}: the module can be removed when all is closed")
    if "compliance" in wanted:
        version = re.match(r"v4l2-compliance (\S+),", done.text("v4l-utils"))
        run.report["v4l_utils_version"] = version[1] if version else "unknown"
        for mode in compliance.MODES:
            verdict = compliance.read(done.out, mode)
            run.tap.check(verdict.as_expected(mode), f"{kind}: v4l2-compliance, {mode}: {verdict.counts}")
            run.tap.note("\n".join((*verdict.failures, *verdict.warns)))
            run.verdicts({f"{mode}, {kernel.version} {kind}": verdict})


def fuzz_script(seconds: int, seed: int) -> str:
    """Shell lines that run the fuzzer and leave its output and its exit status."""
    return f"/mnt/bin/fuzz /mnt/corpus /mnt/found {seconds} {seed} > /mnt/out/fuzz.log 2>&1\necho $? > /mnt/out/rc\n"


def check_fuzz(run: Run, kernel: Uml) -> None:
    """The fuzzer finds nothing. What it has learned is in WORK/fuzz/found, for the corpus."""
    seconds = run.effort.fuzz_s
    done = run.boot("fuzz", kernel, fuzz_script(seconds, run.seed), seconds)
    log = done.text("fuzz.log")
    run.tap.note(log.splitlines()[-1].removeprefix("# ") if log else "no output")
    run.tap.check(done.text("rc").strip() == "0", f"fuzz: nothing found in {seconds} s")
    end = re.search(r"# end: (\d+) inputs, (\d+) new, (\d+) points", log)
    run.report["fuzz"] = {
        "seconds": seconds,
        "seed": run.seed,
        "inputs": int(end[1]) if end else 0,
        "new": int(end[2]) if end else 0,
        "points_reached": int(end[3]) if end else 0,
    }


def check_planted(run: Run, kernel: Uml) -> None:
    """The fuzzer finds a bug that was put there."""
    done = run.boot("planted", kernel, fuzz_script(PLANTED_S, run.seed), PLANTED_S, PLANTED)
    found = re.search(r"FOUND after ([\d.]+) s", done.text("fuzz.log"))
    seconds = float(found[1]) if found else None
    # A kernel that died of it has no exit status to give; its last words are on the console.
    ok = done.text("rc").strip() == "3" or (not done.finished and bool(done.complaints))
    run.tap.check(ok, f"fuzz: finds the planted bug within {PLANTED_S} s ({seconds} s)")
    run.tap.note("\n".join(done.complaints[:1]))
    run.report["planted_bug_found_s"] = seconds


def check_cost(run: Run, kernel: Uml) -> None:
    """What a SUBMIT costs, as a ratio within one run."""
    done = run.boot("cost", kernel, "/mnt/bin/cost > /mnt/out/cost.json\n", BOOT_S)
    text = done.text("cost.json")
    figures = json.loads(text) if text.startswith("{") else {"ratio": None}
    ratio = figures["ratio"]
    ok = ratio is not None and ratio <= COST_RATIO
    run.tap.check(ok, f"cost: a 1080p SUBMIT less a 64-byte one is {ratio} of a memcpy")
    run.report["submit_cost"] = figures


def check_style(run: Run) -> None:
    """checkpatch, sparse and the layouts of the ABI. A skip is a failure here: all it needs has been built."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/kernel/test_style.py"]
    done = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = done.stdout.splitlines() or ["no output"]
    ok = done.returncode == 0 and "skipped" not in lines[-1]
    if not run.tap.check(ok, f"style: {lines[-1].strip('= ')}"):
        run.tap.note(done.stdout)


def check_guest(run: Run, kernel_src: Path | None) -> None:
    """The scenarios of the plain kernel, as udev, the project's Python and its programs see it. Those that it has no
    means for say so by a skip, with the reason."""
    log = bytearray()
    argv = ["python3", "-m", "pytest", "-v", "tests/kernel/scenarios"]
    done = uml_guest.run(argv, log.extend, name="scenarios", deadline_s=SCENARIOS_S, kernel_src=kernel_src)
    text = log.decode(errors="replace")
    for name, verdict in re.findall(r"^\S+::(\S+) (PASSED|FAILED|ERROR|SKIPPED)", text, re.M):
        skipped = verdict == "SKIPPED"
        run.tap.check(skipped or verdict == "PASSED", f"guest: {name.replace('_', ' ')}", skipped)
    if not run.tap.check(done.ok, f"guest: all of them, status {done.status}, and the kernel content"):
        run.tap.note("\n".join([*text.splitlines()[-80:], *done.complaints]))


def main() -> int:
    """Run what was asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernel", description=__doc__)
    parser.add_argument("--kernel-src", type=Path, metavar="PATH", help="a kernel source tree; else Debian's")
    parser.add_argument(
        "--long", action="store_true", help="50 kills, 10000 cycles, ten minutes of fuzzing; the VM too"
    )
    parser.add_argument("--seed", type=int, default=1, help="of every random choice")
    parser.add_argument("--only", action="append", choices=CHECKS, help="may be given several times")
    parser.add_argument("--plain-too", action="store_true", help="without sanitizers as well")
    args = parser.parse_args()
    wanted = set(args.only or CHECKS) - (set() if args.long or args.only else LONG_ONLY)
    uml.need_tools()
    tree = source.given(args.kernel_src) if args.kernel_src else source.debian()
    report: dict[str, object] = {
        "kernel": tree.version,
        "seed": args.seed,
        "v4l2_compliance": {},
        "tries": {},
        "v4l_utils_version": None,
        "sanitizer_reports": 0,
        "leaks": 0,
    }
    run = Run(Tap(), source.root(), LONG if args.long else SHORT, args.seed, report)
    programs()
    parts = wanted & {"promises", "stress", "compliance"}
    if "headers" in wanted:
        report["headers"] = headers.check(run.tap)
    if wanted & (ON_SANITIZED | {"style"}):
        kernel = uml.kernel(tree, sanitized=True)
        if "style" in wanted:
            check_style(run)
        if parts:
            check_module(run, kernel, parts)
        if "fuzz" in wanted:
            check_fuzz(run, kernel)
        if "planted" in wanted:
            check_planted(run, kernel)
    if "cost" in wanted or (parts and args.plain_too):
        kernel = uml.kernel(tree, sanitized=False)
        if parts and args.plain_too:
            check_module(run, kernel, parts)
        if "cost" in wanted:
            check_cost(run, kernel)
    if "guest" in wanted:
        check_guest(run, args.kernel_src)
    if "stock" in wanted:
        run.verdicts(stock.check(run.tap, WORK / "stock"))
    status = run.tap.end()
    report["passed"] = status == 0
    (WORK / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"Bail out! {error}{f' (try: {error.hint})' if error.hint else ''}", flush=True)
        sys.exit(2)
