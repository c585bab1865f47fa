# SPDX-License-Identifier: GPL-2.0-or-later
"""The bench of the pixel kernel leaves nothing of its matrix out, and its peers do the job."""

from __future__ import annotations

import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maglens_v4l2 import _pixels

pytest.importorskip("cv2", reason="OpenCV is installed for tests and bench only")
pytest.importorskip("crc32c")

from tests.bench import pixel_matrix
from tests.bench.opencv_chain import Format, Steps
from tests.bench.pixel_job import SIZES, Job, frame, tuning
from tests.bench.pixel_quality import Planes

if TYPE_CHECKING:
    from tests.bench.pixel_job import Run

SMALL = (512, 64)  # the least that has room for zones
needs_swscale = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="without libswscale: apt install ffmpeg")


@needs_swscale
def test_every_size_depth_layout_thread_and_level_meets_every_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SIZES:
        monkeypatch.setitem(SIZES, name, SMALL)
    monkeypatch.setattr(pixel_matrix, "FHD", SMALL)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    pixel_matrix.edge_aware.cache_clear()
    found = {case.case for case in pixel_matrix.cases(quick=False)}
    pixel_matrix.edge_aware.cache_clear()
    product = itertools.product(("1080p", "4k", "100mp"), (10, 12), ("nv12", "yuyv"), (1, 2))
    for size, bits, layout, threads in product:
        job = f"pixel/{size}/raw{bits}/{layout}/{threads}-thread"
        for own in (job, *(f"{job}/{level}" for level in _pixels.levels())):
            assert {f"{own}/{peer}" for peer in ("opencv", "opencv-short", "swscale", "memcpy")} <= found
        assert {f"{job}/{level}/best" for level in _pixels.levels()} <= found
        assert (f"{job}/1-thread" in found) == (threads == 2)
        assert (f"{job}/opencv-16bit" in found) == (size != "100mp")


def test_all_that_are_compared_take_turns() -> None:
    order: list[str] = []
    clock = iter(range(0, 1_000_000_000, 1_000_000))
    runs: dict[str, Run] = {name: partial(order.append, name) for name in "abc"}
    taken = pixel_matrix.in_turn(runs, 3, lambda: next(clock))
    assert "".join(order) == "abc" * 4, "the first round does not count"
    assert taken == {name: [1.0] * 3 for name in "abc"}


def test_bands_make_up_the_picture() -> None:
    whole = Format(64, 50, "RGGB", 10)
    assert [part.height for part in pixel_matrix.bands(whole, 1)] == [50]
    assert [part.height for part in pixel_matrix.bands(whole, 2)] == [24, 26]


def test_opencv_makes_the_same_picture_in_either_layout() -> None:
    fmt = Format(64, 48, "RGGB", 10)
    packed = frame(fmt)
    chain = Steps(fmt, tuning(10), 8)
    planes = Planes.of_i420(chain(packed), 64, 48)
    chain.into("YUYV")
    assert np.abs(chain(packed)[:, :, 0].astype(int) - planes.y).max() <= 1


@needs_swscale
def test_swscale_on_two_threads_does_all_of_the_picture() -> None:
    fmt = Format(64, 48, "RGGB", 12)
    with ThreadPoolExecutor(1) as pool:
        peers = pixel_matrix.Peers("100mp", fmt, frame(fmt), 2, pool)
        assert sum(part.size for part in peers._samples) == 64 * 48
        assert sum(part.size for part in peers._bands) == 64 * 48 * 12 // 8
        for run in peers.runs(Job("100mp", fmt, (64, 48), "YUYV", 2)).values():
            run()
