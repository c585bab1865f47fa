# SPDX-License-Identifier: GPL-2.0-or-later
"""Idle: what the service costs while nobody watches. Processor time, memory, and bulk transfers."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.soak import holdings
from tests.vm.guest.devices import succeed

CPU_PERCENT = 0.5
EMULATED = 4.0  # times as much: an emulated processor does Python's work ten times as slowly
PSS_MIB = 60.0

DEBUG = Path("/sys/kernel/debug")
USBMON = DEBUG / "usb/usbmon/0u"  # every bus, as text (Documentation/usb/usbmon.rst)
BULK = re.compile(rb" [SC] B[io]:")
AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Idle:
    """Of a stretch of ``seconds``: the process's time as a part of one core in percent, the bulk transfers begun or
    ended on any bus, and the memory at its end in MiB (PSS)."""

    seconds: float
    cpu_percent: float
    bulk: int
    pss_mib: float

    def over(self) -> list[str]:
        """What is more than was promised."""
        emulated = succeed("systemd-detect-virt").strip() == "qemu"
        percent = CPU_PERCENT * (EMULATED if emulated else 1)
        found = {
            f"{self.bulk} bulk transfers": self.bulk == 0,
            f"{self.cpu_percent:.2f} % of a core": self.cpu_percent < percent,
            f"{self.pss_mib:.1f} MiB": self.pss_mib < PSS_MIB,
        }
        return [what for what, kept in found.items() if not kept]


def measure(pid: int, seconds: float) -> Idle:
    """Watch the process and the buses for so long."""
    with _usbmon() as monitor:
        began, spent = time.monotonic(), _cpu_ns(pid)
        end, bulk, rest = began + seconds, 0, b""
        while (left := end - time.monotonic()) > 0:
            if not select.select([monitor], [], [], left)[0]:
                break
            try:
                data = os.read(monitor, AT_ONCE)
            except BlockingIOError:  # usbmon calls itself readable for what it then filters out
                continue
            *lines, rest = (rest + data).split(b"\n")
            bulk += sum(BULK.search(line) is not None for line in lines)
        took = time.monotonic() - began
        cpu = (_cpu_ns(pid) - spent) / 1e7 / took
    return Idle(took, cpu, bulk, holdings.of(pid).pss_kib / holdings.MIB)


def _cpu_ns(pid: int) -> int:
    """Time on a processor of all threads, ns (Documentation/scheduler/sched-stats.rst)."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


@contextmanager
def _usbmon() -> Iterator[int]:
    succeed("modprobe", "usbmon")
    if not USBMON.exists():
        succeed("mount", "-t", "debugfs", "none", DEBUG)
    monitor = os.open(USBMON, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield monitor
    finally:
        os.close(monitor)
