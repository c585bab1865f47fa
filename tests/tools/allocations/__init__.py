# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocations: counts what a process asks for in large pieces, whoever asks: Python, numpy, libraries, our extension.

The process has to be started with :func:`environment`; it then counts between :func:`arm` and :func:`disarm`.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

HEADER = 64  # bytes that an object of Python may have beside its contents
LARGE = 4096 + HEADER  # larger pieces are counted: not what asyncio reads its own waking by, which is 4 KiB each time


def build(where: Path) -> Path:
    """The library that has to be preloaded."""
    where.mkdir(parents=True, exist_ok=True)
    library = where / "allocations.so"
    source = Path(__file__).with_name("allocations.c")
    command = [
        "cc",
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(source),
    ]
    subprocess.run([*command, "-ldl"], check=True)
    return library


def environment(library: Path) -> Mapping[str, str]:
    """For the process to be watched. Python's small objects come from its own pool; that asks for whole arenas."""
    return {**os.environ, "LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"}


def arm() -> None:
    """Count from now on. ``OSError`` without the library."""
    _library().allocations_arm(LARGE)


def disarm() -> tuple[int, int]:
    """How many large pieces were asked for, and the largest, in bytes."""
    library, largest = _library(), ctypes.c_size_t()
    count: int = library.allocations_disarm(ctypes.byref(largest))
    return count, largest.value


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    if not hasattr(library, "allocations_arm"):
        raise OSError("the library that counts allocations is not loaded")
    library.allocations_arm.argtypes = (ctypes.c_size_t,)
    library.allocations_disarm.restype = ctypes.c_long
    return library
