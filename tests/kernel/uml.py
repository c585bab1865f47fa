# SPDX-License-Identifier: GPL-2.0-or-later
"""Uml: a kernel built as a process, with or without sanitizers, and modules built for it."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.source import Source
from tests.vm import cache
from tests.vm.host import environment, quiet
from tests.vm.progress import LabError, step

HERE = Path(__file__).parent
DRIVER = HERE.parents[1] / "driver/kernel"
TOOLS = {
    "bc": "bc",
    "bison": "bison",
    "depmod": "kmod",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "mmdebstrap": "mmdebstrap",
    "perl": "perl",
    "sparse": "sparse",
}
"""Program -> Debian package."""

MODULES = "installed"
JOBS = min(2, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Uml:
    """A built kernel: `build` is what modules are built against, `linux` the program.

    `modules` holds lib/modules/RELEASE, the kernel's own modules.
    """

    build: Path
    linux: Path
    modules: Path
    version: str
    release: str
    sanitized: bool


def need_tools() -> None:
    """Install, or name, what building a kernel takes."""
    path = environment()["PATH"]
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LabError(f"missing: {' '.join(missing)}", f"apt-get install {' '.join(missing)}")
    with step(f"installing {' '.join(missing)}"):
        quiet(["apt-get", "update"])
        quiet(["apt-get", "install", "-y", "--no-install-recommends", *missing])


def kernel(source: Source, sanitized: bool) -> Uml:
    """The kernel of this source, from the cache or built (4 minutes on two cores; with sanitizers 7)."""
    fragments = [HERE / "uml.config", HERE / ("uml-debug.config" if sanitized else "uml-plain.config")]
    facts = {"recipe": 2, "source": source.key, "fragments": [f.read_text() for f in fragments]}

    def build(directory: Path) -> None:
        what = "with sanitizers" if sanitized else "plain"
        with step(f"building User Mode Linux {source.version}, {what}"):
            make = ["make", "-s", "-C", str(source.path), "ARCH=um", f"O={directory}"]
            quiet([*make, "defconfig"])
            merge = ["scripts/kconfig/merge_config.sh", "-O", str(directory), "-m", str(directory / ".config")]
            quiet([*merge, *map(str, fragments)], {"ARCH": "um"}, cwd=str(source.path))
            quiet([*make, "olddefconfig"])
            _check_config(directory / ".config", fragments)
            quiet([*make, f"-j{JOBS}", "linux", "modules"])
            quiet([*make, f"INSTALL_MOD_PATH={directory / MODULES}", "INSTALL_MOD_STRIP=1", "modules_install"])
            _trim(directory)

    path = cache.entry("uml", cache.key_of(facts), build)
    release = (path / "include/config/kernel.release").read_text().strip()
    return Uml(path, path / "linux", path / MODULES, source.version, release, sanitized)


def _check_config(config: Path, fragments: Sequence[Path]) -> None:
    """LabError if Kconfig has dropped an option that was asked for."""
    got = set(config.read_text().splitlines())
    lines = [line for f in fragments for line in f.read_text().splitlines() if line.startswith("CONFIG_")]
    wanted = {line.partition("=")[0]: line for line in lines}  # a later fragment overrides
    dropped = [line for line in wanted.values() if line not in got]
    if dropped:
        raise LabError(f"this kernel does not take {', '.join(dropped)}", f"see {config}")


def _trim(directory: Path) -> None:
    """Remove what neither running nor building modules needs: nine tenths of the space."""
    for path in directory.rglob("*"):
        if path.suffix in (".o", ".a", ".cmd") and "scripts" not in path.parts and "tools" not in path.parts:
            path.unlink(missing_ok=True)
    (directory / "vmlinux").unlink(missing_ok=True)


def module(uml: Uml, where: Path, patch: Path | None = None) -> Path:
    """maglens.ko for this kernel, built from a copy of the driver in `where`, patched if asked for."""
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(DRIVER, where)
    if patch:
        quiet(["patch", "-p1", "-d", str(where), "-i", str(patch)])
    coverage = ["KCOV_INSTRUMENT=y"] if uml.sanitized else []
    quiet(["make", "-C", str(uml.build), "ARCH=um", f"M={where}", *coverage, "modules"])
    return where / "maglens.ko"


def program(name: str, sources: Sequence[Path], where: Path) -> Path:
    """A test program, linked statically so that it runs in any root file system."""
    where.mkdir(parents=True, exist_ok=True)
    include = DRIVER / "include/uapi/linux"
    warn = ["-Wall", "-Wextra", "-Werror"]
    quiet(["gcc", "-O2", "-static", *warn, f"-I{include}", *map(str, sources), "-o", str(where / name)])
    return where / name
