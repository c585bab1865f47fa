# SPDX-License-Identifier: GPL-2.0-or-later
"""The C reader builds without a warning, and says what it misses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "bench" / "c_reader"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cc") or not shutil.which("pkg-config"):
        pytest.skip("no C compiler or pkg-config: apt install build-essential pkg-config")
    if subprocess.run(["pkg-config", "--exists", "libusb-1.0", "libudev"], check=False).returncode:
        pytest.skip("no headers: apt install libusb-1.0-0-dev libudev-dev")
    build = tmp_path_factory.mktemp("c_reader")
    made = subprocess.run(
        ["make", "-s", "-C", str(SOURCE), f"BUILD={build}"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0 and not made.stderr, made.stderr
    return build / "c_reader"


@pytest.mark.parametrize("options", [["--present"], ["--timeout", "0"]])
def test_no_module_is_one_clear_line(program: Path, options: list[str]) -> None:
    done = subprocess.run([str(program), *options], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.splitlines()[-1] == "c_reader: no module came"


def test_a_wrong_option_is_refused(program: Path) -> None:
    assert subprocess.run([str(program), "--nonsense"], capture_output=True, check=False).returncode == 2
