# SPDX-License-Identifier: GPL-2.0-or-later
"""Lab: from nothing to a machine with the project in it, a command run there, and its files out.

This is what the suite, the demo, the bench and the soak call:

    with lab.machine(lab.Wish()) as m:
        result = lab.run(m, ["python3", "-m", "..."], out=Path("build/demo"))
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from tests.vm import cache, channel, foreign, host, layer
from tests.vm import machine as machines
from tests.vm.accel import acceleration
from tests.vm.guest.kernel_log import trouble
from tests.vm.image import SOFTWARE_RENDERING, image
from tests.vm.machine import Machine, OwnKernel, guarded
from tests.vm.progress import LabError, elapsed, say, step

SOURCE = layer.SOURCE
"""Where the source tree is in the guest."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What machine is wanted.

    project: with the project installed; start: and its service enabled and started. kernel and modules: a
    kernel developer's own, instead of Debian's.
    """

    extra: tuple[str, ...] = ()
    project: bool = True
    start: bool = True
    kernel: Path | None = None
    modules: Path | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a run went: the command's status, and the lines of the kernel log that should not be there."""

    status: int
    kernel_trouble: tuple[str, ...]
    summary: str

    @property
    def ok(self) -> bool:
        """The command succeeded and the kernel has nothing to complain about."""
        return self.status == 0 and not self.kernel_trouble


def up(wish: Wish, name: str, *, outlive: bool) -> Machine:
    """Boot a machine with the project installed."""
    host.ensure()
    base = image(wish.extra)
    # The project is built while nothing else needs the processor: a build that fails costs no boot.
    archives = layer.archives(base, source_only=not wish.project)
    with tempfile.TemporaryDirectory(dir=cache.root(), prefix="foreign-") as scratch:
        own = None
        if wish.kernel is not None and wish.modules is not None:
            modules = foreign.modules_directory(wish.modules)
            own = OwnKernel(wish.kernel, modules, foreign.modules_disk(base, modules, Path(scratch)))
        plain = not SOFTWARE_RENDERING.isdisjoint(wish.extra)
        machine = machines.boot(base, name, acceleration(base), own=own, plain=plain, outlive=outlive)
    with guarded(machine):
        layer.push(machine, archives, start=wish.start)
    return machine


@contextlib.contextmanager
def machine(wish: Wish, *, name: str = "", keep: bool = False) -> Iterator[Machine]:
    """A machine for one run; it ends with the block (keep: it stays up under its name)."""
    made = up(wish, name or f"{machines.ONE_RUN}{os.getpid()}", outlive=keep)
    try:
        yield made
    finally:
        if keep:
            say(f"machine {made.name!r} stays up: python -m tests.vm sh --name {made.name}")
        else:
            made.kill()
            machines.discard(made)


def run(
    machine: Machine,
    argv: Sequence[str],
    *,
    out: Path,
    cwd: str = SOURCE,
    env: Mapping[str, str] | None = None,
    deadline_s: float | None = None,
) -> Result:
    """Run a command in the guest, its lines stamped with the elapsed time; then bring out what it left in /out.

    `out` also gets kernel.log (the whole ring buffer), journal.log and console.log. The command finds /out in $OUT.
    """
    out.mkdir(parents=True, exist_ok=True)
    stamp = _Stamper()
    machine.output(["find", "/out", "-mindepth", "1", "-not", "-name", "lost+found", "-delete"])
    try:
        status = machine.call(
            argv,
            cwd=cwd,
            env={"OUT": "/out", **(env or {})},
            stdout=stamp,
            stderr=stamp,
            deadline_s=deadline_s,
        )
    except LabError as error:
        stamp.close()
        say(f"{error}; the console ends with:")
        machine.show_tail()
        _rescue(machine, out)
        raise
    stamp.close()
    return Result(status, collect(machine, out), stamp.summary)


def collect(machine: Machine, out: Path) -> tuple[str, ...]:
    """Copy the guest's /out, its journal and the kernel's log to `out`; the log's lines that no run may have.

    The file system is frozen meanwhile, so it is whole even while something still writes to it.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "console.log").write_bytes((machine.run / "console.log").read_bytes())
    log = machine.output(["dmesg"], deadline_s=COLLECT_S)
    (out / "kernel.log").write_text(log)
    journal = ["journalctl", "-b", "--no-pager", "-o", "short-monotonic"]
    (out / "journal.log").write_text(machine.output(journal, deadline_s=COLLECT_S))
    machine.output(["fsfreeze", "-f", "/out"], deadline_s=COLLECT_S)
    try:
        with step(f"copying /out to {out}"):
            _dump(machine.out_disk, out)
    finally:
        machine.output(["fsfreeze", "-u", "/out"], deadline_s=COLLECT_S)
    bad = trouble(log.splitlines())
    for line in bad:
        say(f"kernel: {line}")
    return tuple(bad)


def _dump(disk: Path, out: Path) -> None:
    """Copy the files of an ext4 disk, replacing those of an earlier run."""
    with tempfile.TemporaryDirectory(dir=out, prefix=".partial-") as partial:
        said = host.quiet(["debugfs", "-R", f"rdump / {partial}", str(disk)]).splitlines()
        # debugfs exits with 0 whatever happens; all it says when all is well is its version.
        if errors := [line for line in said if not line.startswith("debugfs ")]:
            raise LabError(f"copying from {disk}: {errors[0]}")
        for path in Path(partial).iterdir():
            if path.name == "lost+found":
                continue
            target = out / path.name
            if target.is_dir():
                cache.remove(target)
            path.replace(target)


def _rescue(machine: Machine, out: Path) -> None:
    """After a hang: bring out what still can be, among it what the guest was doing."""
    (out / "console.log").write_bytes((machine.run / "console.log").read_bytes())
    try:
        print(machine.output(["ps", "-eo", "pid,stat,wchan:20,etime,args"], deadline_s=COLLECT_S), file=sys.stderr)
        collect(machine, out)
    except LabError as error:
        say(f"nothing more to be had from the guest: {error}")


def pull(machine: Machine, path: str, to: Path) -> None:
    """Copy a file or directory of the guest into a directory here, over the serial port (see collect for speed)."""
    to.mkdir(parents=True, exist_ok=True)
    parent, name = os.path.split(path.rstrip("/"))
    command = ["tar", "-x", "-C", str(to)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        status = machine.call(["tar", "-c", "-C", parent or "/", name], stdout=_into(process.stdin))
        process.stdin.close()
    if status or process.returncode:
        raise LabError(f"copying {path} failed")


def _into(stream: IO[bytes]) -> channel.Output:
    def write(data: bytes) -> None:
        stream.write(data)

    return write


def python(machine: Machine) -> str:
    """The Python that has the project: its own environment's, else the system's."""
    return machine.output(["sh", "-c", "ls /usr/lib/maglens/bin/python3 2>/dev/null || echo python3"]).strip()


def pytest(machine: Machine, arguments: Sequence[str]) -> list[str]:
    """The command that runs pytest in the guest on the installed project, not on its source tree."""
    return [
        python(machine), "-m", "pytest", "-v", "-o", "cache_dir=/tmp/pytest-cache", "-o", "pythonpath=.",
        "-o", "asyncio_default_fixture_loop_scope=function", f"--timeout={TEST_S}",
        f"--rootdir={SOURCE}", f"--junitxml=/out/{JUNIT}", *arguments,
    ]  # fmt: skip


def failed(out: Path) -> list[str]:
    """The names of the tests that failed, by the report that :func:`run` has brought out."""
    cases = ElementTree.parse(out / JUNIT).iter("testcase")
    return [
        str(case.get("name")) for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]


JUNIT = "junit.xml"

COLLECT_S = 60.0
"""Limit for each small command of the collection, in seconds."""

TEST_S = 180
"""Limit for one test, in seconds: pytest then shows where it hangs."""

SUMMARY = re.compile(rb"=+ .*\b(passed|failed|error|errors|skipped|no tests ran)\b.* =+")
"""pytest's last line."""

CommandFor = Callable[[Machine], list[str]]
"""Makes the command to run, once the machine is there."""


class _Stamper:
    """Passes guest output on to stdout; each line starts with the elapsed seconds, pytest's summary does not."""

    def __init__(self) -> None:
        self._fresh = True
        self.summary = ""

    def __call__(self, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            if SUMMARY.match(line):
                self.summary = line.decode(errors="replace").strip()
            if self._fresh and not line.startswith(b"==="):
                sys.stdout.buffer.write(b"[%6.1fs] " % elapsed())
            sys.stdout.buffer.write(line)
            self._fresh = line.endswith(b"\n")
        sys.stdout.buffer.flush()

    def close(self) -> None:
        """End a line that the guest left open."""
        if not self._fresh:
            self(b"\n")
