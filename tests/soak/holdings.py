# SPDX-License-Identifier: GPL-2.0-or-later
"""Holdings: what a process holds, read from /proc, and whether it grew."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1024
FEWEST = 3  # values of which a median is made


@dataclass(frozen=True, slots=True)
class Holdings:
    """Open files, threads, and proportional set size in KiB (Documentation/filesystems/proc.rst)."""

    fds: int
    threads: int
    pss_kib: int

    def grown(self, earlier: Holdings, pss_mib: float) -> list[str]:
        """What is more than it was, memory by more than ``pss_mib``. Fewer open files or threads are no leak: one was
        about to be closed when they were counted first."""
        found = []
        if self.fds > earlier.fds:
            found.append(f"{earlier.fds} open files became {self.fds}")
        if self.threads > earlier.threads:
            found.append(f"{earlier.threads} threads became {self.threads}")
        if self.pss_kib - earlier.pss_kib > pss_mib * MIB:
            found.append(f"{earlier.pss_kib} KiB of memory became {self.pss_kib}")
        return found


def crept(kib: Sequence[int], allowed_mib: float) -> str:
    """Whether memory that goes up and down has grown all the same; empty where it has not. ``kib``: measured at even
    distances. The last third's median is held against the middle third's (the first is for settling), whose own mean
    deviation is allowed on top. Fewer than nine values say nothing."""
    third = len(kib) // 3
    if third < FEWEST:
        return ""
    middle, last = kib[-2 * third : -third], kib[-third:]
    before, after = statistics.median(middle), statistics.median(last)
    noise = statistics.fmean(abs(value - before) for value in middle)
    return f"{before:.0f} KiB of memory became {after:.0f}" if after - before > allowed_mib * MIB + noise else ""


def files(pid: int, proc: Path = Path("/proc")) -> set[str]:
    """What process ``pid`` has open, as "number path". It goes on meanwhile, and may close one that was listed."""
    found = set()
    for entry in (proc / str(pid) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{entry.name} {os.readlink(entry)}")
    return found


def of(pid: int, proc: Path = Path("/proc")) -> Holdings:
    """What process ``pid`` holds now; needs to be its user or root."""
    here = proc / str(pid)
    threads = re.search(r"^Threads:\s+(\d+)", (here / "status").read_text(), re.M)
    pss = re.search(r"^Pss:\s+(\d+)", (here / "smaps_rollup").read_text(), re.M)
    if threads is None or pss is None:
        raise ValueError(f"{here} does not tell its threads or memory")
    return Holdings(len(list((here / "fd").iterdir())), int(threads[1]), int(pss[1]))
