# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.bench.page``: renew figures and plots of docs/performance.md from the report of ``make bench``.

Each table there stands between ``<!-- bench: NAME -->`` and ``<!-- end -->``. One whose cases the report has not is
left as it is, and named.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.__main__ import REPORT
from tests.bench.report import Entry, read

PAGE: Final = Path("docs/performance.md")
NEWLINE: Final = "\n"
PART: Final = re.compile(r"(<!-- bench: ([a-z]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
PEERS: Final[Mapping[str, tuple[str, str]]] = {
    "opencv": (
        "OpenCV, the same steps, 8 bits",
        "all but the statistics, in the fastest way we know (`tests/bench/opencv_chain.py`)",
    ),
    "opencv-16bit": ("OpenCV, the same steps, 16 bits", "the same without losing the shadows' last two bits"),
    "opencv-short": ("OpenCV, three steps", "unpack, demosaic and YUV alone"),
    "swscale": ("swscale", "demosaic and YUV alone, of samples unpacked already"),
    "memcpy": ("memcpy of input and output", "nothing"),
}
AGAINST: Final = ("opencv", "opencv-short", "swscale", "memcpy")
SIZES: Final[Mapping[str, str]] = {"480p": "640x480", "1080p": "1920x1080", "4k": "3840x2160", "100mp": "11648x8736"}
PATHS: Final[Sequence[tuple[str, str]]] = (
    ("4K NV12 as it is, pictures a second", "usb/4k/nv12/pass/"),
    ("4K in bulk, its CRC verified, frames a second", "usb/4k/nv12/bulk/"),
    ("4K RAW10 to NV12, pictures a second", "usb/4k/raw10/nv12/"),
    ("640x480 as it is, pictures a second", "usb/vga/nv12/pass/"),
    ("1080p at 30 a second, module to app, median, ms", "usb/1080p/nv12/latency/"),
    ("the same, 99 of 100 within, ms", "usb/1080p/nv12/latency-p99/"),
    ("640x480 at 30 a second, module to app, median, ms", "usb/vga/nv12/latency/"),
    ("the same, 99 of 100 within, ms", "usb/vga/nv12/latency-p99/"),
    ("4K, processor time a picture, ms", "usb/4k/nv12/cpu/"),
    ("1080p at 30 a second, processor time a picture, ms", "usb/1080p/nv12/cpu/"),
    ("640x480 at 30 a second, processor time a picture, ms", "usb/vga/nv12/cpu/"),
    ("from udev's add to the first picture, 640x480, ms", "attach/vga/first-frame/"),
)
MEMORY: Final[Mapping[str, str]] = {
    "1-thread/kernel": "the kernel on one thread, pictures a second",
    "default-threads/kernel": "on as many as the service gives it, pictures a second",
    "1-thread/cpu/kernel": "one thread, processor time of the pipeline a picture, ms",
}
Cases = Mapping[str, Entry]


def row(*cells: object) -> str:
    """Of a table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table(heads: Sequence[str], rows: Sequence[str]) -> list[str]:
    """Nothing where there are no rows."""
    return [row(*heads), "|" + "---|" * len(heads), *rows] if rows else []


def number(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def faster(entry: Entry) -> str:
    """How many times as fast as its peer, of times."""
    return f"{number(1 / entry['ratio'])} x"


def pixels(cases: Cases) -> list[str]:
    """4K RAW10 to NV12, one thread, against every peer."""
    found = {name: cases.get(f"pixel/4k/raw10/nv12/1-thread/{name}") for name in PEERS}
    rows = [row(PEERS[name][0], faster(e), PEERS[name][1]) for name, e in found.items() if e]
    ms = [entry["ours"] for entry in found.values() if entry]
    told = [f"{number(ms[0])} ms of one processor a frame:", ""] if ms else []
    return told + table(("against", "how much faster", "what it does"), rows)


def matrix(cases: Cases) -> list[str]:
    """Everything at its own size."""
    rows = []
    for size, bits, layout, threads in (
        (size, bits, layout, threads)
        for size in SIZES
        for bits in (10, 12)
        for layout in ("nv12", "yuyv")
        for threads in (1, 2)
    ):
        found = [cases.get(f"pixel/{size}/raw{bits}/{layout}/{threads}-thread/{peer}") for peer in AGAINST]
        first = next((entry for entry in found if entry), None)
        if first:
            cells = [faster(entry) if entry else "" for entry in found]
            what = f"{SIZES[size]} RAW{bits} to {layout.upper()}"
            rows.append(row(what, threads, number(first["ours"]), *cells))
    return table(("", "threads", "ms", "OpenCV, the same steps", "OpenCV, three steps", "swscale", "memcpy"), rows)


def levels(cases: Cases) -> list[str]:
    """SIMD levels by themselves, 4K on one thread."""
    jobs = [(bits, layout) for layout in ("nv12", "yuyv") for bits in (10, 12)]
    start = "pixel/4k/raw10/nv12/1-thread/"
    names = [
        n.removeprefix(start).removesuffix("/best") for n in cases if n.startswith(start) and n.endswith("/best")
    ]
    rows = []
    for level in names:
        cells = []
        for bits, layout in jobs:
            mine = f"pixel/4k/raw{bits}/{layout}/1-thread/{level}"
            best, opencv = cases.get(f"{mine}/best"), cases.get(f"{mine}/opencv")
            cells.append(f"{number(best['ours'])} ms, {faster(opencv)}" if best and opencv else "")
        rows.append(row(level, *cells))
    return table(("", *(f"RAW{bits} to {layout.upper()}" for bits, layout in jobs)), rows)


def smaller(cases: Cases) -> list[str]:
    """Large sensors to small pictures."""
    rows = []
    for what, job in (("4K RAW10", "4k-to-1080p/raw10"), ("11648x8736 RAW12", "100mp-to-1080p/raw12")):
        opencv, memcpy = (cases.get(f"pixel/{job}/nv12/1-thread/{peer}") for peer in ("opencv", "memcpy"))
        if opencv and memcpy:
            rows.append(row(f"{what} to 1080p NV12", number(opencv["ours"]), faster(opencv), faster(memcpy)))
    return table(("", "ms", "OpenCV at full size, then a resize", "memcpy"), rows)


def beside(cases: Cases, prefix: str) -> list[Entry]:
    """The cases of one thing that is measured, each with its peer."""
    return [entry for name, entry in cases.items() if name.startswith(prefix) and "/" not in name[len(prefix) :]]


def path(cases: Cases) -> list[str]:
    """From USB to an app."""
    rows = []
    for what, prefix in PATHS:
        found = beside(cases, prefix)
        if found:
            ours = statistics.median(entry["ours"] for entry in found)
            peers = "; ".join(f"{e['peer_name']}: {number(e['peer'])} ({e['ratio']:.2f} x)" for e in found)
            rows.append(row(what, number(ours), f"{max(e['spread'] for e in found):.2f}", peers))
    told = ["![From USB to an app](performance-path.png)", ""] if rows else []
    return told + table(("", "maglens", "spread", "beside it (ours to it)"), rows)


def memory(cases: Cases) -> list[str]:
    """From a module in memory to a reader in memory."""
    found = [(what, cases.get(f"memory/4k/raw10/nv12/{name}")) for name, what in MEMORY.items()]
    rows = [
        row(what, number(e["ours"]), number(e["peer"]), f"{e['ratio']:.2f}", f"{e['spread']:.2f}")
        for what, e in found
        if e
    ]
    return table(("4K RAW10 to NV12", "maglens", "pixel kernel alone", "ratio", "spread"), rows)


def growth(cases: Cases) -> list[str]:
    """What more pixels, readers and modules cost."""
    sizes = [(text, cases.get(f"growth/pixel/{name}/raw10/nv12/1080p")) for name, text in SIZES.items()]
    rows = [row(f"a pixel of {text}, ns", number(e["ours"]), f"{e['ratio']:.2f}") for text, e in sizes if e]
    for what in ("readers", "modules"):
        for entry in beside(cases, f"growth/{what}/1080p/"):
            count = entry["case"].rsplit("/", 1)[1]
            rows.append(row(f"a 1080p picture, {count} {what}, ms", number(entry["ours"]), f"{entry['ratio']:.2f}"))
    return table(("processor time of", "", "to that of 1080p, one reader, one module"), rows)


SECTIONS: Final[Mapping[str, Callable[[Cases], list[str]]]] = {
    "pixels": pixels,
    "matrix": matrix,
    "levels": levels,
    "smaller": smaller,
    "path": path,
    "memory": memory,
    "growth": growth,
}


def renewed(page: str, report: Sequence[Entry], told: str) -> tuple[str, list[str]]:
    """The page with the report's figures, and the parts that the report says nothing of."""
    cases = {entry["case"]: entry for entry in report}
    left: list[str] = []

    def part(found: re.Match[str]) -> str:
        name = found[2]
        lines = [told] if name == "machine" else SECTIONS[name](cases)
        if not lines:
            left.append(name)
            return found[0]
        return f"{found[1]}{NEWLINE.join(lines)}\n{found[4]}"

    return PART.sub(part, page), left


def measured(report: Path) -> str:
    """When, and on this machine's processor."""
    named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    day = time.strftime("%Y-%m-%d", time.gmtime(report.stat().st_mtime))
    return f"Figures of {day}, {named[1] if named else os.uname().machine}, {os.cpu_count()} processors."


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.page", description=__doc__)
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args()
    report = read(chosen.report)
    text, left = renewed(chosen.page.read_text(), report, measured(chosen.report))
    chosen.page.write_text(text)
    from tests.bench.plots import draw

    draw(report, chosen.page.parent)
    for name in left:
        print(f"page: {chosen.report} says nothing of {name}: left as it was", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
