# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures against the known scene, beside OpenCV's and a float reference's."""

from __future__ import annotations

import numpy as np
import pytest

from maglens_v4l2 import _pixels
from tests.bench import pixel_quality as quality
from tests.bench.pixel_raw_reference import fourcc_of


def ours(packed: quality.U8, bits: int, src: tuple[int, int], dst: tuple[int, int]) -> quality.Planes:
    developer = _pixels.Developer(fourcc_of("RGGB", bits), *src, 0, "NV12", *dst, 0, fit="stretch")
    t = quality.tuning(bits)
    developer.tune(t.black, t.white, t.gains, t.matrix, t.curve)
    out = np.empty(developer.dst_bytes, np.uint8)
    developer.run(packed, out)
    return quality.Planes.of_nv12(out, *dst)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("edge_aware", [False, True])
def test_no_worse_than_opencv(bits: int, depth: int, edge_aware: bool) -> None:
    pytest.importorskip("cv2", reason="OpenCV is installed for tests and bench only")
    from tests.bench.opencv_chain import Format, Steps

    if depth == 16 and edge_aware:
        pytest.skip("slow, and no different in kind")
    size = (960, 640)
    rgb = quality.scene(*size)
    packed, truth = quality.packed(rgb, bits), quality.Planes.of_linear(rgb)
    chain = Steps(Format(*size, "RGGB", bits), quality.tuning(bits), 16 if depth == 16 else 8, edge_aware)
    peer = quality.psnr(quality.Planes.of_i420(chain(packed), *size), truth)
    mine = quality.psnr(ours(packed, bits, size, size), truth)
    assert min(mine) > 35
    assert all(a >= b for a, b in zip(mine, peer, strict=True)), (mine, peer)


@pytest.mark.parametrize("dst", [(240, 136), (360, 270), (546, 410)])
def test_reduced_within_a_decibel_of_the_float_reference(dst: tuple[int, int]) -> None:
    """The same ratios as 11648x8736 to 1920x1080, and others, on an eighth of that sensor's sides."""
    src = (1456, 1092)
    rgb = quality.scene(*src)
    samples = quality.seen(rgb, 12)
    truth = quality.Planes.of_linear(quality.area(rgb, *dst))
    camera = quality.bilinear(samples, 12)
    reference = quality.Planes.of_linear(quality.corrected(quality.area(camera, *dst))).rounded()
    theirs = quality.psnr(reference, truth)
    mine = quality.psnr(ours(quality.packed(rgb, 12), 12, src, dst), truth)
    assert all(a >= b - 1 for a, b in zip(mine, theirs, strict=True)), (mine, theirs)
