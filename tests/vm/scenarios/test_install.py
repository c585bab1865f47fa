# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make install` has made of a stock Debian machine."""

from __future__ import annotations

import grp
import json
import pwd
import stat
import subprocess
from pathlib import Path

from maglens_driver import names

HOME = Path("/usr/lib/maglens")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_everything_of_the_manifest_is_there_and_roots() -> None:
    manifest = json.loads((HOME / "manifest.json").read_text())
    assert len(manifest["files"]) > 15
    for name in manifest["files"]:
        found = Path(name).stat()
        assert (found.st_uid, found.st_gid) == (0, 0), name
        assert not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH), name


def test_systemd_and_udev_find_no_fault() -> None:
    for unit in (names.SERVICE_UNIT, names.SIM_UNIT_TEMPLATE.replace("@", "@35mm")):
        done = run("systemd-analyze", "verify", "--man=no", unit)
        assert done.returncode == 0, done.stderr
        assert unit not in done.stderr, done.stderr
    done = run("udevadm", "verify", "/usr/lib/udev/rules.d/70-maglens.rules")
    assert done.returncode == 0, done.stdout + done.stderr


def test_user_group_and_settings() -> None:
    user = pwd.getpwnam(names.SYSTEM_USER)
    assert user.pw_shell.endswith("nologin")
    assert names.SYSTEM_USER in grp.getgrnam("video").gr_mem
    assert Path("/sys/module/usbcore/parameters/usbfs_memory_mb").read_text().strip() == "256"
    assert Path(names.CONFIG_DROPIN_DIR).is_dir()


def test_devices_have_our_rights() -> None:
    group = grp.getgrnam(names.SYSTEM_GROUP).gr_gid
    there = [p for p in (Path(names.NODE_DEVICE), Path(names.LOOPBACK_CONTROL)) if p.exists()]
    assert there, "neither kernel module is loaded"
    for device in there:
        found = device.stat()
        assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (group, 0o660), device


def test_the_camera_has_one_name_whatever_its_number() -> None:
    # A scenario before may have stopped it. Ready means: has a node.
    run("systemctl", "start", names.SERVICE_UNIT)
    run("udevadm", "settle")
    link = Path("/dev/v4l/by-id/maglens-video-index0")
    assert link.is_symlink()
    assert Path("/sys/class/video4linux", link.resolve().name, "name").read_text().strip() == names.NODE_CARD_NAME


def test_the_venv_uses_what_debian_has() -> None:
    modules = "numpy, dbus_fast, usb1, pyudev, PIL"
    code = f"import {modules}; print(*(m.__file__ for m in ({modules})))"
    done = run(str(HOME / "bin/python"), "-I", "-c", code)
    assert done.returncode == 0, done.stderr
    assert all(path.startswith("/usr/lib/python3") for path in done.stdout.split()), done.stdout


def test_manuals_completion_and_version() -> None:
    for page in ("maglens", "maglensd", "maglens.toml"):
        assert any(Path("/usr/share/man").glob(f"man[158]/{page}.[158]")), page
    done = run("maglens", "complete", "--", "sim", "sw")
    assert done.stdout == "swap\n", done.stderr
    said = json.loads(run("maglens", "version", "--json").stdout)
    assert said["version"]


def test_the_bus_serves_what_the_installed_xml_declares() -> None:
    done = run("busctl", "--xml-interface", "introspect", names.BUS_NAME, names.BUS_PATH)
    assert done.returncode == 0, done.stderr
    assert f'interface name="{names.BUS_INTERFACE}"' in done.stdout
    declared = Path("/usr/share/dbus-1/interfaces/org.maglens1.xml").read_text()
    assert f'<interface name="{names.BUS_INTERFACE}">' in declared
