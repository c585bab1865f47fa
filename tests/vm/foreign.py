# SPDX-License-Identifier: GPL-2.0-or-later
"""Foreign kernel: a developer's own kernel's modules, with ours built for it, as a disk for the machine."""

import shutil
from pathlib import Path

from tests.vm import layer
from tests.vm.host import quiet
from tests.vm.image import Image, make_disk
from tests.vm.progress import LabError, say, step

SPARE_MIB = 128
"""What the disk has beyond its files."""


def modules_directory(path: Path) -> Path:
    """The directory with modules.dep in `path`: itself, or the only one in its lib/modules."""
    if (path / "modules.dep").exists():
        return path.resolve()
    found = [p.parent for p in path.glob("lib/modules/*/modules.dep")]
    if len(found) != 1:
        raise LabError(
            f"{path} has {len(found)} modules directories with a modules.dep",
            "make modules_install INSTALL_MOD_PATH=DIR, then MODULES=DIR",
        )
    return found[0].resolve()


def modules_disk(image: Image, modules: Path, scratch: Path) -> Path:
    """The disk to mount on /usr/lib/modules/RELEASE. Ours are in it if `modules`/build leads to a build tree."""
    work = scratch / "work"
    stage = work / "lib/modules" / modules.name
    with step(f"packing the modules of {modules.name}"):
        shutil.copytree(modules, stage, symlinks=True, ignore=shutil.ignore_patterns("build", "source"))
        build = modules / "build"
        if (build / "Makefile").exists():
            _build(image, build.resolve(), scratch, stage / "updates")
        else:
            say(f"{build} leads to no build tree: no maglens.ko and no v4l2loopback.ko for this kernel")
        layer.chroot(image, work, f"depmod -b /mnt {modules.name}")
        size = sum(path.lstat().st_size for path in stage.rglob("*")) >> 20
        disk = scratch / "modules.img"
        make_disk(disk, size + size // 4 + SPARE_MIB, "modules", stage)
    return disk


def _build(image: Image, build: Path, scratch: Path, target: Path) -> None:
    """Build v4l2loopback (the image's source) and our module with the compiler of this machine."""
    sources = [*(image.tree / "usr/src").glob("v4l2loopback-*")]
    if (layer.TREE / "driver/kernel/Kbuild").exists():
        sources.append(layer.TREE / "driver/kernel")
    target.mkdir(exist_ok=True)
    for source in sources:
        work = scratch / f"build-{source.name}"
        shutil.copytree(source, work, ignore=shutil.ignore_patterns("*.o", "*.ko", "*.cmd", "*.mod*"))
        quiet(["make", "-C", str(build), f"M={work}", "modules"])
        for path in work.glob("*.ko"):
            shutil.copy(path, target)
