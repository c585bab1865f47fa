# SPDX-License-Identifier: GPL-2.0-or-later
"""Layer: the project as archives to unpack over the guest's root.

Two archives. `source` is the working tree (tracked files and new ones that git does not ignore) under
/usr/src/maglens; scenarios run from there. `installed` is what `make install` puts in place, made natively in
the image's tree (so that compiler, Python and kernel headers are the guest's), plus the kernel module. Both
are cached by content.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.vm import cache
from tests.vm.host import environment, quiet
from tests.vm.image import Image
from tests.vm.machine import Machine
from tests.vm.progress import LabError, say, step

RECIPE = 2
"""Raise when the way of making archives changes; part of the cache key."""

SOURCE = "/usr/src/maglens"
TREE = Path(__file__).resolve().parents[2]
WHEELS = ("linuxpy",)
"""Python packages that Debian does not have; v4l2py's successor. Wheels come from PyPI."""

KERNEL_MODULE = """
make -C /lib/modules/$VER/build M=/mnt/source/driver/kernel DEBIAN_KERNEL_USE_CCACHE=1 CCACHE=ccache modules
install -D -m 644 -t /mnt/root/usr/lib/modules/$VER/updates /mnt/source/driver/kernel/*.ko
mkdir -p /mnt/depmod/lib/modules/$VER/updates
cd /mnt/depmod/lib/modules/$VER
ln -s /usr/lib/modules/$VER/kernel .
cp /usr/lib/modules/$VER/modules.order /usr/lib/modules/$VER/modules.builtin* .
cp -r /usr/lib/modules/$VER/updates/. /mnt/root/usr/lib/modules/$VER/updates/. updates
depmod -b /mnt/depmod $VER
cp modules.* /mnt/root/usr/lib/modules/$VER
"""
"""Builds our module for the image's kernel and indexes it; depmod is quick here and slow in an emulated guest."""

FORGET = """set -e
mkdir -p /var/lib/maglens-lab
cd /var/lib/maglens-lab
sort >new
if [ -e "$0" ]; then comm -23 "$0" new | sort -r | (cd / && xargs -r -d '\\n' rm -fd -- 2>/dev/null || true); fi
mv new "$0"
"""
"""Removes what an archive of the same kind brought before and brings no more."""

AFTER = """set -e
systemd-sysusers
systemd-tmpfiles --create maglens.conf
touch /usr/lib/udev/rules.d /usr/lib/udev/rules.d/70-maglens.rules
udevadm control --reload
systemctl daemon-reload
if systemctl is-active -q dbus; then systemctl reload dbus; fi
"""
"""What `make install` does on a live system after it has put the files in place."""

START = """set -e
systemctl enable -q maglensd.service
udevadm trigger --subsystem-match=usb --subsystem-match=misc --subsystem-match=gpio --subsystem-match=input \
    --subsystem-match=dma_heap
systemctl restart maglensd.service
"""
"""And its last steps. That the service does not start is for the scenarios to judge, not for the lab."""


def files() -> list[str]:
    """The working tree's files, relative, sorted: tracked, or new and not ignored."""
    command = [
        "git",
        "-c",
        f"safe.directory={TREE}",
        "-C",
        str(TREE),
        "ls-files",
        "-z",
        "-co",
        "--exclude-standard",
    ]
    done = subprocess.run(command, capture_output=True, env=environment(), check=False)
    if done.returncode:
        raise LabError(f"git ls-files: {done.stderr.decode().strip()}", "run from a git checkout")
    found = {name for name in done.stdout.decode().split("\0") if name}
    return sorted(name for name in found if (TREE / name).is_file() or (TREE / name).is_symlink())


def wheels() -> Path:
    """A directory with the wheels, fetched once."""
    key = cache.key_of([RECIPE, WHEELS])

    def build(directory: Path) -> None:
        with step(f"fetching {', '.join(WHEELS)} from PyPI"):
            pip = ["python3", "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
            quiet([*pip, "--dest", str(directory), *WHEELS])

    return cache.entry("wheels", key, build)


def archives(image: Image, *, source_only: bool = False) -> list[Path]:
    """The archives, in the order in which to unpack them."""
    everything = files()
    source = _archive("source", everything, [RECIPE], lambda work: _stage(everything, work / "root" / SOURCE[1:]))
    if source_only:
        return [source]
    # Tests are no part of what is installed, so a changed scenario costs no reinstallation.
    shipped = [name for name in everything if not name.startswith("tests/") or name.endswith(".mk")]
    installed = _archive("installed", shipped, [RECIPE, image.key], lambda work: _install(image, shipped, work))
    return [source, installed]


def guest_directory(machine: Machine) -> str:
    """Where to start a command in the guest: the source tree if it is there."""
    return machine.output(["sh", "-c", f"test -d {SOURCE} && echo {SOURCE} || echo /root"]).strip()


def push(machine: Machine, paths: Sequence[Path], *, start: bool = True) -> None:
    """Unpack archives in the running guest and do what `make install` does on a live system after that.

    start: enable and start the service too.
    """
    with step(f"installing the project in {machine.name!r}"):
        for path in paths:
            with tarfile.open(path) as archive:
                names = archive.getnames()
            with path.open("rb") as stream:
                if machine.call(["tar", "-x", "-C", "/", "--keep-directory-symlink"], stdin=stream):
                    raise LabError(f"unpacking {path} failed in the guest")
            kind = path.parent.name.partition("-")[0]
            if machine.call(["sh", "-c", FORGET, kind], stdin="".join(f"{name}\n" for name in names).encode()):
                raise LabError(f"removing what {kind} no longer has failed in the guest")
            if kind == "installed":
                if machine.call(["sh", "-c", AFTER], stdout=_drop):
                    raise LabError("the steps after the installation failed in the guest")
                if start and machine.call(["sh", "-c", START], stdout=_drop):
                    say("maglensd.service did not start: python -m tests.vm sh 'journalctl -u maglensd'")


def _drop(_: bytes) -> None:
    """Ignore a command's output."""


def _archive(kind: str, names: Sequence[str], facts: list[object], fill: Callable[[Path], None]) -> Path:
    """The cached archive of what fill() puts under work/root."""
    digest = hashlib.sha256()
    for name in names:
        path = TREE / name
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        digest.update(f"{name}\0{path.lstat().st_mode:o}\0{len(content)}\0".encode() + content)

    def build(directory: Path) -> None:
        work = directory / "work"
        (work / "root").mkdir(parents=True)
        fill(work)
        tar = [
            "tar",
            "-c",
            "--owner=0",
            "--group=0",
            "-f",
            str(directory / "layer.tar"),
            "-C",
            str(work / "root"),
            ".",
        ]
        quiet(tar)
        cache.remove(work)

    return cache.entry(kind, cache.key_of([*facts, digest.hexdigest()]), build) / "layer.tar"


def _stage(names: Sequence[str], target: Path) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TREE / name, target / name, follow_symlinks=False)


def _install(image: Image, names: Sequence[str], work: Path) -> None:
    """Run `make install` and build the kernel module in the image's tree, which stays as it is."""
    if "Makefile" not in names:
        raise LabError("the tree has no Makefile, so nothing can be installed", "use --no-project")
    _stage(names, work / "source")
    script = (
        'export HOME=/tmp CC="ccache gcc" CCACHE_DIR=/mnt/ccache\n'
        "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/mnt/wheels PIP_CONFIG_FILE=/dev/null\n"
        "make -C /mnt/source install PREFIX=/usr DESTDIR=/mnt/root\n"
    )
    if "driver/kernel/Kbuild" in names:
        script += KERNEL_MODULE
    with step("installing the project in the image's tree (make install)"):
        chroot(image, work, f"VER={image.release}\n{script}")


def chroot(image: Image, work: Path, script: str) -> None:
    """Run a shell script in the image's tree, mounted read-only, with `work` at /mnt and an own /tmp."""
    tree = image.tree
    for name in ("wheels", "ccache", "tmp"):
        (work / name).mkdir()
    compiled = cache.root() / "ccache"
    compiled.mkdir(exist_ok=True)
    outer = (
        "set -e\n"
        'mount --bind "$TREE" "$TREE"; mount -o remount,bind,ro "$TREE"\n'
        'mount --bind "$WORK" "$TREE/mnt"; mount --bind "$WHEELS" "$TREE/mnt/wheels"\n'
        'mount --bind "$CCACHE" "$TREE/mnt/ccache"\n'
        'mount --bind "$WORK/tmp" "$TREE/tmp"\n'
        'mount -t proc proc "$TREE/proc"; mount -t tmpfs tmpfs "$TREE/dev"\n'
        'for d in null zero urandom random full; do : >"$TREE/dev/$d"; mount --bind /dev/$d "$TREE/dev/$d"; done\n'
        'mkdir "$TREE/dev/shm"\n'
        'exec chroot "$TREE" /bin/sh -ec "$SCRIPT"\n'
    )
    env = {"TREE": str(tree), "WORK": str(work), "WHEELS": str(wheels()), "CCACHE": str(compiled)}
    env["SCRIPT"] = script
    env["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    quiet(["unshare", "--mount", "--propagation", "private", "sh", "-c", outer], env)
