# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds what is fuzzed, each file once: exercise.c in its variants, and the whole extension under sanitizers."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PIXELS = ROOT / "v4l2_bridge/maglens_v4l2/pixels"
CACHE = ROOT / "build/fuzz/pixels"
EXERCISE = HERE / "exercise.c"
SANITIZERS = "-fsanitize=address,undefined"
SANITIZE = ("-g", "-O1", "-fno-inline", "-fPIC", SANITIZERS, "-fno-sanitize-recover=all", "-DWITH_JPEG")
SANITIZED_ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
LINKS = ("-lm", "-pthread")


class Lacking(Exception):
    """A tool is not installed; the text names it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to build and run the program."""

    name: str
    compiler: str
    flags: tuple[str, ...]
    runner: tuple[str, ...] = ()

    @property
    def tools(self) -> tuple[str, ...]:
        """What must be installed."""
        return (self.compiler, *self.runner[:1])

    @property
    def jpeg(self) -> bool:
        """Only where libturbojpeg is."""
        return "-DWITH_JPEG" in self.flags


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("sanitized", "gcc", SANITIZE),
        Variant("plain", "gcc", ("-O3",)),
        Variant("aarch64", "aarch64-linux-gnu-gcc", ("-O3", "-static"), ("qemu-aarch64",)),
    )
}
EXTENSION = Variant(
    "extension",
    "gcc",
    (*SANITIZE, "-fvisibility=hidden", "-DPy_LIMITED_API=0x030B0000", f"-I{sysconfig.get_paths()['include']}"),
)


def python_parts(tree: Path) -> set[str]:
    """Names of the files that are about Python's objects."""
    return {"module.c", "pyobj.c"} | {path.name for path in tree.glob("py_*.c")}


def compiled(variant: Variant, source: Path, tree: Path, into: Path) -> Path:
    """The object file of `source`, named after everything that it is made of: what is unchanged is built once."""
    command = [
        variant.compiler, "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror",
        *variant.flags,
    ]  # fmt: skip
    of = hashlib.sha256(repr(command).encode())
    for path in (source, *sorted(tree.glob("*.h"))):
        of.update(path.name.encode() + b"\0" + path.read_bytes())
    made = into / f"{source.stem}-{of.hexdigest()[:16]}.o"
    if not made.exists():
        unfinished = made.with_suffix(".part")
        command += [f"-I{tree}", "-c", str(source), "-o", str(unfinished)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        unfinished.rename(made)
    return made


def linked(variant: Variant, objects: list[Path], flags: tuple[str, ...], name: str) -> Path:
    """A program or library in the objects' folder, `name` having a place for the digest."""
    digest = hashlib.sha256(repr((variant, flags, [path.name for path in objects])).encode()).hexdigest()[:16]
    made = objects[0].parent / name.format(digest)
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        unfinished = made.with_suffix(".part")
        command = [variant.compiler, *variant.flags, *flags, *map(str, objects), "-o", str(unfinished), *LINKS]
        command += ["-lturbojpeg"] if variant.jpeg else []
        subprocess.run(command, check=True, capture_output=True, text=True)
        unfinished.rename(made)
    return made


def ready(variant: Variant, into: Path) -> None:
    """Lacking: a tool is missing."""
    for tool in variant.tools:
        if shutil.which(tool) is None:
            raise Lacking(tool)
    into.mkdir(parents=True, exist_ok=True)


def build(variant: Variant, into: Path = CACHE, tree: Path = PIXELS) -> Path:
    """exercise.c's program. Lacking: a tool is missing. CalledProcessError: it does not compile."""
    ready(variant, into)
    skipped = python_parts(tree) if variant.jpeg else python_parts(tree) | {"jpeg.c"}
    sources = [EXERCISE, *(path for path in sorted(tree.glob("*.c")) if path.name not in skipped)]
    objects = [compiled(variant, path, tree, into) for path in sources]
    return linked(variant, objects, (), f"exercise-{variant.name}-{{}}")


def extension(into: Path = CACHE, tree: Path = PIXELS) -> Path:
    """The extension of `tree`, all of it, under sanitizers. Raises as `build` does."""
    ready(EXTENSION, into)
    sanitized, python = VARIANTS["sanitized"], python_parts(tree)
    objects = [
        compiled(EXTENSION if path.name in python else sanitized, path, tree, into)
        for path in sorted(tree.glob("*.c"))
    ]
    return linked(EXTENSION, objects, ("-shared",), "{}/_pixels.so")


def sanitizer_library() -> Path:
    """What a Python without sanitizers must load first. Lacking: the compiler has none."""
    command = [EXTENSION.compiler, "-print-file-name=libasan.so"]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    found = Path(asked.stdout.strip())
    if not found.is_absolute():  # the name alone where there is none
        raise Lacking("libasan")
    return found.resolve()


def run(variant: Variant, program: Path, first: int, count: int) -> str:
    """The checksum of `count` cases from seed `first` on. CalledProcessError carries a sanitizer's report."""
    command = [*variant.runner, str(program), str(first), str(count)]
    environment = {"PATH": "/usr/bin:/bin", **SANITIZED_ENVIRONMENT}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()
