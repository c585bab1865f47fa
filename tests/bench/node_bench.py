# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel node beside v4l2loopback and beside a memcpy, on User Mode Linux: native speed, real kernel code.

A system call costs more there than elsewhere, and as much for either side; v4l2loopback needs two more per frame.
"""

from __future__ import annotations

import json

from tests.bench.case import Case, from_samples
from tests.kernel import uml_guest

READERS = (1, 2, 4)
ROUNDS, QUICK_ROUNDS = 300, 60
DEADLINE_S = 120.0

SCRIPT = """set -e
modprobe maglens
modprobe v4l2loopback devices=4 max_buffers=4
udevadm settle
programs=tests/kernel/programs
gcc -O2 -Idriver/kernel/include/uapi/linux $programs/lib.c $programs/versus.c -o /tmp/versus
exec /tmp/versus {rounds} $(for d in /sys/devices/virtual/video4linux/video*; do
    case $(cat $d/name) in Dummy*) echo /dev/${{d##*/}};; esac; done)
"""


def cases(quick: bool) -> list[Case]:
    """A frame to each of 1, 2 and 4 readers, from the producer's memory to a buffer dequeued."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    printed = bytearray()
    command = ["sh", "-c", SCRIPT.format(rounds=rounds)]
    result = uml_guest.run(command, printed.extend, name="bench", deadline_s=DEADLINE_S)
    text = printed.decode(errors="replace")
    if not result.ok:
        raise RuntimeError(f"node_bench: status {result.status}: {text[-500:]} {result.complaints}")
    figures = json.loads(text)
    found = []
    for n in READERS:
        run = figures[str(n)]
        who = "reader" if n == 1 else "readers"
        name = f"node/submit/1080p/{n}-{who}/v4l2loopback"
        peer = "v4l2loopback" if n == 1 else "v4l2loopback, a device per reader"
        found.append(from_samples(name, "us", "lower", run["ours"], run["loopback"], peer))
    one = figures["1"]
    found.append(
        from_samples("node/submit/1080p/1-reader/memcpy", "us", "lower", one["ours"], one["memcpy"], "no system call")
    )
    return found
