# SPDX-License-Identifier: GPL-2.0-or-later
"""Image: a Debian root file system with the stock kernel, as a tree (to build in) and as a disk (to boot)."""

import os
import re
import select
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm import cache
from tests.vm.host import environment, quiet
from tests.vm.progress import LabError, say, step

RECIPE = 5
"""Raise when the way of building changes; part of the cache key."""

SUITE = "trixie"
DISK_MIB = 6144
"""Size of the root disk; the file is sparse."""

QUIET_S = 15
"""A build says something at least this often, in seconds."""

BASE = [
    "linux-image-amd64",
    "linux-headers-amd64",
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "polkitd",
    "libpam-systemd",
    "dkms",
    "v4l2loopback-dkms",
    "v4l2loopback-utils",
    "v4l-utils",
    "ffmpeg",
    "gstreamer1.0-tools",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "python3-numpy",
    "python3-pyudev",
    "python3-usb",
    "python3-usb1",
    "python3-cbor2",
    "python3-crc32c",
    "python3-dbus-fast",
    "python3-pil",
    "python3-pytest",
    "python3-pytest-asyncio",
    "python3-hypothesis",
    "python3-venv",
    "python3-pip",
    "python3-setuptools",
    "python3-wheel",
    "python3-dev",
    "python3-libcamera",
    "libcamera-ipa",
    "libcamera-tools",
    "gcc",
    "make",
    "libturbojpeg0-dev",
    "libusb-1.0-0-dev",
    "libudev-dev",
    "strace",
    "procps",
    "psmisc",
    "kmod",
    "usbutils",
    "busybox-static",
    "python3-pytest-timeout",
    "python3-libgpiod",
    "i2c-tools",
    "usbip",
    "lsof",
    "pkgconf",
    "ccache",
]

EXTRA: dict[str, list[str]] = {
    "chromium": ["chromium"],
    "obs": ["obs-studio", "xvfb", "openbox", "dbus", "xdotool", "x11-apps", "imagemagick", "libgl1-mesa-dri"],
    "reference": ["python3-opencv", "python3-tifffile", "libraw-bin", "exiftool"],
    "pipewire": ["pipewire", "pipewire-v4l2", "wireplumber", "gstreamer1.0-pipewire"],
}
"""Optional package sets (`--extra NAME`); each combination is an image of its own."""

SOFTWARE_RENDERING = frozenset(("chromium", "obs"))
"""Sets whose programs draw with llvmpipe."""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image. Nothing may write to it: runs use overlays."""

    key: str
    tree: Path
    disk: Path
    release: str

    @property
    def kernel(self) -> Path:
        """The stock kernel."""
        return self.tree / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        """The stock kernel's modules directory."""
        return self.tree / "usr/lib/modules" / self.release


def packages(extra: Sequence[str]) -> list[str]:
    """The sorted package list for these extra sets."""
    unknown = [name for name in extra if name not in EXTRA]
    if unknown:
        raise LabError(f"no extra package set {unknown[0]!r}", f"one of: {', '.join(EXTRA)}")
    return sorted({*BASE, *(package for name in extra for package in EXTRA[name])})


def image(extra: Sequence[str] = ()) -> Image:
    """The image with these extra package sets, from the cache or built (about two minutes)."""
    wanted = packages(extra)
    key = cache.key_of({"recipe": RECIPE, "suite": SUITE, "packages": wanted, "disk": DISK_MIB})
    path = cache.entry("image", key, lambda directory: _build(directory, wanted))
    return Image(key, path / "root", path / "disk.img", (path / "release").read_text().strip())


def _build(directory: Path, wanted: Sequence[str]) -> None:
    tree = directory / "root"
    with step(f"building the Debian {SUITE} image, {len(wanted)} packages and what they need"):
        _bootstrap(tree, wanted, directory / "mmdebstrap.log")
        releases = sorted(p.name for p in (tree / "usr/lib/modules").iterdir() if (p / "modules.dep").exists())
        if not releases:
            raise LabError("the image has no kernel", f"see {directory}/mmdebstrap.log")
        if not list((tree / "usr/lib/modules" / releases[-1]).glob("updates/dkms/v4l2loopback.ko*")):
            raise LabError("DKMS did not build v4l2loopback in the image", f"see {directory}/mmdebstrap.log")
        (directory / "release").write_text(releases[-1] + "\n")
        say("making the disk")
        make_disk(directory / "disk.img", DISK_MIB, "root", tree)


def make_disk(path: Path, mib: int, label: str, tree: Path | None = None) -> None:
    """Make a sparse ext4 disk file, filled from a tree. No journal: a run's disk never outlives a crash."""
    with path.open("wb") as handle:
        handle.truncate(mib << 20)
    source = ["-d", str(tree)] if tree else []
    features = "^has_journal,^metadata_csum"
    quiet(["mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-O", features, "-m", "0", *source, str(path)])


def _bootstrap(tree: Path, wanted: Sequence[str], log: Path) -> None:
    command = [
        "mmdebstrap",
        "--variant=minbase",
        "--mode=root",
        "--format=directory",
        "--components=main",
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--include={','.join(wanted)}",
        SUITE,
        str(tree),
    ]
    # INITRD=No: Debian's kernel packages then skip the stock initrd; the lab packs its own, much smaller one.
    env = {**environment(), "INITRD": "No", "DEBIAN_FRONTEND": "noninteractive"}
    os.umask(0o022)
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env
        ) as process,
    ):
        assert process.stdout is not None
        rest = b""
        while True:
            if not select.select([process.stdout], [], [], QUIET_S)[0]:
                say(f"  {len(list(tree.glob('var/lib/dpkg/info/*.list')))} packages unpacked")
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                break
            out.write(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if re.match(rb"I: (running|download|extract|install|success)", line):
                    say(f"  {line.decode(errors='replace').strip()}")
    if process.returncode:
        for text_line in log.read_text(errors="replace").splitlines()[-30:]:
            say(f"  | {text_line}")
        raise LabError("mmdebstrap failed", f"is the Debian mirror reachable? The log is {log}")
