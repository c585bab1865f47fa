# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest: one boot of a User Mode Linux kernel that runs a shell script, and what the kernel said meanwhile."""

import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.kernel.uml import Uml
from tests.vm.progress import LabError

MEMORY = "3G"

SERIAL = "/dev/ttyS0"
"""What is written there in the guest, set to raw, reaches the host as it is (see boot)."""

Output = Callable[[bytes], None]

MOUNTS = ("debian", "layer", "memory")
"""Directories of the run's that init mounts on."""

COMPLAINTS = re.compile(
    r"BUG: |WARNING: |UBSAN: |INFO: (possible|suspicious|task|lockdep|trying|inconsistent)|ODEBUG: |Oops|"
    r"Kernel panic|refcount_t: |unreferenced object|general protection|possible recursive locking|"
    r"scheduling while atomic|Bad page|list_(add|del) corruption|segfault|Kernel mode fault",
)
"""What a kernel prints that is not well."""

NOT_OURS = re.compile(r"dev_set_name\+\S+\n\s+__video_register_device\+")
"""A leak of the kernel's own: where device_register() fails in it, 6.12 forgets put_device(), and the name stays."""

PRELUDE = """\
exec > /mnt/out/guest.log 2>&1
if [ -e /sys/kernel/debug/kmemleak ]; then echo clear > /sys/kernel/debug/kmemleak; fi
dmesg -c > /mnt/out/boot.dmesg
"""

EPILOGUE = """
dmesg > /mnt/out/dmesg
if [ -e /sys/kernel/debug/kmemleak ]; then
    # An object counts as leaked once it is five seconds old.
    sleep 6
    echo scan > /sys/kernel/debug/kmemleak
    echo scan > /sys/kernel/debug/kmemleak
    cat /sys/kernel/debug/kmemleak > /mnt/out/kmemleak
    echo clear > /sys/kernel/debug/kmemleak
fi
touch /mnt/out/finished
"""


@dataclass(frozen=True, slots=True)
class Boot:
    """What is left of a boot: files under `out`, whether the script came to its end, complaints and leaks."""

    out: Path
    finished: bool
    complaints: tuple[str, ...]
    leaks: int

    def text(self, name: str) -> str:
        """The contents of a file that the script wrote, empty if it did not."""
        path = self.out / name
        return path.read_text(errors="replace") if path.exists() else ""


def boot(
    uml: Uml,
    debian: Path,
    run: Path,
    script: str,
    limit_s: float,
    options: Sequence[str] = (),
    output: Output | None = None,
) -> Boot:
    """Boot with `run` on /mnt and run the script there; results belong into /mnt/out.

    `run` must hold bin/init (see programs/init.c). The boot is ended after limit_s seconds. options: more for the
    kernel's command line. output: called with what comes over the serial line, as it comes.
    """
    out = run / "out"
    for directory in (out, *(run / mount for mount in MOUNTS)):
        directory.mkdir(parents=True, exist_ok=True)
    (run / "guest.sh").write_text(PRELUDE + script + EPILOGUE)
    command = [
        str(uml.linux),
        f"mem={MEMORY}",
        "root=/dev/root",
        "rootfstype=hostfs",
        f"rootflags={run}",
        "rw",
        "init=/bin/init",
        f"DEBIAN={debian}",
        f"RUN={run}",
        "con0=null,fd:1",
        "con=null",
        "ssl=null",
        "quiet",
        # Or each removal of a device waits for several ticks.
        "rcupdate.rcu_expedited=1",
        *options,
    ]
    console = out / "console"
    with console.open("wb") as handle:
        _run(command, handle, limit_s, output)
    text = console.read_text(errors="replace")
    if "guest init: " in text:
        raise LabError(f"the guest did not start: {text[text.index('guest init: ') :].splitlines()[0]}")
    dmesg = (out / "dmesg").read_text(errors="replace") if (out / "dmesg").exists() else ""
    found = (out / "kmemleak").read_text(errors="replace") if (out / "kmemleak").exists() else ""
    leaks = [one for one in found.split("unreferenced object")[1:] if not NOT_OURS.search(one)]
    return Boot(out, (out / "finished").exists(), tuple(complaints(text + dmesg)), len(leaks))


def _run(command: list[str], console: IO[bytes], limit_s: float, output: Output | None) -> None:
    """Run a kernel to its end, or to the limit; its console goes to a file, its serial line to output()."""
    end = time.monotonic() + limit_s
    line, far = os.pipe()
    process = subprocess.Popen(
        [*command, f"ssl0=null,fd:{far}"],
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=[far],
    )
    os.close(far)
    try:
        while select.select([line], [], [], max(0.0, end - time.monotonic()))[0]:
            data = os.read(line, 1 << 16)
            if not data:
                break
            if output:
                output(data)
        process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        os.close(line)
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a kernel, if it has not ended, and the processes that it runs its own in; all are in its session."""
    members = subprocess.run(
        ["ps", "-o", "pid=", "--sid", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    for pid in members:
        subprocess.run(["kill", "-KILL", pid], check=False, stderr=subprocess.DEVNULL)
    process.wait()


def complaints(text: str) -> Iterable[str]:
    """The first line of each complaint, in order, each once."""
    lines = (re.sub(r"^\[[ \d.]+\] ", "", line) for line in text.splitlines() if COMPLAINTS.search(line))
    return dict.fromkeys(line.strip() for line in lines)
