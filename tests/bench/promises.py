# SPDX-License-Identifier: GPL-2.0-or-later
"""Promises: what the figures shall be. ``make bench`` fails where one is not kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench.auto_runs import GROUPS, name_of
from tests.bench.case import Case


@dataclass(frozen=True, slots=True)
class Promise:
    """Of a case of a benchmark module: the worst ``ratio`` to its peer, or the worst ``difference`` from it in the
    case's unit; which way is worse, the case knows."""

    module: str
    case: str
    ratio: float | None = None
    difference: float | None = None

    def kept(self, found: Case) -> bool:
        """Whether the figures are as promised."""
        sign = 1 if found.better == "lower" else -1
        return (self.ratio is None or sign * found.ratio <= sign * self.ratio) and (
            self.difference is None or sign * (found.ours - found.peer) <= sign * self.difference
        )

    def __str__(self) -> str:
        bound = f"{self.ratio:.2f} x its peer" if self.ratio is not None else f"{self.difference:+g} from its peer"
        return f"{self.case}: at worst {bound}"


_FHD: Final = "quality/1080p/raw10/psnr"
_REDUCED: Final = "quality/100mp-to-1080p/raw12/psnr"
_AUTO: Final = tuple(name_of(group) for group in GROUPS)
_EXPOSED: Final = tuple(
    f"{iris}{group}/{what}" for iris in ("", "iris/") for group in _AUTO for what in ("frames", "variation")
)
PROMISES: Final = (
    Promise("pixel_bench", "pixel/4k/raw10/nv12/1-thread/opencv", ratio=1 / 2.5),
    Promise("pixel_bench", "pixel/4k/raw10/nv12/1-thread/opencv-short", ratio=1.0),
    Promise("pixel_bench", "pixel/4k/raw10/nv12/1-thread/swscale", ratio=1 / 5),
    *(Promise("quality_bench", f"{_FHD}-{plane}/opencv-bilinear", ratio=1.0) for plane in "yuv"),
    *(Promise("quality_bench", f"{_REDUCED}-{plane}/numpy", difference=-1.0) for plane in "yuv"),  # dB
    Promise("usb_path_bench", "usb/4k/nv12/pass/floor", ratio=0.9),
    Promise("usb_path_bench", "usb/4k/nv12/bulk/floor", ratio=0.85),
    Promise("usb_path_bench", "memory/4k/raw10/nv12/1-thread/kernel", ratio=0.85),
    *(
        Promise("latency_bench", f"memory/{size}/raw10/nv12/latency-p99", ratio=1.0)
        for size in ("vga", "1080p", "4k")
    ),
    *(Promise("auto_focus_bench", f"auto/focus/{group}/sharp", ratio=1.0) for group in _AUTO),
    *(Promise("auto_exposure_bench", f"auto/exposure/{what}", ratio=1.0) for what in _EXPOSED),
    *(Promise("auto_white_balance_bench", f"auto/white-balance/{group}/off", ratio=1.0) for group in _AUTO),
    Promise("attach_bench", "attach/vga/first-frame/c-reader", difference=100.0),  # ms
)


def missed(found: Iterable[Case], modules: Iterable[str], *, whole: bool) -> Iterator[str]:
    """What was promised of these modules and is not so, a line each; of a ``whole`` run what was not measured too."""
    cases = {case.case: case for case in found}
    ran = frozenset(modules)
    for promise in PROMISES:
        if promise.module not in ran:
            continue
        case = cases.get(promise.case)
        if case is None:
            if whole:
                yield f"{promise}; not measured"
        elif not promise.kept(case):
            yield f"{promise}; it is {case.ours:.4g} against {case.peer:.4g} {case.unit} ({case.ratio:.3f} x)"
