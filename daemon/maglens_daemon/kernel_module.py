# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel module: what the doctor says about maglens.ko or v4l2loopback, DKMS and Secure Boot.

A module that DKMS builds is signed with a key of this machine. Under Secure Boot the kernel takes it only if the
firmware knows the key: the key is handed in (``mokutil --import``), and whoever sits at the machine confirms it at
the next boot. No program can do that step for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from maglens_daemon.machine import Finding, Machine, Verdict, ok
from maglens_driver import names
from maglens_driver.packages import Need

LOOPBACK_CREATES_SINCE: Final = (0, 15)
SECURE_BOOT: Final = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""Four bytes of attributes, then 1 if it is on."""

KEYS: Final = (
    "/var/lib/dkms/mok.pub",  # DKMS 3 and later: Debian, Fedora, Arch
    "/var/lib/shim-signed/mok/MOK.der",  # Ubuntu
    "/etc/pki/akmods/certs/public_key.der",  # Fedora's akmods
)
AT_THE_BLUE_SCREEN: Final = "on the blue screen choose Enroll MOK, Continue, Yes, type the password, Reboot"


def _module_there(machine: Machine, name: str) -> bool:
    """Whether a kernel module could be loaded."""
    release = machine.kernel()
    tree = machine.path(f"/lib/modules/{release}")
    index = machine.read(f"/lib/modules/{release}/modules.dep") or ""
    builtin = machine.read(f"/lib/modules/{release}/modules.builtin") or ""
    pattern = re.compile(rf"(^|/){re.escape(name)}\.ko", re.MULTILINE)
    return tree.is_dir() and bool(pattern.search(index) or pattern.search(builtin))


def _loaded(machine: Machine, name: str) -> bool:
    return machine.path(f"/sys/module/{name}").is_dir()


def node_name(machine: Machine) -> str | None:
    """The first video device that is named as ours, as ``video0``."""
    for device in sorted(machine.path("/sys/class/video4linux").glob("video*")):
        name = machine.read(f"/sys/class/video4linux/{device.name}/name")  # None: it goes just now
        if name is not None and name.startswith(names.NODE_CARD_NAME):
            return device.name
    return None


def kernel_module(machine: Machine) -> Iterator[Finding]:
    """What makes the node."""
    subject = "kernel module"
    release = machine.kernel()
    if _loaded(machine, "maglens"):
        yield _outdated(machine) or ok(subject, "maglens is loaded")
        return
    if _module_there(machine, "maglens"):
        yield from _not_loaded(machine, "maglens")
        return
    sources = [path.parent.name for path in sorted(machine.path("/usr/src").glob("maglens-*/dkms.conf"))]
    if sources:
        yield Finding(
            subject,
            Verdict.NOTE if _loaded(machine, "v4l2loopback") else Verdict.WRONG,
            f"DKMS has maglens, but has not built it for this kernel, {release}",
            f"{machine.install(Need.HEADERS)} && sudo dkms install"
            f" {sources[-1].replace('-', '/', 1)} -k {release} && sudo modprobe maglens",
        )
        return
    version = machine.read("/sys/module/v4l2loopback/version")
    if version is not None or _loaded(machine, "v4l2loopback"):
        yield from _loopback(machine, version or "")
        return
    if _module_there(machine, "v4l2loopback"):
        yield from _not_loaded(machine, "v4l2loopback")
        return
    yield Finding(
        subject,
        Verdict.WRONG,
        "neither maglens nor v4l2loopback is installed for this kernel",
        f"{machine.install(Need.DKMS, Need.HEADERS)}, then sudo make install-dkms, in the sources of maglens (or,"
        f" without controls and for one app at a time, v4l2loopback: {machine.install(Need.LOOPBACK)})",
    )
    if _signatures_enforced(machine):
        yield from _signing(machine, "maglens")


def _outdated(machine: Machine) -> Finding | None:
    """A module that was built anew does not replace the one that is loaded: a camera is in use as long as the service
    runs."""
    loaded = machine.read("/sys/module/maglens/srcversion")
    installed = machine.ask("modinfo", "-F", "srcversion", "maglens")
    if not loaded or not installed or loaded == installed.strip():
        return None
    return Finding(
        "kernel module",
        Verdict.NOTE,
        "maglens is loaded, but another version of it is installed",
        f"close the apps that use the camera, then sudo systemctl stop {names.SERVICE_UNIT}"
        f" && sudo modprobe -r maglens && sudo systemctl start {names.SERVICE_UNIT}; or reboot",
    )


def _not_loaded(machine: Machine, name: str) -> Iterator[Finding]:
    """A module that is there: why it is not loaded, as far as can be known."""
    distrusted = list(_signing(machine, name)) if _signatures_enforced(machine) else []
    if distrusted:
        what, mend = f"{name} is installed, but this kernel refuses it", distrusted[0].mend
    else:
        what, mend = f"{name} is installed, but not loaded", f"sudo modprobe {name}"
    yield Finding("kernel module", Verdict.WRONG, what, mend)
    yield from distrusted


def _signatures_enforced(machine: Machine) -> bool:
    """Secure Boot, or a kernel told so: only modules signed with a key that it knows are loaded."""
    if machine.read("/sys/module/module/parameters/sig_enforce") == "Y":
        return True
    state = machine.ask("mokutil", "--sb-state")
    if state is not None:
        return "SecureBoot enabled" in state
    variable = machine.read_bytes(SECURE_BOOT)
    return variable is not None and variable[-1:] == b"\x01"


def _signing(machine: Machine, name: str) -> Iterator[Finding]:
    """Whether the firmware trusts the key that DKMS signs with; nothing to say where it does."""
    subject = "Secure Boot"
    on = "is on: the kernel loads only modules signed with an enrolled key"
    key = next((key for key in KEYS if machine.path(key).exists()), None)
    if key is None:
        yield Finding(
            subject,
            Verdict.NOTE,
            f"{on}; DKMS has made none yet, it does so when it first builds a module",
            "sudo make install-dkms, in the sources of maglens, then maglens doctor",
        )
        return
    known = machine.ask("mokutil", "--test-key", key)
    if known is None:
        yield Finding(
            subject,
            Verdict.NOTE,
            f"{on}; mokutil, which knows them, is not installed",
            f"{machine.install(Need.MOKUTIL)}, then maglens doctor",
        )
    elif "enrollment request" in known:
        yield Finding(
            subject,
            Verdict.WRONG,
            f"{on}; {key} waits to be enrolled at the next boot",
            f"sudo reboot; {AT_THE_BLUE_SCREEN}, then sudo modprobe {name}",
        )
    elif "already enrolled" not in known:
        yield Finding(
            subject,
            Verdict.WRONG,
            f"{on}; {key}, which DKMS signs with, is not",
            f"sudo mokutil --import {key} (asks for a password to use once), then sudo reboot; {AT_THE_BLUE_SCREEN},"
            f" then sudo modprobe {name}",
        )


def _loopback(machine: Machine, version: str) -> Iterator[Finding]:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    what = f"v4l2loopback {version or 'of unknown version'} is loaded: apps see no controls, one app at a time"
    if numbers >= LOOPBACK_CREATES_SINCE or node_name(machine) is not None:
        yield Finding("kernel module", Verdict.NOTE, what, "sudo make install-dkms, in the sources of maglens")
        return
    yield Finding(
        "kernel module",
        Verdict.WRONG,
        f"v4l2loopback {version} makes no devices at run time, and none is named {names.NODE_CARD_NAME}",
        f"sudo make install-dkms, in the sources of maglens, after {machine.install(Need.DKMS, Need.HEADERS)}"
        " (or, until the next boot, without controls and for one app at a time, sudo modprobe -r v4l2loopback;"
        " sudo modprobe v4l2loopback devices=1 exclusive_caps=1 max_buffers=16"
        f" card_label={names.NODE_CARD_NAME})",
    )
