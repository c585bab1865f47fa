# SPDX-License-Identifier: GPL-2.0-or-later
"""Doctor: what this machine lacks for maglens, and the command that mends it.

Every finding is a function of a :class:`Machine`, which is the real one or a tree of files with prepared answers.
"""

from __future__ import annotations

import ctypes
import enum
import grp
import importlib
import importlib.util
import json
import os
import platform
import pwd
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maglens_daemon import config
from maglens_daemon.board import checks
from maglens_daemon.errors import ConfigError
from maglens_driver import names

USBFS_LEAST_MB: Final = 64  # four frames of 4K NV12 in flight, twice
LOOPBACK_CREATES_SINCE: Final = (0, 15)
_RULES_DIRS: Final = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
_RULES_FILE: Final = "udev/rules.d/70-maglens.rules"
_COMMAND_S: Final = 10.0


class Verdict(enum.Enum):
    """How a finding is."""

    OK = "ok"
    NOTE = "note"  # it works, with less
    WRONG = "wrong"  # it does not work until this is mended


@dataclass(frozen=True, slots=True)
class Finding:
    """``mend`` is the command; empty where nothing has to be done."""

    subject: str
    verdict: Verdict
    what: str
    mend: str = ""


class Machine:
    """This machine, or a rehearsed one: files below ``root``, programs by ``ask``."""

    def __init__(self, root: Path = Path("/"), ask: Callable[[Sequence[str]], str | None] | None = None) -> None:
        self._root = root
        self._ask = ask or _run
        self.is_real = root == Path("/")

    def path(self, path: str) -> Path:
        """A file of it."""
        return self._root / path.lstrip("/")

    def read(self, path: str) -> str | None:
        """Text of a file, or None."""
        try:
            return self.path(path).read_text(errors="replace").strip()
        except OSError:
            return None

    def ask(self, *command: str) -> str | None:
        """What a program prints; None where it is not there or fails without a word."""
        return self._ask(command)


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _ok(subject: str, what: str) -> Finding:
    return Finding(subject, Verdict.OK, what)


def _module_there(machine: Machine, name: str) -> bool:
    """Whether a kernel module could be loaded."""
    release = machine.read("/proc/sys/kernel/osrelease") or platform.release()
    tree = machine.path(f"/lib/modules/{release}")
    index = machine.read(f"/lib/modules/{release}/modules.dep") or ""
    builtin = machine.read(f"/lib/modules/{release}/modules.builtin") or ""
    pattern = re.compile(rf"(^|/){re.escape(name)}\.ko", re.MULTILINE)
    return tree.is_dir() and bool(pattern.search(index) or pattern.search(builtin))


def _loaded(machine: Machine, name: str) -> bool:
    return machine.path(f"/sys/module/{name}").is_dir()


def _node_name(machine: Machine) -> str | None:
    """The first video device that is named as ours, as ``video0``."""
    for entry in sorted(machine.path("/sys/class/video4linux").glob("video*/name")):
        if entry.read_text().strip().startswith(names.NODE_CARD_NAME):
            return entry.parent.name
    return None


def kernel_module(machine: Machine) -> Iterator[Finding]:
    """What makes the node."""
    subject = "kernel module"
    if _loaded(machine, "maglens"):
        yield _ok(subject, "maglens is loaded")
        return
    if _module_there(machine, "maglens"):
        yield Finding(subject, Verdict.WRONG, "maglens is installed, but not loaded", "sudo modprobe maglens")
        return
    version = machine.read("/sys/module/v4l2loopback/version")
    if version is not None or _loaded(machine, "v4l2loopback"):
        yield from _loopback(machine, version or "")
        return
    if _module_there(machine, "v4l2loopback"):
        yield Finding(
            subject, Verdict.WRONG, "v4l2loopback is installed, but not loaded", "sudo modprobe v4l2loopback"
        )
        return
    release = machine.read("/proc/sys/kernel/osrelease") or platform.release()
    yield Finding(
        subject,
        Verdict.WRONG,
        "neither maglens nor v4l2loopback is installed for this kernel",
        f"sudo apt-get install v4l2loopback-dkms linux-headers-{release}"
        " (Fedora: dnf install akmod-v4l2loopback), then sudo modprobe v4l2loopback",
    )
    if machine.ask("mokutil", "--sb-state") == "SecureBoot enabled":
        yield Finding(
            "Secure Boot",
            Verdict.NOTE,
            "is on: the kernel loads only modules signed with an enrolled key",
            "sudo mokutil --import /var/lib/dkms/mok.pub, then restart and confirm",
        )


def _loopback(machine: Machine, version: str) -> Iterator[Finding]:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    what = f"v4l2loopback {version or 'of unknown version'} is loaded: apps see no controls, one app at a time"
    if numbers >= LOOPBACK_CREATES_SINCE or _node_name(machine) is not None:
        yield Finding("kernel module", Verdict.NOTE, what, "sudo make install-dkms, in the sources of maglens")
        return
    yield Finding(
        "kernel module",
        Verdict.WRONG,
        f"v4l2loopback {version} makes no devices at run time, and none is named {names.NODE_CARD_NAME}",
        "sudo modprobe -r v4l2loopback; sudo modprobe v4l2loopback devices=1 exclusive_caps=1 max_buffers=16"
        f" card_label={names.NODE_CARD_NAME}",
    )


def camera(machine: Machine) -> Iterator[Finding]:
    """The device that apps open, and whether this user may."""
    node = _node_name(machine)
    if node is None:
        yield Finding(
            "camera", Verdict.WRONG, "there is no video device", f"sudo systemctl restart {names.SERVICE_UNIT}"
        )
        return
    device = machine.path(f"/dev/{node}")
    if os.access(device, os.R_OK | os.W_OK):
        yield _ok("camera", f"/dev/{node}")
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
            yield _ok("udev rules", f"/{directory}/{_RULES_FILE}")
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
        yield _ok("service", f"{unit} is active")
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
        yield _ok("group", f"you may control the cameras ({names.SYSTEM_GROUP})")
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
        yield _ok("USB", f"{memory} MB of transfers in flight" if int(memory) else "no limit on transfers in flight")
    for entry in sorted(machine.path("/sys/bus/usb/devices").glob("*/interface")):
        if entry.read_text(errors="replace").strip() == names.USB_INTERFACE_STRING:
            yield from _module(machine, entry.parent)


def _module(machine: Machine, interface: Path) -> Iterator[Finding]:
    device = interface.parent / interface.name.partition(":")[0]
    try:
        bus, number = (int((device / name).read_text()) for name in ("busnum", "devnum"))
        speed = (device / "speed").read_text().strip()
    except (OSError, ValueError):
        return  # it goes just now
    node = machine.path(f"/dev/bus/usb/{bus:03d}/{number:03d}")
    if not node.exists():
        yield Finding(f"module at {device.name}", Verdict.WRONG, f"{node} is missing", "sudo udevadm trigger")
    elif node.stat().st_mode & 0o060 != 0o060 and machine.is_real:
        yield Finding(
            f"module at {device.name}",
            Verdict.WRONG,
            f"{node}: the service may not open it",
            "sudo udevadm control --reload; sudo udevadm trigger --subsystem-match=usb",
        )
    else:
        yield _ok(f"module at {device.name}", f"{speed} Mbit/s")


def libraries(machine: Machine) -> Iterator[Finding]:
    """What Python needs beside itself."""
    del machine  # the libraries are those of this very process
    for library, package in (("libusb-1.0.so.0", "libusb-1.0-0"), ("libudev.so.1", "libudev1")):
        try:
            ctypes.CDLL(library)
        except OSError:
            yield Finding("library", Verdict.WRONG, f"{library} is missing", f"sudo apt-get install {package}")
    try:
        importlib.import_module("maglens_v4l2._pixels")
    except ImportError as error:
        yield Finding(
            "pixel kernel",
            Verdict.WRONG,
            f"cannot be loaded: {error}",
            "sudo apt-get install libturbojpeg0, or sudo make install, in the sources of maglens",
        )
    else:
        yield _ok("pixel kernel", "loads, with libjpeg-turbo")
    if importlib.util.find_spec("linuxpy") is None:
        yield Finding(
            "linuxpy",
            Verdict.NOTE,
            "is missing: webcams cannot be sources",
            "sudo make install with a network, in the sources of maglens",
        )
    else:
        yield _ok("linuxpy", "is there")


def configuration(machine: Machine) -> Iterator[Finding]:
    """The configuration as the service would read it."""
    del machine  # MAGLENS_CONFIG says where it is
    try:
        read = config.load()
    except ConfigError as error:
        yield Finding("configuration", Verdict.WRONG, str(error), error.hint)
    else:
        yield _ok("configuration", ", ".join(map(str, read.files)) or "defaults")


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
            yield _ok(one.subject, one.found)


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


CHECKS: Final = (kernel_module, camera, rules, service, users, usb, libraries, configuration, boards, modules)


def examine(machine: Machine) -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    return [finding for check in CHECKS for finding in check(machine)]
