# SPDX-License-Identifier: GPL-2.0-or-later
"""How near to the known scene: PSNR and CIEDE2000 beside OpenCV's demosaicing and a float reference in numpy.

Three parts of the scene are three repeats.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import cv2
import numpy as np

from maglens_v4l2 import _pixels
from tests.bench import pixel_quality as quality
from tests.bench.case import Case, from_samples
from tests.bench.color_difference import mean_difference
from tests.bench.opencv_chain import Bits, Format, Steps
from tests.bench.pixel_quality import Planes
from tests.bench.pixel_raw_reference import Tuning, fourcc_of, pack

SIZE: Final = (1920, 1080)
PARTS: Final = 3
FULL: Final = (11648, 8736)
SMALL: Final = (1920, 1080)
BAND: Final = 45  # rows of the small picture made at a time: 364 of the sensor's
EDGE: Final = 2  # rows beyond, that demosaicing looks at


def developed(packed: quality.U8, bits: int, src: tuple[int, int], dst: tuple[int, int]) -> Planes:
    """By the pixel kernel."""
    developer = _pixels.Developer(fourcc_of("RGGB", bits), *src, 0, "NV12", *dst, 0, fit="stretch")
    t: Tuning = quality.tuning(bits)
    developer.tune(t.black, t.white, t.gains, t.matrix, t.curve)
    out = np.empty(developer.dst_bytes, np.uint8)
    developer.run(packed, out)
    return Planes.of_nv12(out, *dst)


def by_opencv(packed: quality.U8, bits: int, depth: Bits, edge_aware: bool) -> Planes:
    """The same steps by OpenCV."""
    chain = Steps(Format(*SIZE, "RGGB", bits), quality.tuning(bits), depth, edge_aware)
    return Planes.of_i420(chain(packed), *SIZE)


def by_numpy(samples: np.ndarray[tuple[int, ...], np.dtype[np.uint16]], bits: int) -> Planes:
    """Bilinear in floats, rounded once, at the end."""
    return Planes.of_linear(quality.corrected(quality.bilinear(samples, bits))).rounded()


def parts(planes: Planes) -> Iterator[Planes]:
    """Bands of equal height."""
    rows = planes.y.shape[0] // PARTS // 2 * 2
    for k in range(PARTS):
        y, c = slice(k * rows, (k + 1) * rows), slice(k * rows // 2, (k + 1) * rows // 2)
        yield Planes(planes.y[y], planes.u[c], planes.v[c])


def compared(name: str, mine: Planes, peer: Planes, peer_name: str, truth: Planes) -> Iterator[Case]:
    """PSNR of each plane, and colour difference."""
    for k, plane in enumerate("yuv"):
        values = [
            [quality.psnr(p, t)[k] for p, t in zip(parts(planes), parts(truth), strict=True)]
            for planes in (mine, peer)
        ]
        yield from_samples(f"{name}/psnr-{plane}/{peer_name}", "dB", "higher", values[0], values[1], peer_name)
    values = [
        [mean_difference(p, t) for p, t in zip(parts(planes), parts(truth), strict=True)] for planes in (mine, peer)
    ]
    yield from_samples(f"{name}/delta-e-2000/{peer_name}", "dE00", "lower", values[0], values[1], peer_name)


def demosaiced() -> Iterator[Case]:
    """At the sensor's own size."""
    rgb = quality.scene(*SIZE)
    truth = Planes.of_linear(rgb)
    for bits in (10, 12):
        samples = quality.seen(rgb, bits)
        packed = pack(samples, bits)
        mine = developed(packed, bits, SIZE, SIZE)
        peers = {
            "opencv-bilinear": partial(by_opencv, packed, bits, 8, False),
            "opencv-edge-aware": partial(by_opencv, packed, bits, 8, True),
            "opencv-16bit": partial(by_opencv, packed, bits, 16, False),
            "numpy-bilinear": partial(by_numpy, samples, bits),
        }
        for peer_name, make in peers.items():
            yield from compared(f"quality/1080p/raw{bits}", mine, make(), peer_name, truth)


def reduced() -> Iterator[Case]:
    """Every pixel of the largest sensor to a small picture, beside bilinear demosaicing and exact areas in floats.
    Band by band, since all of it in floats takes gigabytes."""
    (width, height), (to, rows) = FULL, SMALL
    step = height * BAND // rows
    packed = np.empty((height, width * 3 // 2), np.uint8)
    scene, reference = [], []
    for first in range(0, height, step):
        above, below = max(0, first - EDGE), min(height, first + step + EDGE)
        rgb = np.clip(quality.drawn(width, height, above, below), 0, 0.95)
        samples = quality.seen(rgb, 12)
        inside = slice(first - above, first - above + step)
        packed[first : first + step] = pack(samples[inside], 12).reshape(step, -1)
        scene.append(quality.area(rgb[inside], to, BAND))
        reference.append(quality.area(quality.bilinear(samples, 12)[inside], to, BAND))
    truth = Planes.of_linear(np.concatenate(scene))
    peer = Planes.of_linear(quality.corrected(np.concatenate(reference))).rounded()
    mine = developed(packed.ravel(), 12, FULL, SMALL)
    yield from compared("quality/100mp-to-1080p/raw12", mine, peer, "numpy", truth)


def cases(quick: bool = False) -> Iterator[Case]:
    """Every case; without the largest sensor when `quick`."""
    cv2.setNumThreads(1)
    yield from demosaiced()
    if not quick:
        yield from reduced()
