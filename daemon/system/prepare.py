#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Prepare: the development environment that ``make unit`` and its kin use, from nothing.

Debian packages that are missing are installed where this runs as root, else named in one line. Python packages go
into a venv in the cache, whose name says what it was made of, so that two trees or two versions never share one.
Standard library only: it runs before anything is there.
"""

from __future__ import annotations

import argparse
import configparser
import ctypes.util
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DECLARATIONS = (  # of setup.cfg: what decides what is in the venv; the packages themselves are used where they lie
    ("options", "package_dir"),
    ("options", "install_requires"),
    ("options.extras_require", "v4l2"),
    ("options.extras_require", "gpio"),
    ("options.extras_require", "test"),
    ("options.entry_points", "console_scripts"),
)
LEAST_PYTHON = (3, 11)  # python_requires of setup.cfg
PIXELS = ROOT / "v4l2_bridge" / "maglens_v4l2" / "pixels"


@dataclass(frozen=True)  # no slots: Python 3.9 must come as far as main()
class Need:
    """One thing the machine must have: its Debian package, what for, and how to see that it is there."""

    package: str
    purpose: str
    present: Callable[[], bool]


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def _library(name: str) -> Callable[[], bool]:
    return lambda: ctypes.util.find_library(name) is not None


def _header(name: str) -> Callable[[], bool]:
    def look() -> bool:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            return False
        source = f"#include <stdio.h>\n#include <{name}>\n"
        command = [compiler, "-E", "-x", "c", "-"]
        return subprocess.run(command, input=source, capture_output=True, text=True, check=False).returncode == 0

    return look


NEEDS = (
    Need("gcc", "the pixel kernel", _program("cc")),
    Need("libc6-dev", "the pixel kernel", _header("stdlib.h")),
    Need(
        "python3-dev",
        "the pixel kernel",
        lambda: Path(sysconfig.get_paths()["include"], "Python.h").exists(),
    ),
    Need("python3-venv", "the environment", lambda: importlib.util.find_spec("ensurepip") is not None),
    Need("libturbojpeg0-dev", "MJPEG", _header("turbojpeg.h")),
    Need("libusb-1.0-0", "USB", _library("usb-1.0")),
    Need("libudev1", "hot-plug", _library("udev")),
    Need("dbus-daemon", "the D-Bus tests", _program("dbus-daemon")),
    Need("pkg-config", "the C reader that tests compare with", _program("pkg-config")),
    Need("libusb-1.0-0-dev", "the C reader that tests compare with", _header("libusb-1.0/libusb.h")),
    Need("libudev-dev", "the C reader that tests compare with", _header("libudev.h")),
)
BENCH_NEEDS = (
    Need("libavutil-dev", "swscale, which the bench compares with", _library("avutil")),
    Need("libswscale-dev", "swscale, which the bench compares with", _library("swscale")),
)
OTHER = "the pixel kernel of the other processor"
TEST_NEEDS = (
    Need("gcc-aarch64-linux-gnu", OTHER, _program("aarch64-linux-gnu-gcc")),
    Need(
        "libc6-dev-arm64-cross",
        OTHER,
        lambda: platform.machine() == "aarch64" or Path("/usr/aarch64-linux-gnu/include/stdlib.h").exists(),
    ),
    Need("qemu-user", OTHER, _program("qemu-aarch64")),
)


def missing(needs: Sequence[Need] = NEEDS) -> list[Need]:
    """What this machine lacks."""
    return [need for need in needs if not need.present()]


def install_packages(needs: Sequence[Need] = NEEDS) -> None:
    """Install what is missing, or say in one line how to."""
    lacking = missing(needs)
    if not lacking:
        return
    names = [need.package for need in lacking]
    purposes = ", ".join(f"{need.package} ({need.purpose})" for need in lacking)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(f"missing: {purposes}\n  try: sudo apt-get install {' '.join(names)}")
    print(f"installing {purposes}", file=sys.stderr)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *names]
    if subprocess.run(install, env=environment, stdout=sys.stderr, check=False).returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], env=environment, stdout=sys.stderr, check=True)
        subprocess.run(install, env=environment, stdout=sys.stderr, check=True)
    still = missing(needs)
    if still:
        raise SystemExit(f"still missing after installation: {', '.join(need.package for need in still)}")


def cache() -> Path:
    """The project's cache: MAGLENS_CACHE, else the user's cache directory."""
    named = os.environ.get("MAGLENS_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maglens"


def venv() -> Path:
    """Where the venv of this tree, these requirements and this Python is."""
    digest = hashlib.sha256(f"{ROOT}\0{sys.version}\0{sys.base_prefix}".encode())
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    for section, option in DECLARATIONS:
        digest.update(f"{section}\0{option}\0{declared[section][option]}\0".encode())
    return cache() / f"venv-{digest.hexdigest()[:16]}"


def _pixels_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(PIXELS.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _extension_current(stamp: Path) -> bool:
    built = any(PIXELS.parent.glob("_pixels*.so"))
    return built and stamp.exists() and stamp.read_text() == _pixels_digest()


def prepare() -> Path:
    """Make what is not there yet; nothing to do costs milliseconds. Returns the venv."""
    where = venv()
    where.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{where}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second waits and finds it made
        _make(where)
    return where


def _make(where: Path) -> None:
    python, stamp = where / "bin" / "python", where / "pixels.sha256"
    if not (where / "complete").exists():
        install_packages()
        print(f"making the environment {where}", file=sys.stderr)
        shutil.rmtree(where, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", where], check=True)
        pip: list[str | Path] = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "setuptools>=66", "wheel"], check=True)
        subprocess.run([*pip, "-e", f"{ROOT}[test,v4l2,gpio]"], check=True)
        stamp.write_text(_pixels_digest())
        (where / "complete").touch()
    elif not _extension_current(stamp):
        install_packages()
        print("building the pixel kernel", file=sys.stderr)
        subprocess.run([python, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT, check=True)
        stamp.write_text(_pixels_digest())


def prepare_bench(where: Path) -> None:
    """What `make bench` compares with: a library onto the machine, the rest into the venv."""
    install_packages(BENCH_NEEDS)
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    wanted = declared["options.extras_require"]["bench"].split()
    stamp = where / "bench.txt"
    if not stamp.exists() or stamp.read_text().split() != wanted:
        print("installing what the bench compares with", file=sys.stderr)
        python = where / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=True)
        stamp.write_text("\n".join(wanted))


def prepare_test() -> None:
    """What some tests are left out without, where this machine lets us."""
    try:
        install_packages(TEST_NEEDS)
    except (SystemExit, subprocess.CalledProcessError) as error:
        print(f"some tests will be skipped: {error}", file=sys.stderr)


def main() -> int:
    """``--where`` prints the venv's place without making it; ``--test`` and ``--bench`` add what those need."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--where", action="store_true", help="print the venv's place and do nothing")
    parser.add_argument("--test", action="store_true", help="install what some tests are skipped without, too")
    parser.add_argument("--bench", action="store_true", help="install what the bench compares with, too")
    chosen = parser.parse_args()
    if sys.version_info[:2] < LEAST_PYTHON:
        wanted = ".".join(map(str, LEAST_PYTHON))
        raise SystemExit(
            f"maglens needs Python {wanted} or later, and {sys.executable} is {sys.version.split()[0]}"
            f"\n  try: the same with PYTHON=python{wanted} behind it"
        )
    if chosen.where:
        print(venv())
        return 0
    where = prepare()
    if chosen.test:
        prepare_test()
    if chosen.bench:
        prepare_bench(where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
