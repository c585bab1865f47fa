# SPDX-License-Identifier: GPL-2.0-or-later
"""From a module's USB port to an app's buffer, on User Mode Linux: ours beside what else one could do.

Module, host and app share one processor there, so that every copy and every system call of theirs counts, the
module's too: what is the same on both sides draws ratios of frame rates towards 1. Processor time per frame is
without the module's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final, Literal

from tests.bench.case import Case, from_samples
from tests.bench.path.guest import MODULES, READERS
from tests.kernel import uml_guest

REPEATS: Final = 3
FRAMES, QUICK_FRAMES = 180, 60
MINUTE: Final = 1800  # frames, for processor time, which is only known by tick
DEADLINE_S: Final = 900.0
Better = Literal["lower", "higher"]
Figures = dict[str, list[dict[str, Any]]]
Row = tuple[str, str, Better, str, str, str, str]  # case, unit, better, figure, ours, peer, its name

FLOOR: Final = "libusb and node in C"
LOOPBACK: Final = "v4l2loopback"
RATE, CPU, LATE, LATE_P99 = "frames_per_s", "cpu_ms", "late_ms", "late_p99_ms"
COMPARED: Final[tuple[Row, ...]] = (
    ("usb/4k/nv12/pass/floor", "1/s", "higher", RATE, "pass/ours", "pass/floor", FLOOR),
    ("usb/4k/nv12/pass/ffmpeg", "1/s", "higher", RATE, "pass/ours", "pass/ffmpeg", f"ffmpeg, {LOOPBACK}"),
    ("usb/4k/nv12/pass/gstreamer", "1/s", "higher", RATE, "pass/ours", "pass/gstreamer", f"GStreamer, {LOOPBACK}"),
    ("usb/4k/nv12/bulk/floor", "1/s", "higher", RATE, "bulk/ours", "bulk/floor", "libusb in C"),
    ("usb/1080p/nv12/latency/floor", "ms", "lower", LATE, "latency/ours", "latency/floor", FLOOR),
    ("usb/1080p/nv12/latency-p99/floor", "ms", "lower", LATE_P99, "latency/ours", "latency/floor", FLOOR),
    ("usb/1080p/nv12/cpu/floor", "ms", "lower", CPU, "latency/ours", "latency/floor", FLOOR),
    ("usb/vga/nv12/cpu/uvcvideo", "ms", "lower", CPU, "vga/ours", "vga/uvc", "bulk UVC, uvcvideo"),
    ("usb/vga/nv12/latency/uvcvideo", "ms", "lower", LATE, "vga/ours", "vga/uvc", "bulk UVC, uvcvideo"),
    *(
        (f"growth/readers/1080p/{n}", "ms", "lower", CPU, f"readers/{n}", "readers/1", "one reader, per picture")
        for n in READERS[1:]
    ),
    *(
        (f"growth/modules/1080p/{n}", "ms", "lower", CPU, f"modules/{n}", "modules/1", "one module, per picture")
        for n in MODULES[1:]
    ),
)
LONG: Final[Row] = ("usb/4k/nv12/cpu/floor", "ms", "lower", CPU, "pass/ours", "pass/floor", FLOOR)


def _run(frames: int, *paths: str) -> Figures:
    """What of it could be measured; why the rest could not is printed."""
    printed = bytearray()
    command = ["python3", "-m", "tests.bench.path.guest", str(REPEATS), str(frames), *paths]
    result = uml_guest.run(command, printed.extend, name="path", deadline_s=DEADLINE_S)
    text = printed.decode(errors="replace")
    told = result.out / "path.json"
    if not told.exists() or result.complaints:
        raise RuntimeError(f"path_bench: status {result.status}: {text[-2000:]} {result.complaints}")
    for line in text.splitlines():
        if "FAILED" in line:
            print(f"  {line}", flush=True)
    found: Figures = json.loads(told.read_text())
    return found


def _in_memory(quick: bool) -> Iterator[Case]:
    """The same without a kernel: module and node in memory, here, on all processors. The rate, which transfers and
    app share them with; and by itself the processor time of the pipeline's thread, which develops and copies to one
    reader."""
    frames = 60 if quick else 200
    command = [sys.executable, "-m", "tests.tools.raw_path", "--size", "3840", "2160", "--rate", "0"]
    command += ["--threads", "1", "--frames", str(frames)]
    runs = [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(REPEATS)]

    def of(key: str) -> list[float]:
        return [float(run[key]) for run in runs]

    name, peer = "memory/4k/raw10/nv12/1-thread", "pixel kernel alone"
    yield from_samples(f"{name}/kernel", "1/s", "higher", of("shown_per_s"), of("alone_per_s"), peer)
    yield from_samples(f"{name}/cpu/kernel", "ms", "lower", of("pipeline_cpu_ms"), of("alone_cpu_ms"), peer)


def _compare(figures: Figures, *rows: Row) -> Iterator[Case]:
    for name, unit, better, what, ours, peer, who in rows:
        mine, theirs = ([float(run[what]) for run in figures.get(path, ())] for path in (ours, peer))
        pairs = min(len(mine), len(theirs))
        if pairs >= REPEATS:
            yield from_samples(name, unit, better, mine[:pairs], theirs[:pairs], who)


def cases(quick: bool) -> Iterator[Case]:
    """Frame rate, processor time and latency of each path."""
    yield from _in_memory(quick)
    figures = _run(QUICK_FRAMES if quick else FRAMES)
    yield from _compare(figures, *COMPARED)
    raw = figures.get("raw/ours", [])
    if len(raw) >= REPEATS:
        rates, alone = [float(run[RATE]) for run in raw], [float(run["feeder"]["alone_per_s"]) for run in raw]
        yield from_samples("usb/4k/raw10/nv12/kernel", "1/s", "higher", rates, alone, "pixel kernel alone")
        spent, least = [float(run[CPU]) for run in raw], [1000 / rate for rate in alone]
        yield from_samples("usb/4k/raw10/nv12/cpu/kernel", "ms", "lower", spent, least, "pixel kernel alone")
    if not quick:
        yield from _compare(_run(MINUTE, LONG[4], LONG[5]), LONG)
