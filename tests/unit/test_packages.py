# SPDX-License-Identifier: GPL-2.0-or-later
"""What people are told to install: by the name, and with the program, of their own distribution."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from maglens_daemon.doctor import libraries
from maglens_daemon.kernel_module import kernel_module
from maglens_driver.packages import Need, install
from tests.unit.test_daemon_system import without_kernel_module

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\n'
UBUNTU = "ID=ubuntu\nID_LIKE=debian\n"
RASPBERRY = "ID=raspbian\nID_LIKE=debian\n"
FEDORA = 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=42\n'
ALMA = 'ID="almalinux"\nID_LIKE="rhel centos fedora"\n'
ARCH = "NAME=debian-like\nID=arch\n"


@pytest.mark.parametrize("system", [DEBIAN, UBUNTU, RASPBERRY])
def test_debian_and_its_kin(system: str) -> None:
    assert install(Need.DKMS, Need.HEADERS, system=system) == "sudo apt-get install dkms linux-headers-$(uname -r)"


@pytest.mark.parametrize("system", [FEDORA, ALMA])
def test_fedora_and_its_kin(system: str) -> None:
    told = install(Need.DKMS, Need.HEADERS, release="6.15.4-200.fc42.x86_64", system=system)
    assert told == "sudo dnf install dkms kernel-devel-6.15.4-200.fc42.x86_64"


def test_others_are_told_what_to_look_for() -> None:
    assert (
        install(Need.LIBUSB, system=ARCH)
        == install(Need.LIBUSB, system="")
        == "install what Debian calls libusb-1.0-0"
    )


@pytest.mark.parametrize(
    ("system", "program", "package"), [(DEBIAN, "apt-get", "libusb-1.0-0"), (FEDORA, "dnf", "libusb1")]
)
def test_the_doctor_speaks_the_distributions_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, program: str, package: str
) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    machine = without_kernel_module(tmp_path)
    machine.put("/etc/os-release", system)
    mends = [finding.mend for check in (libraries, kernel_module) for finding in check(machine)]
    assert f"sudo {program} install {package}" in mends
    told = re.findall(r"sudo (apt-get|dnf) ", " ".join(mends))
    assert len(told) >= 4
    assert set(told) == {program}


def test_no_package_is_named_elsewhere() -> None:
    """In what runs on a user's machine; the environment of developers is made on Debian only."""
    found = [
        path.relative_to(ROOT).as_posix()
        for top in ("driver/maglens_driver", "v4l2_bridge/maglens_v4l2", "daemon")
        for path in (ROOT / top).rglob("*.py")
        if re.search(r"\b(apt|apt-get|dnf) install\b", path.read_text())
    ]
    assert sorted(found) == ["daemon/system/prepare.py", "driver/maglens_driver/packages.py"]
