# SPDX-License-Identifier: GPL-2.0-or-later
"""Needs: what the film wants of this machine where it is made without the virtual machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maglens_driver.gadget import client
from maglens_driver.names import SERVICE_UNIT, SIM_UNIT_TEMPLATE

INSTALL = "sudo make install"


@dataclass(frozen=True, slots=True)
class Need:
    """One thing there must be, how to see that it is there, and the command that mends it."""

    what: str
    met: Callable[[], bool]
    mend: str


def _done(*command: str) -> Callable[[], bool]:
    def look() -> bool:
        if shutil.which(command[0]) is None:
            return False
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    return look


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def _controller() -> bool:
    return any(Path("/sys/class/udc").glob("dummy_udc*"))


NEEDS = (
    Need("root", lambda: os.geteuid() == 0, "sudo make demo HOST=1"),
    Need("systemd", lambda: Path("/run/systemd/system").is_dir(), "make demo"),
    Need("dummy_hcd's USB device controllers", _controller, "sudo modprobe dummy_hcd is_super_speed=1 num=4"),
    Need("the command maglens", _program("maglens"), INSTALL),
    Need(f"the service {SERVICE_UNIT}", _done("systemctl", "cat", SERVICE_UNIT), INSTALL),
    Need(f"the unit {SIM_UNIT_TEMPLATE}", _done("systemctl", "cat", SIM_UNIT_TEMPLATE), INSTALL),
    Need("no virtual module of yours at work", lambda: not client.running(), "sudo systemctl stop 'maglens-sim@*'"),
    Need("v4l2-ctl", _program("v4l2-ctl"), "sudo apt-get install v4l-utils"),
    Need("a C compiler and make", lambda: _program("cc")() and _program("make")(), "sudo apt-get install gcc make"),
    Need(
        "what the C reader is built with",
        _done("pkg-config", "--exists", "libusb-1.0", "libudev"),
        "sudo apt-get install pkg-config libusb-1.0-0-dev libudev-dev",
    ),
)


def missing(needs: Sequence[Need] = NEEDS) -> list[str]:
    """A line for each that is not met, with what mends it."""
    return [f"demo: missing: {need.what}; try: {need.mend}" for need in needs if not need.met()]
