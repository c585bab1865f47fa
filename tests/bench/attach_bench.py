# SPDX-License-Identifier: GPL-2.0-or-later
"""From udev's add to the first frame of the module at an app, on User Mode Linux, beside a C program's time.

The promise there is the C program's time and 100 ms; one processor serves module, daemon and app.
"""

from __future__ import annotations

import json

from tests.bench.case import Case, from_samples
from tests.demo import recording, report
from tests.demo.story import CYCLES, STORY, Story
from tests.kernel import uml_guest

DEADLINE_S = 180.0


def cases(quick: bool) -> list[Case]:
    """Ten attaches of either."""
    printed = bytearray()
    result = uml_guest.run(
        ["python3", "-m", "tests.bench.attach_guest"], printed.extend, name="attach", deadline_s=DEADLINE_S
    )
    if not result.ok:
        text = printed.decode(errors="replace")
        raise RuntimeError(f"attach_bench: status {result.status}: {text[-2000:]} {result.complaints}")
    story = Story.load(result.out / STORY)
    cycles = result.out / CYCLES
    ours = report.attach_to_frame_ms(story, recording.read(cycles, story.cycles_ahead_ns))
    cycles.unlink()  # hundreds of megabytes
    peer = [t / report.MS for t in story.c_reader_ns]
    print(f"attach_bench: ours {json.dumps(ours)} ms, C {json.dumps(peer)} ms", flush=True)
    return [from_samples("attach/vga/first-frame/c-reader", "ms", "lower", ours, peer, "libusb in C, no node")]
