# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs calls.py in a Python that has the sanitizers loaded, on the extension as it is or with a bug planted."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.pixels.build import CACHE, HERE, PIXELS, ROOT, Lacking, extension, sanitizer_library

PLANTED = sorted((HERE / "planted").glob("*.patch"))
REPORT_BYTES = 6000
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "PYTHONMALLOC": "malloc",  # else small blocks lie side by side in an arena
    # Too large an allocation fails instead of ending the process. A block's history is two calls deep: it tells who
    # has allocated it, Python or we.
    "ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=512:malloc_context_size=2",
    "LSAN_OPTIONS": f"suppressions={HERE / 'python.supp'}:print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


class Found(Exception):
    """A case did what it must not; the text names it and has the sanitizer's report."""


def run_calls(library: Path, first: int, count: int) -> str:
    """How many calls of each kind were made, from seed `first` on. Found: one of them went wrong."""
    with tempfile.NamedTemporaryFile() as notes:
        command = [sys.executable, "-m", "tests.fuzz.pixels.calls", str(library), str(first), str(count), notes.name]
        environment = ENVIRONMENT | {"LD_PRELOAD": str(sanitizer_library())}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
        if done.returncode:
            where = notes.read().decode(errors="replace").strip()
            raise Found(f"in or before {where}\n{done.stderr[:REPORT_BYTES]}")
    return done.stdout.strip()


def planted(patch: Path, into: Path = CACHE) -> Path:
    """The extension with this bug. Raises as `build.extension` does."""
    if shutil.which("patch") is None:
        raise Lacking("patch")
    with tempfile.TemporaryDirectory() as where:
        tree = Path(where, "pixels")
        shutil.copytree(PIXELS, tree)
        subprocess.run(["patch", "-s", "-p1", "-d", str(tree), "-i", str(patch)], check=True)
        return extension(into, tree)
