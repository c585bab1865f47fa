# SPDX-License-Identifier: GPL-2.0-or-later
"""``make install`` on a live machine as README has it, without PREFIX or DESTDIR, and ``make uninstall``.

What the lab has installed under /usr is put aside meanwhile, but for the venv that runs this test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from maglens_driver import names
from tests.vm.conftest import JournalOf, Record, WatchUdev
from tests.vm.guest.devices import succeed
from tests.vm.guest.udev_watch import UdevWatch
from tests.vm.scenarios.test_daemon import ATTACH_S, BY_ID, SMALL, START_S, UNIT, have_service, shown, systemctl
from tests.vm.scenarios.test_install import HOME

BUILD_S = 1500.0  # the pixel kernel is compiled, on an emulated processor
TREE = Path(__file__).parents[3]
LEAVES_ALONE = shutil.ignore_patterns("build", ".git", "__pycache__", "*.egg-info")
LOOKED_AT = ("/etc", "/usr/local", "/usr/lib/systemd", "/usr/lib/udev", "/usr/share/dbus-1", "/usr/share/polkit-1")
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
PREFIX = "/usr/local"
LINK = Path(BY_ID.format(names.NODE_CARD_NAME))


def reload_all() -> None:
    """Let systemd, udev and the bus see which files there are."""
    systemctl("daemon-reload")
    succeed("udevadm", "control", "--reload")
    systemctl("reload", "dbus.service")


def node_leaves(watch: UdevWatch, node: str) -> None:
    """The service that held it has ended; systemd lets go of what it kept for it a moment later."""
    watch.next("remove", lambda device: device.device_node == node)
    succeed("udevadm", "settle")
    assert not LINK.is_symlink()


@contextmanager
def put_aside(tree: Path, watch: UdevWatch) -> Iterator[None]:
    """The machine is as if nothing were installed; at the end as before, whatever ``tree`` has put there."""
    have_service()
    succeed("udevadm", "settle")
    node = str(LINK.resolve(strict=True))
    files = [Path(name) for name in json.loads((HOME / "manifest.json").read_text())["files"]]
    with tempfile.TemporaryDirectory(dir="/usr") as folder:
        aside = {path: Path(folder) / str(number) for number, path in enumerate(files)}
        systemctl("disable", "--now", UNIT)
        try:
            node_leaves(watch, node)
            for path, place in aside.items():
                path.rename(place)
            reload_all()
            yield
        finally:
            if Path(PREFIX, "lib", "maglens").exists():  # the test failed; its error is the one to show
                subprocess.run(["make", "-C", str(tree), "uninstall"], env=CLEAN, check=False, timeout=BUILD_S)
            for path, place in aside.items():
                if place.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    place.rename(path)
            reload_all()
            succeed("udevadm", "trigger", "--settle", "--subsystem-match=misc")
            have_service()


def make(target: str, tree: Path) -> None:
    """What a person types, in an environment of a person's."""
    command = ["make", "-C", str(tree), target]
    done = subprocess.run(command, env=CLEAN, capture_output=True, text=True, check=False, timeout=BUILD_S)
    assert done.returncode == 0, done.stdout + done.stderr


def maglens(*words: str) -> str:
    """The command that was installed."""
    command = [f"{PREFIX}/bin/maglens", *words]
    done = subprocess.run(command, env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def there(tree: Path) -> set[str]:
    """Every path where an installation may leave something."""
    return {
        os.path.join(folder, name)
        for root in (*LOOKED_AT, str(tree))
        for folder, folders, files in os.walk(root)
        for name in (*folders, *files)
    }


@pytest.mark.long
@pytest.mark.timeout(2 * BUILD_S)
def test_install_and_uninstall(
    journal: JournalOf, ffmpeg_recorder: Record, wait_for_udev: WatchUdev, tmp_path: Path
) -> None:
    tree = tmp_path / "maglens"
    shutil.copytree(TREE, tree, ignore=LEAVES_ALONE)
    watch = wait_for_udev("video4linux")
    with put_aside(tree, watch):
        before = there(tree)
        assert systemctl("cat", UNIT, check=False).returncode != 0, "systemd knows the unit still"
        log = journal(UNIT)
        make("install", tree)
        log.wait_for("the camera is /dev/video", START_S)
        assert systemctl("is-enabled", UNIT).stdout.strip() == "enabled"
        assert systemctl("is-active", UNIT).stdout.strip() == "active"
        assert f"{PREFIX}/bin/maglensd" in shown("ExecStart")
        succeed("udevadm", "settle")
        assert LINK.is_symlink()
        node = str(LINK.resolve())
        with ffmpeg_recorder(LINK, options=SMALL) as app:
            app.wait_frames(1)
            maglens("sim", "attach", "35mm")
            log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
            assert json.loads(maglens("status", "--json"))["playing"].endswith("/SIM-35mm")
            app.wait_more(1)
            maglens("sim", "detach", "35mm")
            log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        assert app.errors() == []
        maglens("doctor")  # its status says whether something has to be mended

        make("uninstall", tree)
        assert systemctl("is-active", UNIT, check=False).stdout.strip() == "inactive"
        assert systemctl("cat", UNIT, check=False).returncode != 0, "systemd knows the unit still"
        module = names.SIM_UNIT_TEMPLATE.replace("@", "@35mm")
        assert systemctl("is-active", module, check=False).stdout.strip() == "inactive", "it runs without its files"
        node_leaves(watch, node)
        assert sorted(there(tree) ^ before) == []
