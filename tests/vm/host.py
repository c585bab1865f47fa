# SPDX-License-Identifier: GPL-2.0-or-later
"""Host: the programs of this machine that the lab needs, and what to do when they are missing."""

import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence

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


def need(tools: Mapping[str, str], others: Collection[str] = ()) -> None:
    """Have these programs (program -> Debian package) and those ``others`` packages: installed if this is root on a
    Debian-like machine, else named in one line (LabError)."""
    path = environment()["PATH"]
    missing = sorted(
        {package for tool, package in tools.items() if shutil.which(tool, path=path) is None} | {*others}
    )
    if not missing:
        return
    packages = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LabError(f"missing: {packages} (names of the Debian packages)", f"sudo apt-get install {packages}")
    with step(f"installing {packages}"):
        quiet(["apt-get", "update"])
        command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
        quiet(command, {"DEBIAN_FRONTEND": "noninteractive"})


def ensure() -> None:
    """What the lab itself needs."""
    others = [] if os.path.exists(KEYRING) else ["debian-archive-keyring"]
    if subprocess.run(["python3", "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        others.append("python3-pip")
    need(TOOLS, others)
    if os.geteuid() != 0:
        raise LabError("the VM lab builds its image in a chroot and needs root", "sudo make test-vm")


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
