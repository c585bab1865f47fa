# SPDX-License-Identifier: GPL-2.0-or-later
"""Matrix: the pixel kernel at every size, depth, layout, number of threads and SIMD level, against every peer.

All that do the same job are run in turn, round after round, so that each is compared with each. Peers are given two
threads as a program would that wants all of them: a band of the picture each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from maglens_v4l2 import _pixels
from tests.bench.case import Case, from_samples
from tests.bench.opencv_chain import Bits, Format, Short, Steps
from tests.bench.pixel_job import FHD, SIZES, Job, Run, copying, frame, ours, tuning
from tests.bench.pixel_swscale import to_yuv

REPEATS: Final[Mapping[str, int]] = {"1080p": 9, "4k": 9, "100mp": 3}
QUICK_REPEATS: Final[Mapping[str, int]] = {"1080p": 3, "4k": 3}
DEPTHS: Final = (10, 12)
LAYOUTS: Final = ("NV12", "YUYV")
THREADS: Final = (1, 2)
DEEP: Final = "opencv-16bit"
DEEP_SIZES: Final = ("1080p", "4k")
"""At 100 megapixels it would take gigabytes, and it is not OpenCV's fastest."""

Packed = NDArray[np.uint8]


def in_turn(runs: Mapping[str, Run], repeats: int, clock: Callable[[], int]) -> dict[str, list[float]]:
    """Milliseconds by `clock` that each took, of `repeats` rounds after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 1):
        for name, run in runs.items():
            began = clock()
            run()
            if number:
                taken[name].append((clock() - began) / 1e6)
    return taken


def bands(fmt: Format, count: int) -> list[Format]:
    """A picture in bands, one below the other, of even heights."""
    rows = fmt.height // count // 2 * 2
    return [replace(fmt, height=rows)] * (count - 1) + [replace(fmt, height=fmt.height - rows * (count - 1))]


def at_once(runs: Sequence[Run], pool: ThreadPoolExecutor) -> Run:
    """All of them at the same time, the first on this thread."""
    if len(runs) == 1:
        return runs[0]

    def run() -> None:
        waiting = [pool.submit(each) for each in runs[1:]]
        runs[0]()
        for each in waiting:
            each.result()

    return run


@cache
def edge_aware(kind: type[Steps | Short], bits: int) -> bool:
    """Whether OpenCV's better demosaicing is the faster one, too: the peer is the best that we know."""
    fmt = Format(*FHD, "RGGB", bits)
    packed = frame(fmt)
    ways = {way: _chain(kind, fmt, way) for way in (False, True)}
    runs = {str(way): partial(chain, packed) for way, chain in ways.items()}
    taken = {name: min(ms) for name, ms in in_turn(runs, 3, time.process_time_ns).items()}
    return taken["True"] < taken["False"]


def _chain(kind: type[Steps | Short], fmt: Format, better: bool, depth: Bits = 8) -> Steps | Short:
    return Short(fmt, better) if kind is Short else Steps(fmt, tuning(fmt.bits), depth, better)


class Peers:
    """What else does the job, for a size and a depth, on so many threads."""

    def __init__(self, name: str, fmt: Format, packed: Packed, threads: int, pool: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._pool = pool
        self._cfa = fmt.cfa
        self._bands: list[Packed] = []
        at = 0
        for part in bands(fmt, threads):
            size = part.width * part.height * part.bits // 8
            self._bands.append(packed[at : at + size])
            at += size
        makes: dict[str, Callable[[Format], Steps | Short]] = {
            "opencv": lambda part: _chain(Steps, part, edge_aware(Steps, fmt.bits)),
            "opencv-short": lambda part: _chain(Short, part, edge_aware(Short, fmt.bits)),
        }
        if name in DEEP_SIZES:
            makes[DEEP] = lambda part: _chain(Steps, part, better=False, depth=16)
        self._chains = {peer: [make(part) for part in bands(fmt, threads)] for peer, make in makes.items()}
        samples = np.random.default_rng(2).integers(0, 65536, (fmt.height, fmt.width), dtype=np.uint16)
        rows = [part.height for part in bands(fmt, threads)]
        self._samples = np.split(samples, np.cumsum(rows)[:-1])

    def runs(self, job: Job) -> dict[str, Run]:
        """Each of them, to one layout."""
        found: dict[str, Run] = {}
        for peer, chains in self._chains.items():
            for chain in chains:
                chain.into(job.fourcc)
            parts = [partial(chain, packed) for chain, packed in zip(chains, self._bands, strict=True)]
            found[peer] = at_once(parts, self._pool)
        found["swscale"] = at_once([to_yuv(part, self._cfa, job.fourcc) for part in self._samples], self._pool)
        share = replace(job, out=(job.out[0], job.out[1] // self._threads))
        copies = [copying(replace(share, fmt=part)) for part in bands(job.fmt, self._threads)]
        found["memcpy"] = at_once(copies, self._pool)
        return found


def compared(job: Job, packed: Packed, peers: Peers, repeats: int) -> Iterator[Case]:
    """As the service would have it, and every SIMD level by itself, against every peer and the best level."""
    levels = {level: replace(job, level=level) for level in _pixels.levels()}
    mine = {job.case: job, **{each.case: each for each in levels.values()}}
    others = peers.runs(job)
    if job.threads > 1:
        others["1-thread"] = ours(replace(job, threads=1), packed)
    runs = {**{case: ours(each, packed) for case, each in mine.items()}, **others}
    taken = in_turn(runs, repeats, time.process_time_ns if job.threads == 1 else time.perf_counter_ns)
    for case, each in mine.items():
        for peer in others:
            if peer != "1-thread" or each.level is None:
                yield from_samples(f"{case}/{peer}", "ms", "lower", taken[case], taken[peer], peer)
        if each.level is not None:
            yield from_samples(f"{case}/best", "ms", "lower", taken[case], taken[job.case], "best level")


def cases(quick: bool) -> Iterator[Case]:
    """Sizes, depths, threads, layouts. OpenCV has no threads of its own here."""
    cv2.setNumThreads(1)
    cpus = os.cpu_count() or 1
    with ThreadPoolExecutor(max(THREADS) - 1) as pool:
        for name, repeats in (QUICK_REPEATS if quick else REPEATS).items():
            for bits in DEPTHS:
                fmt = Format(*SIZES[name], "RGGB", bits)
                packed = frame(fmt)
                for threads in (n for n in THREADS if n <= cpus):
                    peers = Peers(name, fmt, packed, threads, pool)
                    for fourcc in LAYOUTS:
                        yield from compared(Job(name, fmt, SIZES[name], fourcc, threads), packed, peers, repeats)
