# SPDX-License-Identifier: GPL-2.0-or-later
"""What is built and installed: nothing forgotten, nothing left behind."""

from __future__ import annotations

import configparser
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPOSURE = 2.0
COMPILE_ONCE = """#!/bin/sh
before= source= object=
for word; do
    case $before in -c) source=$word ;; -o) object=$word ;; esac
    before=$word
done
[ -n "$source" ] || exec cc "$@"
kept=$0-$(basename "$source").o
[ -e "$kept" ] || cc "$@" -O0 -o "$kept" || exit
cp "$kept" "$object"
"""


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def folders() -> dict[str, Path]:
    lines = setup_cfg()["options"]["package_dir"].split("\n")
    pairs = (line.split("=") for line in lines if line.strip())
    return {name.strip(): ROOT / where.strip() for name, where in pairs}


def test_every_package_is_declared() -> None:
    """One that is not is silently left out of a wheel."""
    found = set()
    for name, top in folders().items():
        for init in top.rglob("__init__.py"):
            found.add(".".join((name, *init.parent.relative_to(top).parts)))
    assert found == set(setup_cfg()["options"]["packages"].split())


@pytest.mark.parametrize("package", ["maglens_driver", "maglens_v4l2", "maglens_daemon"])
def test_imports_only_point_down(package: str) -> None:
    order = ["maglens_driver", "maglens_v4l2", "maglens_daemon"]
    above = order[order.index(package) + 1 :]
    for path in folders()[package].rglob("*.py"):
        for line in path.read_text().splitlines():
            match = re.match(r"\s*(?:from|import) (maglens_\w+)", line)
            assert match is None or match[1] not in above, f"{path}: {line}"


def test_linuxpy_is_imported_by_the_v4l2_source_alone() -> None:
    users = set()
    for top in folders().values():
        for path in top.rglob("*.py"):
            if re.search(r"^\s*(from|import) linuxpy", path.read_text(), re.MULTILINE):
                users.add(path.parent.relative_to(ROOT).as_posix())
    assert users <= {"driver/maglens_driver/v4l2"}


def test_the_service_is_well_confined(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "maglensd.service"
    unit.write_text((ROOT / "daemon/system/maglensd.service").read_text().replace("@PREFIX@", "/usr"))
    command = ["systemd-analyze", "security", "--offline=true", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert exposure is not None, said
    assert float(exposure[1]) <= EXPOSURE


def install(action: str, destdir: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [
        "make",
        "--no-print-directory",
        action,
        "PREFIX=/usr",
        f"DESTDIR={destdir}",
        f"PYTHON={sys.executable}",
    ]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """No network, and no dependencies: what is tested is where our own files go. Each source is compiled once."""
    compiler = tmp_path_factory.mktemp("bin") / "cc"
    compiler.write_text(COMPILE_ONCE)
    compiler.chmod(0o755)
    pip = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return os.environ | pip | {"CC": str(compiler)}


def listing(top: Path) -> set[str]:
    return {p.relative_to(top).as_posix() for p in top.rglob("*")}


def built_in_the_tree() -> set[tuple[str, int]]:
    """What a build leaves beside its sources, with the times of changes."""
    found = [p for pattern in ("build/*", "*.egg-info", "*.egg-info/*") for p in ROOT.glob(pattern)]
    found += [p for top in folders().values() for p in top.rglob("*.so")]
    return {(p.relative_to(ROOT).as_posix(), p.stat().st_mtime_ns) for p in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    top = tmp_path_factory.mktemp("root")
    (top / "usr/bin").mkdir(parents=True)
    (top / "usr/bin/other").write_text("somebody else's")
    (top / "usr/lib").mkdir()
    before = built_in_the_tree()
    done = install("install", top, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert built_in_the_tree() == before, "root's files, in a user's folder"
    assert done.stdout.endswith(f"installed into {top}\n")
    return top


def test_everything_is_in_its_place(installed: Path) -> None:
    for path in (
        "usr/bin/maglens",
        "usr/bin/maglensd",
        "usr/lib/systemd/system/maglensd.service",
        "usr/lib/systemd/system/maglens-sim@.service",
        "usr/lib/udev/rules.d/70-maglens.rules",
        "usr/lib/sysusers.d/maglens.conf",
        "usr/lib/tmpfiles.d/maglens.conf",
        "usr/lib/modprobe.d/maglens.conf",
        "usr/share/dbus-1/system.d/org.maglens1.conf",
        "usr/share/dbus-1/system-services/org.maglens1.service",
        "usr/share/dbus-1/interfaces/org.maglens1.xml",
        "usr/share/polkit-1/actions/org.maglens1.policy",
        "usr/share/bash-completion/completions/maglens",
        "usr/share/man/man1/maglens.1",
        "usr/share/man/man5/maglens.toml.5",
        "usr/share/man/man8/maglensd.8",
    ):
        assert (installed / path).is_file(), path


def test_every_file_of_the_packages_is_installed(installed: Path) -> None:
    (site,) = (installed / "usr/lib/maglens/lib").glob("python3.*/site-packages")
    for name, top in folders().items():
        for path in top.rglob("*"):
            if path.suffix in (".py", ".pyi", ".toml", ".xml") or path.name == "py.typed":
                assert (site / name / path.relative_to(top)).is_file(), path
    assert list((site / "maglens_v4l2").glob("_pixels*.so"))


def test_nothing_else_is_installed_in_the_packages(installed: Path) -> None:
    """A build in the tree would pack up modules again that the tree has dropped since."""
    (site,) = (installed / "usr/lib/maglens/lib").glob("python3.*/site-packages")
    for name, top in folders().items():
        for path in (site / name).rglob("*.py"):
            assert (top / path.relative_to(site / name)).is_file(), path


def test_nothing_knows_the_staging_directory(installed: Path) -> None:
    stage = str(installed).encode()
    for path in installed.rglob("*"):
        if path.is_symlink():
            assert not os.readlink(path).startswith(str(installed)), path
        elif path.is_file() and stage in path.read_bytes():
            pytest.fail(f"{path} holds the staging directory")


def test_no_placeholder_is_left(installed: Path) -> None:
    for path in installed.rglob("*"):
        if path.is_file() and "site-packages" not in path.parts and not path.is_symlink():
            assert b"@PREFIX@" not in path.read_bytes(), path


def test_the_launchers_use_the_venv(installed: Path) -> None:
    for name in ("maglens", "maglensd"):
        text = (installed / "usr/bin" / name).read_text()
        assert text.startswith("#!/usr/lib/maglens/bin/python -I\n")
        module = re.search(r"^from (\S+) import main$", text, re.MULTILINE)
        assert module is not None
        assert callable(importlib.import_module(module[1]).main)


def test_the_kernel_modules_source(tmp_path: Path, environment: dict[str, str]) -> None:
    done = install("install-dkms", tmp_path, environment)
    assert done.returncode == 0, done.stderr
    (top,) = (tmp_path / "usr/src").glob("maglens-*")
    assert {"dkms.conf", "Kbuild", "Makefile"} <= {p.name for p in top.iterdir()}
    declared = {p.relative_to(ROOT / "driver/kernel") for p in (ROOT / "driver/kernel").rglob("*.[ch]")}
    declared = {p for p in declared if not p.name.endswith(".mod.c")}
    assert declared <= {p.relative_to(top) for p in top.rglob("*.[ch]")}
    assert install("uninstall-dkms", tmp_path, environment).returncode == 0
    assert listing(tmp_path) == {"usr", "usr/src"}


def test_installing_again_changes_nothing_and_uninstall_leaves_nothing(
    installed: Path, environment: dict[str, str]
) -> None:
    before = listing(installed)
    manifest = json.loads((installed / "usr/lib/maglens/manifest.json").read_text())
    assert install("install", installed, environment).returncode == 0
    assert listing(installed) == before
    assert json.loads((installed / "usr/lib/maglens/manifest.json").read_text()) == manifest
    done = install("uninstall", installed, environment)
    assert done.returncode == 0, done.stderr
    assert listing(installed) == {"usr", "usr/bin", "usr/bin/other", "usr/lib"}
    again = install("uninstall", installed, environment)
    assert again.returncode != 0
    assert "nothing is installed" in again.stderr
