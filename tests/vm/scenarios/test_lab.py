# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself: the kernel, systemd, udev and the drivers that every other scenario relies on."""

import platform
import subprocess
from pathlib import Path


def test_stock_kernel_and_systemd_run() -> None:
    assert int(platform.release().split(".")[0]) >= 6
    state = subprocess.run(["systemctl", "is-system-running"], capture_output=True, text=True, check=False)
    assert state.stdout.strip() == "running"


def test_four_super_speed_device_controllers() -> None:
    found = sorted(Path("/sys/class/udc").iterdir())
    assert [path.name for path in found] == [f"dummy_udc.{index}" for index in range(4)]
    assert {(path / "maximum_speed").read_text().strip() for path in found} == {"super-speed"}
