# SPDX-License-Identifier: GPL-2.0-or-later
"""From a module's USB port to an app's buffer, on User Mode Linux: ours beside what else one could do.

Module, host and app share one processor there, so that every copy and every system call of theirs counts, the
module's too: what is the same on both sides draws ratios of frame rates towards 1. Processor time per frame is
without the module's, and of runs of a minute, whose three windows are the repeats; so are latencies. Rates are of
short runs in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final, Literal

from tests.bench.case import Case, from_samples
from tests.bench.path.guest import MODULES, READERS, REPEATS
from tests.kernel import uml_guest

DEADLINE_S: Final = 1700.0
Better = Literal["lower", "higher"]
Figures = dict[str, list[dict[str, Any]]]
Row = tuple[str, str, Better, str, str, str, str]  # case, unit, better, figure, ours, peer, its name

FLOOR: Final = "libusb and node in C"
FFMPEG: Final = "ffmpeg, v4l2loopback"
GSTREAMER: Final = "GStreamer, v4l2loopback"
UVC: Final = "bulk UVC, uvcvideo"
ALONE: Final = "pixel kernel alone"
RATE, CPU, LATE, LATE_P99 = "frames_per_s", "cpu_ms", "late_ms", "late_p99_ms"
LATENCIES: Final = (("latency", LATE), ("latency-p99", LATE_P99))
FHD: Final = (("floor", FLOOR), ("ffmpeg", FFMPEG), ("gstreamer", GSTREAMER))
SHORT: Final[tuple[Row, ...]] = (
    ("usb/4k/nv12/pass/floor", "1/s", "higher", RATE, "pass/ours", "pass/floor", FLOOR),
    ("usb/4k/nv12/pass/ffmpeg", "1/s", "higher", RATE, "pass/ours", "pass/ffmpeg", FFMPEG),
    ("usb/4k/nv12/pass/gstreamer", "1/s", "higher", RATE, "pass/ours", "pass/gstreamer", GSTREAMER),
    ("usb/4k/nv12/bulk/floor", "1/s", "higher", RATE, "bulk/ours", "bulk/floor", "libusb in C"),
    ("usb/vga/nv12/pass/uvcvideo", "1/s", "higher", RATE, "vga-pass/ours", "vga-pass/uvc", UVC),
)
LONG: Final[tuple[Row, ...]] = (
    *(
        (f"usb/1080p/nv12/{what}/{peer}", "ms", "lower", figure, "1080p/ours", f"1080p/{peer}", who)
        for what, figure in LATENCIES
        for peer, who in FHD
    ),
    *(
        (f"usb/vga/nv12/{what}/uvcvideo", "ms", "lower", figure, "vga/ours", "vga/uvc", UVC)
        for what, figure in LATENCIES
    ),
)
MINUTE: Final[tuple[Row, ...]] = (
    ("usb/4k/nv12/cpu/floor", "ms", "lower", CPU, "4k/ours", "4k/floor", FLOOR),
    *((f"usb/1080p/nv12/cpu/{peer}", "ms", "lower", CPU, "1080p/ours", f"1080p/{peer}", who) for peer, who in FHD),
    ("usb/vga/nv12/cpu/uvcvideo", "ms", "lower", CPU, "vga/ours", "vga/uvc", UVC),
    *(
        (f"growth/{what}/1080p/{n}", "ms", "lower", CPU, f"{what}/{n}", "1080p/ours", f"one {what[:-1]}, per picture")
        for what, counts in (("readers", READERS), ("modules", MODULES))
        for n in counts[1:]
    ),
)


def _run(quick: bool) -> tuple[Figures, list[str]]:
    """What of it could be measured, and what went wrong: paths that failed, an early end, the kernel's complaints."""
    printed = bytearray()
    command = ["python3", "-m", "tests.bench.path.guest", *(["--quick"] if quick else [])]
    result = uml_guest.run(command, printed.extend, name="path", deadline_s=DEADLINE_S)
    text = printed.decode(errors="replace")
    told = result.out / "path.json"
    wrong = [line for line in text.splitlines() if "FAILED" in line] + list(result.complaints)
    if result.status and not wrong:
        wrong.append(f"status {result.status}: {text[-2000:]}")
    found: Figures = json.loads(told.read_text()) if told.exists() else {}
    return found, wrong


def _in_memory(quick: bool) -> Iterator[Case]:
    """The same without a kernel: module and node in memory, here, on all processors. The rate, which transfers and
    app share them with, as the service has it and with the pixel kernel on one thread; and there by itself the
    processor time of the pipeline's threads, which develop and copy to one reader."""
    command = [sys.executable, "-m", "tests.tools.raw_path", "--size", "3840", "2160", "--rate", "0"]
    command += ["--frames", str(60 if quick else 200)]
    ways = {"default-threads": command, "1-thread": [*command, "--threads", "1"]}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            runs[name].append(json.loads(subprocess.run(way, check=True, stdout=subprocess.PIPE).stdout))

    def of(name: str, key: str) -> list[float]:
        return [float(run[key]) for run in runs[name]]

    for name in ways:
        case = f"memory/4k/raw10/nv12/{name}/kernel"
        yield from_samples(case, "1/s", "higher", of(name, "shown_per_s"), of(name, "alone_per_s"), ALONE)
    case, name = "memory/4k/raw10/nv12/1-thread/cpu/kernel", "1-thread"
    yield from_samples(case, "ms", "lower", of(name, "pipeline_cpu_ms"), of(name, "alone_cpu_ms"), ALONE)


def _compare(figures: Figures, *rows: Row) -> Iterator[Case]:
    for name, unit, better, what, ours, peer, who in rows:
        mine, theirs = ([float(run[what]) for run in figures.get(path, ())] for path in (ours, peer))
        pairs = min(len(mine), len(theirs))
        if pairs >= REPEATS:
            yield from_samples(name, unit, better, mine[:pairs], theirs[:pairs], who)


def _raw(figures: Figures) -> Iterator[Case]:
    """Its peer is in its own figures."""
    runs = figures.get("raw/ours", [])
    if len(runs) >= REPEATS:
        rates, alone = [float(run[RATE]) for run in runs], [float(run["feeder"]["alone_per_s"]) for run in runs]
        yield from_samples("usb/4k/raw10/nv12/kernel", "1/s", "higher", rates, alone, ALONE)


def cases(quick: bool) -> Iterator[Case]:
    """Frame rate, processor time and latency of each path; no processor time when `quick`.

    RuntimeError, after all that was measured: something went wrong, and a report without it would look whole."""
    yield from _in_memory(quick)
    figures, wrong = _run(quick)
    yield from _compare(figures, *SHORT, *LONG)
    yield from _raw(figures)
    if not quick:
        yield from _compare(figures, *MINUTE)
    if wrong:
        raise RuntimeError("path_bench: " + "\n".join(wrong))
