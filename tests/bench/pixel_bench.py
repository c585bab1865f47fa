# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast the pixel kernels are, each against a peer in the same run.

Work on one thread is measured in CPU time, since nothing here waits: on a busy machine wall time would measure the
neighbours. Work on several threads is measured in wall time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import crc32c
import cv2
import numpy as np
from numpy.typing import NDArray

from maglens_v4l2 import _pixels
from tests.bench import pixel_matrix
from tests.bench.case import Case, from_samples
from tests.bench.opencv_chain import Format, Steps
from tests.bench.pixel_job import FHD, SIZES, Job, Run, copying, frame, ours, tuning
from tests.bench.pixel_swscale import libraries


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


def resized(chain: Steps, size: tuple[int, int], packed: NDArray[np.uint8]) -> Run:
    """OpenCV at full size, then its area filter on the luma: less than the whole job, in the peer's favour."""
    width, height = size
    small = np.empty((height, width), np.uint8)
    luma = chain.yuv[: chain.fmt.height]
    return lambda: (chain(packed), cv2.resize(luma, (width, height), dst=small, interpolation=cv2.INTER_AREA))


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


PARTS = (growth, smaller, checksums, scaling)


def cases(quick: bool = False) -> Iterator[Case]:
    """Every case; fewer repeats when `quick`. RuntimeError, before any, where a peer is not installed."""
    libraries()
    cv2.setNumThreads(1)
    yield from pixel_matrix.cases(quick)
    repeats = 3 if quick else 9
    for part in PARTS:
        yield from part(repeats)
