# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds exercise.c in its variants and runs it: sanitized, plain, and for aarch64 under qemu's user emulation."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PIXELS = HERE.parents[2] / "v4l2_bridge/maglens_v4l2/pixels"
SANITIZE = ("-g", "-O1", "-fno-inline", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DWITH_JPEG")
SANITIZED_ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
CACHE = HERE.parents[2] / "build/fuzz/pixels"
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


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("sanitized", "gcc", SANITIZE),
        Variant("plain", "gcc", ("-O3",)),
        Variant("aarch64", "aarch64-linux-gnu-gcc", ("-O3", "-static"), ("qemu-aarch64",)),
    )
}


def sources(jpeg: bool) -> list[Path]:
    """The kernels without their Python parts; jpeg.c only where libturbojpeg is."""
    python = {"module.c", "pyobj.c"} | {path.name for path in PIXELS.glob("py_*.c")}
    skipped = python if jpeg else python | {"jpeg.c"}
    return [path for path in sorted(PIXELS.glob("*.c")) if path.name not in skipped]


def digest(variant: Variant) -> str:
    """Of everything that the program is made of, so that an unchanged one is built once."""
    of = hashlib.sha256(repr(variant).encode())
    for path in (Path(__file__), HERE / "exercise.c", *sorted(PIXELS.glob("*.[ch]"))):
        of.update(path.read_bytes())
    return of.hexdigest()[:16]


def build(variant: Variant, into: Path) -> Path:
    """The program's path. Lacking: a tool is missing. CalledProcessError: it does not compile."""
    for tool in variant.tools:
        if shutil.which(tool) is None:
            raise Lacking(tool)
    jpeg = "-DWITH_JPEG" in variant.flags
    program = into / f"exercise-{variant.name}-{digest(variant)}"
    if program.exists():
        return program
    into.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(".part")
    command = [
        variant.compiler, "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror",
        *variant.flags,
        f"-I{PIXELS}", str(HERE / "exercise.c"), *map(str, sources(jpeg)), "-o", str(unfinished), *LINKS,
        *(["-lturbojpeg"] if jpeg else []),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    return unfinished.rename(program)


def run(variant: Variant, program: Path, first: int, count: int) -> str:
    """The checksum of `count` cases from seed `first` on. CalledProcessError carries a sanitizer's report."""
    command = [*variant.runner, str(program), str(first), str(count)]
    environment = {"PATH": "/usr/bin:/bin", **SANITIZED_ENVIRONMENT}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()
