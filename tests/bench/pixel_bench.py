# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast the pixel kernels are, each against a peer in the same run.

Work on one thread is measured in CPU time, since nothing here waits: on a busy machine wall time would measure the
neighbours. Work on several threads is measured in wall time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import crc32c
import cv2
import numpy as np
from numpy.typing import NDArray

from maglens_v4l2 import _pixels
from tests.bench.case import Case, from_samples, timed
from tests.bench.opencv_chain import Format, Short, Steps
from tests.bench.pixel_raw_reference import Tuning
from tests.bench.pixel_swscale import libraries, to_yuv420

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


def cpu_timed(name: str, ours: Run, peer: Run, peer_name: str, *, repeats: int) -> Case:
    """Both in turn, in milliseconds of CPU time per call."""
    samples: tuple[list[float], list[float]] = ([], [])
    for work in (ours, peer):
        work()
    for _ in range(repeats):
        for work, into in ((ours, samples[0]), (peer, samples[1])):
            start = time.process_time_ns()
            work()
            into.append((time.process_time_ns() - start) / 1e6)
    return from_samples(name, "ms", "lower", samples[0], samples[1], peer_name)


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


def fastest(*runs: Run) -> Run:
    """The fastest of several ways, by one look at each: the peer is the best that we know."""
    return min(runs, key=lambda run: cpu_timed("probe", run, run, "itself", repeats=3).ours)


def opencv(job: Job, packed: NDArray[np.uint8]) -> dict[str, Run]:
    """OpenCV's ways to the same picture (of full size)."""
    t = tuning(job.fmt.bits)
    chains = [Steps(job.fmt, t, 8), Steps(job.fmt, t, 8, edge_aware=True)]
    deep = Steps(job.fmt, t, 16)
    short = [Short(job.fmt), Short(job.fmt, edge_aware=True)]
    return {
        "opencv": fastest(*[lambda c=c: c(packed) for c in chains]),
        "opencv-16bit": lambda: deep(packed),
        "opencv-short": fastest(*[lambda c=c: c(packed) for c in short]),
    }


def resized(chain: Steps, size: tuple[int, int], packed: NDArray[np.uint8]) -> Run:
    """OpenCV at full size, then its area filter on the luma: less than the whole job, in the peer's favour."""
    width, height = size
    small = np.empty((height, width), np.uint8)
    luma = chain.yuv[: chain.fmt.height]
    return lambda: (chain(packed), cv2.resize(luma, (width, height), dst=small, interpolation=cv2.INTER_AREA))


def full_size(repeats: int) -> Iterator[Case]:
    """1080p and 4K at their own size against every peer."""
    for name in ("1080p", "4k"):
        for bits in (10, 12):
            fmt = Format(*SIZES[name], "RGGB", bits)
            packed = frame(fmt)
            job = Job(name, fmt, SIZES[name])
            run = ours(job, packed)
            for peer, other in opencv(job, packed).items():
                yield cpu_timed(f"{job.case}/{peer}", run, other, peer, repeats=repeats)
            yield cpu_timed(f"{job.case}/memcpy", run, copying(job), "memcpy", repeats=repeats)
            samples = np.random.default_rng(2).integers(0, 65536, (fmt.height, fmt.width), dtype=np.uint16)
            yield cpu_timed(f"{job.case}/swscale", run, to_yuv420(samples, fmt.cfa), "swscale", repeats=repeats)
            yuyv = Job(name, fmt, SIZES[name], "YUYV")
            yield cpu_timed(f"{yuyv.case}/memcpy", ours(yuyv, packed), copying(yuyv), "memcpy", repeats=repeats)


def levels(repeats: int) -> Iterator[Case]:
    """Every SIMD level by itself, for both depths and both layouts, against the best level."""
    for bits in (10, 12):
        fmt = Format(*SIZES["4k"], "RGGB", bits)
        packed = frame(fmt)
        for fourcc in ("NV12", "YUYV"):
            best = ours(Job("4k", fmt, SIZES["4k"], fourcc), packed)
            for level in _pixels.levels():
                job = Job("4k", fmt, SIZES["4k"], fourcc, level=level)
                yield cpu_timed(f"{job.case}/best", ours(job, packed), best, "best level", repeats=repeats)


def threads(repeats: int) -> Iterator[Case]:
    """Two threads against one, and against OpenCV on two. In wall time."""
    if (os.cpu_count() or 1) < 2:
        return
    for name in ("1080p", "4k"):
        fmt = Format(*SIZES[name], "RGGB", 10)
        packed = frame(fmt)
        job = Job(name, fmt, SIZES[name], threads=2)
        run, single = ours(job, packed), ours(Job(name, fmt, SIZES[name]), packed)
        yield timed(f"{job.case}/1-thread", run, single, "1 thread", repeats=repeats)
        cv2.setNumThreads(2)
        other = opencv(job, packed)["opencv"]
        yield timed(f"{job.case}/opencv", run, other, "opencv on 2 threads", repeats=repeats)
        cv2.setNumThreads(1)


def growth(repeats: int) -> Iterator[Case]:
    """Time per pixel from the smallest mode to every pixel of the largest sensor, against that of 1080p."""
    peer = Job("1080p", Format(*FHD, "RGGB", 10), FHD)
    base = ours(peer, frame(peer.fmt))
    for name, size in {"480p": (640, 480), **SIZES}.items():
        job = Job(name, Format(*size, "RGGB", 10), size)
        run = ours(job, frame(job.fmt))
        found = cpu_timed(f"growth/pixel/{name}/raw10/nv12/1080p", run, base, "1080p", repeats=repeats)
        own, other = size[0] * size[1] / 1e6, FHD[0] * FHD[1] / 1e6
        yield replace(
            found, unit="ns/pixel", ours=found.ours / own, peer=found.peer / other, ratio=found.ratio * other / own
        )


def smaller(repeats: int) -> Iterator[Case]:
    """Large sensors to small pictures, against OpenCV at full size followed by a resize."""
    for name, bits in (("4k", 10), ("100mp", 12)):
        fmt = Format(*SIZES[name], "RGGB", bits)
        packed = frame(fmt)
        job = Job(f"{name}-to-1080p", fmt, FHD)
        chain = Steps(fmt, tuning(bits), 8)
        run = ours(job, packed)
        yield cpu_timed(f"{job.case}/opencv", run, resized(chain, FHD, packed), "opencv", repeats=repeats)
        yield cpu_timed(f"{job.case}/memcpy", run, copying(job), "memcpy", repeats=repeats)


def checksums(repeats: int) -> Iterator[Case]:
    """CRC-32C of a 4K frame against the crc32c package."""
    data = np.random.default_rng(3).integers(0, 256, 3840 * 2160 * 3 // 2, dtype=np.uint8)
    view: Any = memoryview(data)  # type: ignore[arg-type]
    name = "pixel/crc32c/4k-nv12/package"
    yield cpu_timed(name, lambda: _pixels.crc32c(view), lambda: crc32c.crc32c(view), "crc32c", repeats=repeats)


def scaling(repeats: int) -> Iterator[Case]:
    """NV12 1080p to 720p, against cv2.resize of both planes."""
    (sw, sh), (dw, dh) = FHD, (1280, 720)
    scaler = _pixels.Scaler("NV12", sw, sh, 0, "NV12", dw, dh, 0)
    src = np.random.default_rng(4).integers(0, 256, scaler.src_bytes, dtype=np.uint8)
    out, peer = np.empty(scaler.dst_bytes, np.uint8), np.empty(scaler.dst_bytes, np.uint8)
    luma, chroma = src[: sw * sh].reshape(sh, sw), src[sw * sh :].reshape(sh // 2, sw // 2, 2)
    luma_out, chroma_out = peer[: dw * dh].reshape(dh, dw), peer[dw * dh :].reshape(dh // 2, dw // 2, 2)

    def resize() -> None:
        cv2.resize(luma, (dw, dh), dst=luma_out, interpolation=cv2.INTER_AREA)
        cv2.resize(chroma, (dw // 2, dh // 2), dst=chroma_out, interpolation=cv2.INTER_AREA)

    name = "pixel/scale/1080p-720p/nv12/opencv-area"
    yield cpu_timed(name, lambda: scaler.run(src, out), resize, "opencv", repeats=repeats)


PARTS = (full_size, levels, threads, growth, smaller, checksums, scaling)


def cases(quick: bool = False) -> Iterator[Case]:
    """Every case; fewer repeats when `quick`. RuntimeError, before any, where a peer is not installed."""
    libraries()
    cv2.setNumThreads(1)
    repeats = 3 if quick else 9
    for part in PARTS:
        yield from part(repeats)
