# SPDX-License-Identifier: GPL-2.0-or-later
"""From a module's USB port to an app's buffer, on User Mode Linux: ours beside what else one could do.

Module, host and app share one processor there, so that every copy and every system call of theirs counts, the
module's too: what is the same on both sides draws the ratio towards 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Literal

from tests.bench.case import Case, from_samples
from tests.kernel import uml_guest

REPEATS = 3
FRAMES, QUICK_FRAMES = 240, 80
DEADLINE_S = 420.0
Figures = dict[str, list[dict[str, Any]]]

FLOOR = "libusb and node in C"


def _run(frames: int) -> Figures:
    printed = bytearray()
    command = ["python3", "-m", "tests.bench.path.guest", str(REPEATS), str(frames)]
    result = uml_guest.run(command, printed.extend, name="path", deadline_s=DEADLINE_S)
    if not result.ok:
        text = printed.decode(errors="replace")
        raise RuntimeError(f"path_bench: status {result.status}: {text[-2000:]} {result.complaints}")
    found: Figures = json.loads((result.out / "path.json").read_text())
    return found


def _in_memory(quick: bool) -> Case:
    """The same without a kernel: module and node in memory, here."""
    frames = 60 if quick else 200
    command = [sys.executable, "-m", "tests.tools.raw_path", "--size", "3840", "2160", "--rate", "200"]
    runs = [
        json.loads(subprocess.run([*command, "--frames", str(frames)], check=True, stdout=subprocess.PIPE).stdout)
        for _ in range(REPEATS)
    ]
    ours, alone = ([float(run[key]) for run in runs] for key in ("shown_per_s", "alone_per_s"))
    return from_samples("memory/4k/raw10/nv12/kernel", "1/s", "higher", ours, alone, "pixel kernel alone")


def cases(quick: bool) -> list[Case]:
    """Frame rate, processor time and latency of each path."""
    figures = _run(QUICK_FRAMES if quick else FRAMES)

    def of(path: str, what: str) -> list[float]:
        return [float(run[what]) for run in figures[path]]

    def beside(
        name: str, unit: str, better: Literal["lower", "higher"], what: str, ours: str, peer: str, who: str
    ) -> Case:
        return from_samples(name, unit, better, of(ours, what), of(peer, what), who)

    alone = [float(run["feeder"]["alone_per_s"]) for run in figures["raw/ours"]]
    rate = "frames_per_s"
    return [
        beside("usb/4k/nv12/pass/floor", "1/s", "higher", rate, "pass/ours", "pass/floor", FLOOR),
        beside("usb/4k/nv12/cpu/floor", "ms", "lower", "cpu_ms", "pass/ours", "pass/floor", FLOOR),
        beside("usb/4k/nv12/pass/ffmpeg", "1/s", "higher", rate, "pass/ours", "pass/ffmpeg", "ffmpeg, v4l2loopback"),
        beside(
            "usb/4k/nv12/pass/gstreamer", "1/s", "higher", rate, "pass/ours", "pass/gstreamer",
            "GStreamer, v4l2loopback",
        ),
        from_samples("usb/4k/raw10/nv12/kernel", "1/s", "higher", of("raw/ours", rate), alone, "pixel kernel alone"),
        beside("usb/4k/nv12/bulk/floor", "1/s", "higher", rate, "bulk/ours", "bulk/floor", "libusb in C"),
        beside("usb/1080p/nv12/latency/floor", "ms", "lower", "late_ms", "latency/ours", "latency/floor", FLOOR),
        beside("usb/vga/nv12/cpu/uvcvideo", "ms", "lower", "cpu_ms", "vga/ours", "vga/uvc", "UVC, uvcvideo"),
        beside("usb/vga/nv12/latency/uvcvideo", "ms", "lower", "late_ms", "vga/ours", "vga/uvc", "UVC, uvcvideo"),
        _in_memory(quick),
        beside(
            "usb/1080p/nv12/latency-p99/floor", "ms", "lower", "late_p99_ms", "latency/ours", "latency/floor", FLOOR
        ),
    ]  # fmt: skip
