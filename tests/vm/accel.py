# SPDX-License-Identifier: GPL-2.0-or-later
"""Acceleration: KVM where a real boot under it succeeds, else QEMU's translator (TCG).

/dev/kvm being there says little: inside some virtual machines a stock kernel hangs or aborts under it. So
the stock kernel is booted once under a short limit, and the answer is kept per machine.
"""

import os
import platform
import subprocess
import tempfile
from pathlib import Path

from tests.vm import cache, initrd
from tests.vm.host import environment
from tests.vm.image import Image
from tests.vm.progress import LabError, say

PROBE_S = 15
"""A boot to the initrd takes about a second under KVM."""

TCG = ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max")
KVM = ("-accel", "kvm", "-cpu", "host")
NAMES = {"kvm": KVM, "tcg": TCG}
PLAIN = ",avx=off,avx2=off,fma=off,f16c=off"
"""What to take from the processor that QEMU 7.2 emulates: LLVM's JIT, as used by llvmpipe, crashes on its AVX."""
VARIABLE = "MAGLENS_VM_ACCEL"
"""Environment variable that overrides the probe: kvm or tcg."""


def options(name: str, *, plain: bool) -> list[str]:
    """QEMU's options. plain: leave out what breaks software rendering when emulated."""
    chosen = list(NAMES[name])
    if plain and name == "tcg":
        chosen[-1] += PLAIN
    return chosen


def acceleration(image: Image) -> str:
    """'kvm' or 'tcg'."""
    forced = os.environ.get(VARIABLE)
    if forced:
        if forced not in NAMES:
            raise LabError(f"{VARIABLE}={forced}", f"use one of: {', '.join(NAMES)}")
        return forced
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    kernel = platform.uname()
    key = cache.key_of([kernel.node, kernel.release, kernel.version, _processor(), image.release])

    def probe(directory: Path) -> None:
        works = _probe(image)
        say(f"KVM {'works' if works else 'is there but does not boot a stock kernel: emulating'}")
        (directory / "answer").write_text("kvm" if works else "tcg")

    return (cache.entry("accel", key, probe) / "answer").read_text()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _probe(image: Image) -> bool:
    say(f"probing KVM with a boot of at most {PROBE_S} s ...")
    with tempfile.TemporaryDirectory() as scratch:
        disk = Path(scratch) / "initrd"
        initrd.pack(disk, image.tree / "usr/bin/busybox", image.modules, {})
        command = [
            "qemu-system-x86_64", *KVM, "-m", "512M", "-smp", "2", "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", str(image.kernel),
            "-initrd", str(disk), "-append", "console=ttyS0 quiet panic=-1 maglens.probe",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                timeout=PROBE_S,
                stdin=subprocess.DEVNULL,
                env=environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return initrd.PROBE_OK.encode() in done.stdout
