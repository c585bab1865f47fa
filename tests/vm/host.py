# SPDX-License-Identifier: GPL-2.0-or-later
"""Host: the programs of this machine that the lab needs, and what to do when they are missing."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from tests.vm.progress import LabError, say, step

TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "git": "git",
    "tar": "tar",
    "unshare": "util-linux",
}
"""Program -> Debian package."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def environment() -> dict[str, str]:
    """os.environ with the sbin directories on PATH (mke2fs lives there) and a plain locale."""
    path = os.environ.get("PATH", os.defpath).split(":")
    return {**os.environ, "PATH": ":".join([*path, *(d for d in SBIN if d not in path)]), "LC_ALL": "C.UTF-8"}


def ensure() -> None:
    """Install the packages that are missing if this is root on a Debian-like machine, else name them."""
    path = environment()["PATH"]
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None}
    if not os.path.exists(KEYRING):
        missing.add("debian-archive-keyring")
    if subprocess.run(["python3", "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        missing.add("python3-pip")
    if os.geteuid() != 0:
        what = f"; also install {' '.join(sorted(missing))}" if missing else ""
        raise LabError(f"the VM lab builds its image in a chroot and needs root{what}", "sudo make test-vm")
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *sorted(missing)]
    if shutil.which("apt-get") is None:
        raise LabError(f"missing: {' '.join(sorted(missing))} (names of the Debian packages)")
    with step(f"installing {' '.join(sorted(missing))}"):
        quiet(["apt-get", "update"])
        quiet(command, {"DEBIAN_FRONTEND": "noninteractive"})


def quiet(command: Sequence[str], env: dict[str, str] | None = None, cwd: str | None = None) -> str:
    """Run a command; its output is returned, and shown only when it fails (LabError)."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**environment(), **(env or {})},
        cwd=cwd,
        check=False,
    )
    if done.returncode:
        for line in done.stdout.splitlines()[-60:]:
            say(f"  | {line}")
        raise LabError(f"{' '.join(command)[:300]} failed with status {done.returncode}")
    return done.stdout
