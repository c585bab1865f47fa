# SPDX-License-Identifier: GPL-2.0-or-later
"""Doctor: what this machine lacks for maglens, and the command that mends it.

Every check is a function of a :class:`maglens_daemon.machine.Machine`.
"""

from __future__ import annotations

import ctypes
import grp
import importlib
import importlib.util
import json
import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from maglens_daemon import config
from maglens_daemon.board import checks
from maglens_daemon.errors import ConfigError
from maglens_daemon.kernel_module import kernel_module, node_name
from maglens_daemon.machine import Finding, Machine, Verdict, ok
from maglens_driver import names
from maglens_driver.packages import Need

USBFS_LEAST_MB: Final = 64  # four frames of 4K NV12 in flight, twice
_RULES_DIRS: Final = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
_RULES_FILE: Final = "udev/rules.d/70-maglens.rules"


def camera(machine: Machine) -> Iterator[Finding]:
    """The device that apps open, and whether this user may."""
    node = node_name(machine)
    if node is None:
        yield Finding(
            "camera", Verdict.WRONG, "there is no video device", f"sudo systemctl restart {names.SERVICE_UNIT}"
        )
        return
    device = machine.path(f"/dev/{node}")
    if os.access(device, os.R_OK | os.W_OK):
        yield ok("camera", f"/dev/{node}")
    else:
        yield Finding(
            "camera",
            Verdict.WRONG,
            f"/dev/{node}: you may not open it",
            "sudo usermod -aG video $USER, then log in again",
        )


def rules(machine: Machine) -> Iterator[Finding]:
    """udev."""
    for directory in _RULES_DIRS:
        if machine.path(f"/{directory}/{_RULES_FILE}").exists():
            yield ok("udev rules", f"/{directory}/{_RULES_FILE}")
            return
    yield Finding("udev rules", Verdict.WRONG, "are not installed", "sudo make install, in the sources of maglens")


def service(machine: Machine) -> Iterator[Finding]:
    """systemd's view of the daemon."""
    unit = names.SERVICE_UNIT
    active = machine.ask("systemctl", "is-active", unit)
    if active is None:
        yield Finding("service", Verdict.WRONG, "systemd does not answer", "")
    elif active != "active":
        yield Finding("service", Verdict.WRONG, f"{unit} is {active}", f"sudo systemctl start {unit}")
    else:
        yield ok("service", f"{unit} is active")
    enabled = machine.ask("systemctl", "is-enabled", unit)
    if active is not None and enabled != "enabled":
        yield Finding(
            "service",
            Verdict.NOTE,
            f"{unit} does not start at boot ({enabled or 'not installed'}), only when a module appears",
            f"sudo systemctl enable {unit}",
        )


def users(machine: Machine) -> Iterator[Finding]:
    """The service's user and group, and who may control."""
    groups = machine.read("/etc/group") or ""
    if not re.search(rf"^{names.SYSTEM_GROUP}:", groups, re.MULTILINE):
        yield Finding("group", Verdict.WRONG, f"there is no group {names.SYSTEM_GROUP}", "sudo systemd-sysusers")
        return
    mine = {grp.getgrgid(gid).gr_name for gid in os.getgroups() if _has_group(gid)} if machine.is_real else set()
    if os.geteuid() == 0 or names.SYSTEM_GROUP in mine:
        yield ok("group", f"you may control the cameras ({names.SYSTEM_GROUP})")
        return
    user = pwd.getpwuid(os.geteuid()).pw_name
    yield Finding(
        "group",
        Verdict.NOTE,
        f"{user} is not in the group {names.SYSTEM_GROUP}: controlling asks polkit",
        f"sudo usermod -aG {names.SYSTEM_GROUP} {user}, then log in again",
    )


def _has_group(gid: int) -> bool:
    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True


def usb(machine: Machine) -> Iterator[Finding]:
    """Memory for transfers, and modules that are there."""
    memory = machine.read("/sys/module/usbcore/parameters/usbfs_memory_mb")
    if memory is None:
        yield Finding("USB", Verdict.NOTE, "this kernel has no USB host", "")
        return
    if 0 < int(memory) < USBFS_LEAST_MB:
        yield Finding(
            "USB",
            Verdict.NOTE,
            f"the kernel allows {memory} MB of transfers in flight, too little for large pictures",
            "echo 256 | sudo tee /sys/module/usbcore/parameters/usbfs_memory_mb",
        )
    else:
        yield ok("USB", f"{memory} MB of transfers in flight" if int(memory) else "no limit on transfers in flight")
    for entry in sorted(machine.path("/sys/bus/usb/devices").glob("*/interface")):
        if machine.read(f"/sys/bus/usb/devices/{entry.parent.name}/interface") == names.USB_INTERFACE_STRING:
            yield from _module(machine, entry.parent)


def _module(machine: Machine, interface: Path) -> Iterator[Finding]:
    device = interface.parent / interface.name.partition(":")[0]
    try:
        bus, number = (int((device / name).read_text()) for name in ("busnum", "devnum"))
        speed = (device / "speed").read_text().strip()
    except (OSError, ValueError):
        return  # it goes just now
    node = machine.path(f"/dev/bus/usb/{bus:03d}/{number:03d}")
    try:
        mode = node.stat().st_mode
    except FileNotFoundError:
        yield Finding(f"module at {device.name}", Verdict.WRONG, f"{node} is missing", "sudo udevadm trigger")
        return
    if mode & 0o060 != 0o060 and machine.is_real:
        yield Finding(
            f"module at {device.name}",
            Verdict.WRONG,
            f"{node}: the service may not open it",
            "sudo udevadm control --reload; sudo udevadm trigger --subsystem-match=usb",
        )
    else:
        yield ok(f"module at {device.name}", f"{speed} Mbit/s")


def libraries(machine: Machine) -> Iterator[Finding]:
    """What Python needs beside itself."""
    # They are those of this very process, whatever machine is rehearsed.
    for library, need in (("libusb-1.0.so.0", Need.LIBUSB), ("libudev.so.1", Need.LIBUDEV)):
        try:
            ctypes.CDLL(library)
        except OSError:
            yield Finding("library", Verdict.WRONG, f"{library} is missing", machine.install(need))
    try:
        importlib.import_module("maglens_v4l2._pixels")
    except ImportError as error:
        yield Finding(
            "pixel kernel",
            Verdict.WRONG,
            f"cannot be loaded: {error}",
            f"{machine.install(Need.TURBOJPEG)}, or sudo make install, in the sources of maglens",
        )
    else:
        yield ok("pixel kernel", "loads, with libjpeg-turbo")
    if importlib.util.find_spec("linuxpy") is None:
        yield Finding(
            "linuxpy",
            Verdict.NOTE,
            "is missing: webcams cannot be sources",
            "sudo make install with a network, in the sources of maglens",
        )
    else:
        yield ok("linuxpy", "is there")


def configuration(machine: Machine) -> Iterator[Finding]:
    """The configuration as the service would read it."""
    del machine  # MAGLENS_CONFIG says where it is
    try:
        read = config.load()
    except ConfigError as error:
        yield Finding("configuration", Verdict.WRONG, str(error), error.hint)
    else:
        yield ok("configuration", ", ".join(map(str, read.files)) or "defaults")


def boards(machine: Machine) -> Iterator[Finding]:
    """What the configuration names of a board: lines, meters, Hall sensors."""
    try:
        read = config.load()
    except ConfigError:
        return  # told already
    for one in checks.check(read, machine.path("/")):
        if one.problem:
            yield Finding(one.subject, Verdict.WRONG, one.problem, one.hint)
        else:
            yield ok(one.subject, one.found)


def modules(machine: Machine) -> Iterator[Finding]:
    """What the service says of modules that are on: refused, or kept below their best."""
    text = machine.ask("maglens", "status", "--json")
    try:
        present = json.loads(text or "{}").get("modules", [])
    except (ValueError, AttributeError):
        present = []
    for module in present:
        subject = f"module at {module['port']}"
        if module["reason"]:
            yield Finding(subject, Verdict.WRONG, module["reason"], module["hint"])
        for note in module["notes"]:
            what, _, mend = note.partition(": ")
            yield Finding(subject, Verdict.NOTE, what, mend)


Check = Callable[[Machine], Iterator[Finding]]

CHECKS: Final[tuple[Check, ...]] = (
    rules,
    libraries,
    kernel_module,
    users,
    service,
    camera,
    usb,
    configuration,
    boards,
    modules,
)
NEEDS: Final[Mapping[Check, tuple[Check, ...]]] = {
    users: (rules,),
    service: (rules,),
    camera: (rules, kernel_module, service),
}
"""What a check is left out for: its own mend would do nothing until those are mended."""


def examine(machine: Machine) -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    findings: list[Finding] = []
    broken: set[Check] = set()
    for check in CHECKS:
        if broken.intersection(NEEDS.get(check, ())):
            broken.add(check)
            continue
        found = list(check(machine))
        findings += found
        if any(one.verdict is Verdict.WRONG for one in found):
            broken.add(check)
    return findings
