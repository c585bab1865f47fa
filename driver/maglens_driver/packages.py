# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages: what distributions call the things that we tell people to install. Imports nothing but the standard
library: the installer reads this file, too."""

from __future__ import annotations

import enum
import re
from pathlib import Path

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")


class Need(enum.Enum):
    """What is needed: its packages on Debian and its kin, and on Fedora and its kin. ``{release}``: the kernel's."""

    PIP = "python3-pip", "python3-pip"
    VENV = "python3-venv", "python3"
    BUILD = (
        "gcc python3-dev python3-setuptools python3-wheel libturbojpeg0-dev",
        "gcc python3-devel python3-setuptools python3-wheel turbojpeg-devel",
    )
    LIBUSB = "libusb-1.0-0", "libusb1"
    LIBUDEV = "libudev1", "systemd-libs"
    TURBOJPEG = "libturbojpeg0-dev", "turbojpeg"  # Ubuntu calls the library itself by another name than Debian
    FFMPEG = "ffmpeg", "ffmpeg-free"
    LIBCAMERA = "python3-libcamera", "python3-libcamera"
    GPIOD = "python3-libgpiod", "python3-libgpiod"
    DKMS = "dkms", "dkms"
    HEADERS = "linux-headers-{release}", "kernel-devel-{release}"
    LOOPBACK = "v4l2loopback-dkms", "akmod-v4l2loopback"  # Fedora's is RPM Fusion's
    MOKUTIL = "mokutil", "mokutil"


def os_release() -> str:
    """This machine's os-release; empty where there is none."""
    return next((path.read_text(errors="replace") for path in map(Path, OS_RELEASE) if path.exists()), "")


def install(*needs: Need, release: str = "$(uname -r)", system: str | None = None) -> str:
    """The command that installs ``needs`` on the system of which ``system`` is os-release, or on this one."""
    said = os_release() if system is None else system
    kin = " ".join(re.findall(r"""^ID(?:_LIKE)?=["']?([^"'\n]*)""", said, re.MULTILINE)).split()
    debian, fedora = (" ".join(need.value[place] for need in needs).format(release=release) for place in (0, 1))
    if "debian" in kin:  # itself, Ubuntu, Raspberry Pi OS, Mint
        return f"sudo apt-get install {debian}"
    if "fedora" in kin:
        return f"sudo dnf install {fedora}"
    return f"install what Debian calls {debian}"
