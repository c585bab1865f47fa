# SPDX-License-Identifier: GPL-2.0-or-later
"""Plots of a report, for docs/performance.md."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from tests.bench.report import Entry

OURS, PEER, FLOOR = "#2a6f97", "#b0b7bf", "#e0a458"
LABELS = {"opencv": "OpenCV", "opencv-16bit": "OpenCV, 16 bits", "opencv-short": "OpenCV, three steps"}
PEERS = ("memcpy", "opencv-short", "opencv", "opencv-16bit", "swscale")


def _found(report: list[Entry], start: str) -> dict[str, Entry]:
    """Cases whose name begins so, by the rest of it."""
    return {e["case"].removeprefix(start): e for e in report if e["case"].startswith(start)}


def pixels(report: list[Entry], path: Path) -> None:
    """4K RAW10 to NV12 on one thread: ours and its peers, in milliseconds of one core."""
    cases = _found(report, "pixel/4k/raw10/nv12/1-thread/")
    names = [name for name in PEERS if name in cases]
    if not names:
        return
    middle = statistics.median(cases[name]["ours"] for name in names)  # measured anew beside each peer
    bars = sorted([("maglens", middle), *((name, cases[name]["peer"]) for name in names)], key=lambda bar: bar[1])
    figure, axes = pyplot.subplots(figsize=(7, 2.8), layout="constrained")
    colours = [OURS if name == "maglens" else FLOOR if name == "memcpy" else PEER for name, _ in bars]
    drawn = axes.barh([LABELS.get(name, name) for name, _ in bars], [ms for _, ms in bars], color=colours)
    axes.bar_label(drawn, fmt="%.1f", padding=3)
    axes.set_xlabel("ms of one core per frame, 3840x2160 RAW10 to NV12")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def growth(report: list[Entry], path: Path) -> None:
    """Time per pixel over size."""
    cases = _found(report, "growth/pixel/")
    sizes = {"480p": 640 * 480, "1080p": 1920 * 1080, "4k": 3840 * 2160, "100mp": 11648 * 8736}
    points = [(sizes[name.split("/")[0]] / 1e6, entry["ours"]) for name, entry in cases.items()]
    if not points:
        return
    figure, axes = pyplot.subplots(figsize=(7, 2.8), layout="constrained")
    axes.plot(*zip(*sorted(points), strict=True), marker="o", color=OURS)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.2 * max(ns for _, ns in points))
    axes.set_xlabel("megapixels of the frame")
    axes.set_ylabel("ns per pixel")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def paths(report: list[Entry], path: Path) -> None:
    """4K through USB to an app, in frames per second; and what a reader or module more costs, per picture."""
    cases = _found(report, "usb/4k/nv12/pass/")
    if not cases:
        return
    middle = statistics.median(entry["ours"] for entry in cases.values())  # the same runs beside each peer
    bars = [("maglens", middle, OURS)]
    bars += [(entry["peer_name"], entry["peer"], FLOOR if name == "floor" else PEER) for name, entry in cases.items()]
    bars.sort(key=lambda bar: -bar[1])
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 2.8), layout="constrained", width_ratios=(3, 2))
    drawn = left.barh([name for name, _, _ in bars], [rate for _, rate, _ in bars], color=[c for _, _, c in bars])
    left.bar_label(drawn, fmt="%.0f", padding=3)
    left.set_xlabel("3840x2160 NV12 frames per second, on one processor")
    for what, colour in (("readers", OURS), ("modules", FLOOR)):
        grown = _found(report, f"growth/{what}/1080p/")
        points = [(1, 1.0), *((int(name), entry["ratio"]) for name, entry in grown.items())]
        right.plot(*zip(*sorted(points), strict=True), marker="o", color=colour, label=what)
    right.set_ylim(bottom=0)
    right.set_xticks(range(1, 5))
    right.set_ylabel("processor time per picture")
    right.set_xlabel("so many, against one")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw(report: list[Entry], folder: Path) -> None:
    """Every plot whose cases are there."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels(report, folder / "performance-pixels.png")
    growth(report, folder / "performance-growth.png")
    paths(report, folder / "performance-path.png")
