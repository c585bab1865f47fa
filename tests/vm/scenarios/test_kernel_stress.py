# SPDX-License-Identifier: GPL-2.0-or-later
"""maglens.ko on the stock kernel with two CPUs: the stress and v4l2-compliance of `make kernel-test`.

There they run under sanitizers; here the kernel is what users have, and readers, storms and backend run at once.
MAGLENS_LONG=1 in the guest: 50 kills and 10000 cycles instead of the short form.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import compliance
from tests.kernel.tap import Tap
from tests.vm.guest.devices import succeed

PROGRAMS = Path("tests/kernel/programs")
INCLUDE = "driver/kernel/include/uapi/linux"
SEED = 1
LONG = os.environ.get("MAGLENS_LONG") == "1"
KILLS, CYCLES = (50, 10_000) if LONG else (8, 100)
LIMIT_S = 3600 if LONG else 150
SURROUNDINGS_S = 150  # to compile, and to have the daemon back

pytestmark = pytest.mark.timeout(LIMIT_S + SURROUNDINGS_S)


@pytest.fixture(scope="module", autouse=True)
def module(without_daemon: None) -> Iterator[None]:
    """The module loaded and nobody's; it can be removed at the end."""
    succeed("modprobe", "maglens")
    yield
    # udevd takes hours for events of ten thousand cameras, all long gone. They wait in its netlink socket, which is a
    # unit of its own and stays over a restart: it has to be given up as well.
    udev = [f"systemd-udevd{part}" for part in ("-control.socket", "-kernel.socket", ".service")]
    succeed("systemctl", "stop", *udev)
    succeed("systemctl", "start", *udev)
    succeed("udevadm", "settle")
    succeed("modprobe", "-r", "maglens")
    succeed("modprobe", "maglens")


def built(name: str, where: Path) -> Path:
    """A test program of the kernel's, compiled here from NAME.c and NAME_*.c."""
    program = where / name
    sources = [PROGRAMS / "lib.c", PROGRAMS / f"{name}.c", *sorted(PROGRAMS.glob(f"{name}_*.c"))]
    succeed("gcc", "-O1", f"-I{INCLUDE}", *sources, "-o", program)
    return program


def run(name: str, program: Path, *arguments: str, out: Path) -> None:
    """Run a program that prints TAP; every result of it must be good."""
    command = [str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    (out / f"{name}.tap").write_text(done.stdout)
    print(done.stdout)
    tap = Tap()
    tap.take(name, done.stdout)
    assert tap.results
    assert [what for ok, what in tap.results if not ok] == []


def test_stress(tmp_path: Path, out: Path) -> None:
    assert (os.cpu_count() or 0) >= 2
    run("stress", built("stress", tmp_path), str(SEED), str(KILLS), str(CYCLES), out=out)


def test_an_app_sees_no_gap_while_backends_are_stopped_killed_and_replaced(tmp_path: Path, out: Path) -> None:
    run("continuity", built("behave", tmp_path), "continuity", out=out)


@pytest.mark.parametrize("mode", compliance.MODES)
def test_compliance(mode: str, tmp_path: Path, out: Path) -> None:
    built("backend", tmp_path)
    script = compliance.script(mode, programs=tmp_path, out=out)
    subprocess.run(["sh", "-c", script], timeout=LIMIT_S, check=True)
    verdict = compliance.read(out, mode)
    version = re.match(r"v4l2-compliance (\S+),", (out / "v4l-utils").read_text())
    assert version
    print(f"v4l2-compliance {version[1]}, {os.uname().release}: {verdict}")
    assert verdict.as_expected(mode), verdict
