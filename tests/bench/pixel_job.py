# SPDX-License-Identifier: GPL-2.0-or-later
"""Job: one way to develop a frame, and the pixel kernel at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maglens_v4l2 import _pixels
from tests.bench.opencv_chain import Format
from tests.bench.pixel_raw_reference import Tuning

MATRIX = (1.62, -0.45, -0.17, -0.31, 1.55, -0.24, 0.02, -0.61, 1.59)
SIZES = {"1080p": (1920, 1080), "4k": (3840, 2160), "100mp": (11648, 8736)}
FHD = (1920, 1080)
Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Job:
    """One way to develop a frame: `out` is its size."""

    name: str
    fmt: Format
    out: tuple[int, int]
    fourcc: str = "NV12"
    threads: int = 1
    level: _pixels.Level | None = None

    @property
    def case(self) -> str:
        """pixel/<size>/<depth>/<format>/<threads>-thread."""
        level = f"/{self.level}" if self.level else ""
        return f"pixel/{self.name}/raw{self.fmt.bits}/{self.fourcc.lower()}/{self.threads}-thread{level}"


def tuning(bits: int) -> Tuning:
    """What a daylight scene through a vignetting lens takes."""
    more = 1 << (bits - 10)
    falloff = np.linspace(1, 1.8, 33)
    return Tuning(64.0 * more, 1024.0 * more - 1, (1.9, 1.0, 1.6), MATRIX, falloff=falloff)


def frame(fmt: Format) -> NDArray[np.uint8]:
    """A packed picture whose bytes defeat no cache and please no branch predictor."""
    return np.random.default_rng(1).integers(0, 256, fmt.width * fmt.height * fmt.bits // 8, dtype=np.uint8)


def ours(job: Job, packed: NDArray[np.uint8]) -> Run:
    """Developer at work, statistics included."""
    sizes = (job.fmt.fourcc, job.fmt.width, job.fmt.height, 0, job.fourcc, *job.out, 0)
    developer = _pixels.Developer(*sizes, fit="stretch", threads=job.threads, zones=(8, 8), level=job.level)
    t = tuning(job.fmt.bits)
    developer.tune(t.black, t.white, t.gains, t.matrix, t.curve, t.falloff)
    out, stats = np.empty(developer.dst_bytes, np.uint8), np.empty(developer.stats_bytes // 8, np.uint64)
    return lambda: developer.run(packed, out, stats)


def copying(job: Job) -> Run:
    """memcpy of as many bytes as the job reads and writes."""
    width, height = job.out
    written = width * height * (2 if job.fourcc == "YUYV" else 1.5)
    n = int(job.fmt.width * job.fmt.height * job.fmt.bits // 8 + written) // 2
    a, b = np.ones(n, np.uint8), np.empty(n, np.uint8)
    return lambda: np.copyto(b, a)
