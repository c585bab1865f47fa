# SPDX-License-Identifier: GPL-2.0-or-later
"""What the doctor says about the kernel module, DKMS and Secure Boot, on machines made of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from maglens_daemon.kernel_module import KEYS, SECURE_BOOT, kernel_module
from maglens_daemon.machine import Finding, Verdict
from tests.unit.test_daemon_system import Rehearsed, without_kernel_module

KEY = KEYS[0]
STATE, TEST_KEY = "mokutil --sb-state", f"mokutil --test-key {KEY}"


class SecureBoot(Rehearsed):
    """A machine whose kernel wants signatures, with maglens built by DKMS; `answers` are mokutil's."""

    def __init__(self, root: Path, **answers: str) -> None:
        told = {"state": STATE, "key": TEST_KEY}
        super().__init__(root, {told[name]: text for name, text in answers.items()})


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    machine = without_kernel_module(tmp_path)
    machine.put("/lib/modules/6.12-test/modules.dep", "updates/dkms/maglens.ko.xz:\n")
    machine.put(KEY)
    yield tmp_path


def findings(machine: Rehearsed) -> dict[str, Finding]:
    return {finding.subject: finding for finding in kernel_module(machine)}


def test_a_key_that_is_not_enrolled_is_handed_in_and_confirmed_at_the_next_boot(root: Path) -> None:
    found = findings(SecureBoot(root, state="SecureBoot enabled", key=f"{KEY} is not enrolled"))
    assert found["kernel module"].verdict is found["Secure Boot"].verdict is Verdict.WRONG
    steps = found["Secure Boot"].mend
    assert found["kernel module"].mend == steps
    for earlier, later in (
        (f"mokutil --import {KEY}", "sudo reboot"),
        ("sudo reboot", "Enroll MOK"),
        ("Enroll MOK", "sudo modprobe maglens"),
    ):
        assert steps.index(earlier) < steps.index(later)


def test_a_key_that_waits_for_the_reboot_is_not_handed_in_again(root: Path) -> None:
    found = findings(SecureBoot(root, state="SecureBoot enabled", key=f"{KEY} is already in the enrollment request"))
    assert "mokutil" not in found["Secure Boot"].mend
    assert found["Secure Boot"].mend.startswith("sudo reboot")


def test_an_enrolled_key_leaves_nothing_but_to_load(root: Path) -> None:
    found = findings(SecureBoot(root, state="SecureBoot enabled", key=f"{KEY} is already enrolled"))
    assert set(found) == {"kernel module"}
    assert found["kernel module"].mend == "sudo modprobe maglens"


def test_without_secure_boot_no_key_is_asked_for(root: Path) -> None:
    found = findings(SecureBoot(root, state="SecureBoot disabled", key=f"{KEY} is not enrolled"))
    assert found["kernel module"].mend == "sudo modprobe maglens"


def test_the_firmware_is_asked_where_mokutil_is_not_there(root: Path) -> None:
    machine = SecureBoot(root)
    machine.put("/etc/os-release", "ID=debian\n")
    variable = machine.put(SECURE_BOOT)
    variable.write_bytes(b"\6\0\0\0\1")
    assert "apt-get install mokutil" in findings(machine)["Secure Boot"].mend
    variable.write_bytes(b"\6\0\0\0\0")
    assert "Secure Boot" not in findings(machine)


def test_a_kernel_told_to_enforce_signatures_is_as_strict(root: Path) -> None:
    machine = SecureBoot(root, key=f"{KEY} is not enrolled")
    machine.put("/sys/module/module/parameters/sig_enforce", "Y\n")
    assert "--import" in findings(machine)["Secure Boot"].mend


def test_before_dkms_has_made_a_key_it_must_build(root: Path) -> None:
    machine = SecureBoot(root, state="SecureBoot enabled")
    machine.path(KEY).unlink()
    assert "install-dkms" in findings(machine)["Secure Boot"].mend


def test_a_kernel_update_without_headers_leaves_a_source_that_is_not_built(root: Path) -> None:
    machine = SecureBoot(root)
    machine.put("/lib/modules/6.12-test/modules.dep", "")
    machine.put("/usr/src/maglens-1/dkms.conf")
    mend = findings(machine)["kernel module"].mend
    assert "linux-headers-6.12-test" in mend
    assert "dkms install maglens/1 -k 6.12-test" in mend


@pytest.mark.parametrize(
    ("installed", "verdict"), [("AB12\n", Verdict.OK), ("CD34\n", Verdict.NOTE), ("", Verdict.OK)]
)
def test_a_module_built_anew_is_not_the_one_that_is_loaded(root: Path, installed: str, verdict: Verdict) -> None:
    machine = Rehearsed(root, {"modinfo -F srcversion maglens": installed})
    machine.put("/sys/module/maglens/srcversion", "AB12\n")
    found = findings(machine)["kernel module"]
    assert found.verdict is verdict
    assert ("modprobe -r maglens" in found.mend) == (verdict is Verdict.NOTE)
