# SPDX-License-Identifier: GPL-2.0-or-later
"""Source: the kernel source to test against, and the Debian root file system that came with it."""

import hashlib
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.vm import cache
from tests.vm.host import environment, quiet
from tests.vm.progress import LabError, step

SUITE = "trixie"
PACKAGE = "linux-source-6.12"
PACKAGES = ["kmod", PACKAGE, "sparse", "v4l-utils"]
"""What the root file system holds besides essential Debian; sorted."""

OFFSETS = Path("arch/x86/um/user-offsets.c")
FP_SMALL = "DEFINE_LONGS(HOST_FP_SIZE, 2696)"
FP_LARGE = "DEFINE_LONGS(HOST_FP_SIZE, 12288)"
"""Until 6.13, UML has room for 2696 bytes of the host's floating-point state. On a processor with AMX that is
11008, and no process starts. The kernel takes what the host has, up to the room."""


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel source tree. `key` changes with its content; `path` must not be written to."""

    path: Path
    version: str
    key: str


def root() -> Path:
    """A Debian root file system with the kernel source package and v4l-utils: UML's root."""
    key = cache.key_of({"recipe": 1, "suite": SUITE, "packages": PACKAGES})
    return cache.entry("kernel-root", key, _bootstrap) / "root"


def _bootstrap(directory: Path) -> None:
    with step(f"Debian {SUITE} with {PACKAGE} and v4l-utils"):
        quiet(
            [
                "mmdebstrap",
                "--variant=minbase",
                "--mode=root",
                "--format=directory",
                '--aptopt=Acquire::Languages "none"',
                '--aptopt=APT::Install-Recommends "false"',
                f"--include={','.join(PACKAGES)}",
                SUITE,
                str(directory / "root"),
            ]
        )


def debian() -> Source:
    """Debian's kernel source, unpacked, with room for every host's floating-point state."""
    package = root()
    tarball = package / "usr/src" / f"{PACKAGE}.tar.xz"
    key = cache.key_of({"recipe": 1, "root": package.parent.name, "size": tarball.stat().st_size})

    def unpack(directory: Path) -> None:
        with step(f"unpacking {PACKAGE}"):
            quiet(["tar", "-xf", str(tarball), "-C", str(directory), "--strip-components=1"])
            offsets = directory / OFFSETS
            offsets.write_text(offsets.read_text().replace(FP_SMALL, FP_LARGE))

    path = cache.entry("kernel-source", key, unpack)
    return Source(path, _version(path), key)


def given(path: Path) -> Source:
    """A developer's own tree. LabError if it is none, or cannot run on this processor."""
    path = path.resolve()
    if not (path / "Kbuild").exists() or not (path / "arch/um").is_dir():
        raise LabError(f"{path} is not a kernel source tree", "make kernel-test KERNEL_SRC=path/to/linux")
    if (path / ".config").exists():
        raise LabError(f"{path} has been built in", f"make -C {path} mrproper (builds go elsewhere)")
    offsets = path / OFFSETS
    if FP_SMALL in offsets.read_text() and "amx_tile" in Path("/proc/cpuinfo").read_text():
        raise LabError(
            f"User Mode Linux of {_version(path)} cannot run on this processor (AMX)",
            f"replace {FP_SMALL} by {FP_LARGE} in {offsets}, or take 6.13 or later",
        )
    return Source(path, _version(path), cache.key_of({"path": str(path), "content": _fingerprint(path)}))


def _version(path: Path) -> str:
    text = (path / "Makefile").read_text()
    parts = [re.search(rf"^{name} *= *(\S*)$", text, re.M) for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    return ".".join(part.group(1) for part in parts if part)


def _fingerprint(path: Path) -> str:
    """Git's idea of the tree's content where it is a repository, else sizes and times of all files."""
    if not (path / ".git").exists():
        return hashlib.sha256(_stats(path, (f for f in path.rglob("*") if f.is_file()))).hexdigest()

    def git(*args: str) -> bytes:
        return subprocess.run(["git", *args], cwd=path, env=environment(), capture_output=True, check=True).stdout

    new = (
        path / name for name in git("ls-files", "-z", "--others", "--exclude-standard").decode().split("\0") if name
    )
    return hashlib.sha256(git("rev-parse", "HEAD") + git("diff", "HEAD") + _stats(path, new)).hexdigest()


def _stats(path: Path, files: Iterable[Path]) -> bytes:
    stats = sorted((str(file.relative_to(path)), file.lstat()) for file in files)
    return "".join(f"{name} {stat.st_size} {stat.st_mtime_ns}\n" for name, stat in stats).encode()
