# SPDX-License-Identifier: GPL-2.0-or-later
"""How close to a known scene: the scene, the sensor that sees it, a float reference, and PSNR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.bench.pixel_raw_reference import F64, Tuning, pack, srgb_curve

U8 = NDArray[np.uint8]
MATRIX = (1.62, -0.45, -0.17, -0.31, 1.55, -0.24, 0.02, -0.61, 1.59)
GAINS = (1.9, 1.0, 1.6)
HEADROOM = 0.95  # of the sensor's range that white takes
READ_NOISE = 0.7  # sample values
MARGIN = 8  # pixels at the edges that are left out: each reference has its own idea of what lies beyond


@dataclass(frozen=True, slots=True)
class Planes:
    """Y, U, V in limited range, unrounded or not; chroma halved both ways."""

    y: NDArray[np.floating | np.integer]
    u: NDArray[np.floating | np.integer]
    v: NDArray[np.floating | np.integer]

    @classmethod
    def of_nv12(cls, buffer: U8, width: int, height: int) -> Planes:
        """From a tight NV12 buffer."""
        pairs = buffer[width * height :].reshape(height // 2, width // 2, 2)
        return cls(buffer[: width * height].reshape(height, width), pairs[:, :, 0], pairs[:, :, 1])

    @classmethod
    def of_i420(cls, buffer: U8, width: int, height: int) -> Planes:
        """From a tight I420 buffer."""
        flat, luma = buffer.ravel(), width * height
        half = (height // 2, width // 2)
        u, v = flat[luma : luma * 5 // 4], flat[luma * 5 // 4 :]
        return cls(flat[:luma].reshape(height, width), u.reshape(half), v.reshape(half))

    @classmethod
    def of_linear(cls, rgb: F64) -> Planes:
        """From linear RGB of 0 to 1, through the sRGB curve, in floats."""
        t = np.interp(np.clip(rgb, 0, 1) * 8192, np.arange(8193), srgb_curve()) / 65535
        y = t @ np.array([0.299, 0.587, 0.114])
        u, v = (t[:, :, 2] - y) / 1.772, (t[:, :, 0] - y) / 1.402
        h, w = y.shape[0] // 2, y.shape[1] // 2
        halved = [c.reshape(h, 2, w, 2).mean(axis=(1, 3)) for c in (u, v)]
        return cls(16 + 219 * y, 128 + 224 * halved[0], 128 + 224 * halved[1])

    def rounded(self) -> Planes:
        """To the integers that a buffer holds."""
        return Planes(np.round(self.y), np.round(self.u), np.round(self.v))


def drawn(width: int, height: int, first: int = 0, end: int | None = None) -> F64:
    """Rows of linear RGB (rows, width, 3): colour ramps, edges of three colours, a zone plate."""
    y, x = np.mgrid[first : height if end is None else end, 0:width].astype(np.float64)
    x, y = x / width, y / height
    r = 0.35 + 0.25 * np.sin(40 * x * x + 9 * y) + 0.2 * ((x * 17).astype(int) % 2)
    g = 0.40 + 0.25 * np.sin(60 * x * y) + 0.2 * ((y * 13).astype(int) % 2)
    b = 0.30 + 0.20 * np.cos(30 * (x - y)) + 0.2 * (((x + y) * 11).astype(int) % 2)
    plate = 0.12 * np.cos(900 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))
    return np.asarray(np.dstack([r, g, b]) + plate[:, :, None])


def scene(width: int, height: int) -> F64:
    """The whole of it, softened by a lens."""
    out = drawn(width, height)
    for axis in (0, 1):
        out = (np.roll(out, 1, axis) + 2 * out + np.roll(out, -1, axis)) / 4
    return np.asarray(np.clip(out, 0, 0.95))


def tuning(bits: int) -> Tuning:
    """What undoes the sensor below."""
    more = 1 << (bits - 10)
    gains = (GAINS[0] / HEADROOM, GAINS[1] / HEADROOM, GAINS[2] / HEADROOM)
    return Tuning(64.0 * more, (1 << bits) - 1.0, gains, MATRIX)


def seen(rgb: F64, bits: int) -> NDArray[np.uint16]:
    """The samples of an RGGB sensor, with its black level and read noise."""
    t = tuning(bits)
    camera = np.clip(rgb @ np.linalg.inv(np.reshape(MATRIX, (3, 3))).T, 0, None) * HEADROOM / np.array(GAINS)
    mosaic = np.empty(rgb.shape[:2])
    for k, c in enumerate((0, 1, 1, 2)):
        mosaic[k // 2 :: 2, k % 2 :: 2] = camera[k // 2 :: 2, k % 2 :: 2, c]
    noise = np.random.default_rng(5).normal(0, READ_NOISE, mosaic.shape)
    return np.clip(np.round(t.black + mosaic * (t.white - t.black) + noise), 0, t.white).astype(np.uint16)


def packed(rgb: F64, bits: int) -> U8:
    """The same, packed."""
    return pack(seen(rgb, bits), bits)


def bilinear(samples: NDArray[np.uint16], bits: int) -> F64:
    """Linear RGB after gains by bilinear demosaicing in floats; colours still the sensor's."""
    t = tuning(bits)
    s = np.clip((samples - t.black) / (t.white - t.black), 0, None)
    out = np.empty((*s.shape, 3))
    rows, columns = np.indices(s.shape) % 2
    place = rows * 2 + columns
    for colour, sites in ((0, (0,)), (1, (1, 2)), (2, (3,))):
        mask = np.isin(place, sites).astype(np.float64)
        total, weight = (np.pad(a, 1, mode="reflect") for a in (s * mask, mask))
        kernel = [(dy, dx, (2 - abs(dy)) * (2 - abs(dx))) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        if colour == 1:
            kernel = [(dy, dx, k) for dy, dx, k in kernel if abs(dy) + abs(dx) < 2]
        sums = [np.zeros(s.shape), np.zeros(s.shape)]
        for dy, dx, k in kernel:
            cut = np.s_[1 + dy : 1 + dy + s.shape[0], 1 + dx : 1 + dx + s.shape[1]]
            sums[0] += k * total[cut]
            sums[1] += k * weight[cut]
        mean = sums[0] / sums[1]
        out[:, :, colour] = np.where(mask > 0, s, mean) * t.gains[colour]
    return np.minimum(out, 1)


def area(rgb: F64, width: int, height: int) -> F64:
    """Averages over exactly the area that each output pixel covers."""

    def weights(src: int, dst: int) -> F64:
        edges = np.arange(dst + 1) * src / dst
        j = np.arange(src)
        cover = np.minimum(edges[1:, None], j + 1) - np.maximum(edges[:-1, None], j)
        return np.asarray(np.clip(cover, 0, None) * dst / src)

    rows = np.tensordot(weights(rgb.shape[0], height), rgb, axes=(1, 0))
    return np.asarray(np.einsum("xj,yjc->yxc", weights(rgb.shape[1], width), rows, optimize=True))


def corrected(camera: F64) -> F64:
    """The colour matrix."""
    return np.asarray(camera @ np.reshape(MATRIX, (3, 3)).T)


def psnr(a: Planes, b: Planes) -> tuple[float, float, float]:
    """Of Y, U and V, in dB, edges left out."""

    def one(p: NDArray[np.floating | np.integer], q: NDArray[np.floating | np.integer]) -> float:
        gap = (p.astype(np.float64) - q)[MARGIN:-MARGIN, MARGIN:-MARGIN]
        return float(10 * np.log10(255**2 / np.mean(gap**2)))

    return one(a.y, b.y), one(a.u, b.u), one(a.v, b.v)
