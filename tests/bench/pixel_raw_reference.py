# SPDX-License-Identifier: GPL-2.0-or-later
"""Developer in plain numpy: in its own integers, for equality, and in floats, for quality."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.bench.pixel_reference import H_ONE, U8, bayer_axis, plane_scaled

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

WHITE = 8191  # linear, 13 bits
TONE_WHITE = 255 * 64  # tone-mapped, 14 bits
BLOCK = 32  # quads per step of the vignetting mesh
MAX_GAIN = 3.99
STATS_STEP = 4
CLIPPED = 8027
FOURCC_OF = {"RGGB": "pR", "GRBG": "pg", "GBRG": "pG", "BGGR": "pB"}
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def fourcc_of(cfa: str, bits: int) -> str:
    """V4L2's name of a packed Bayer format."""
    return FOURCC_OF[cfa] + {10: "AA", 12: "CC"}[bits]


def srgb_curve() -> NDArray[np.uint16]:
    """The transfer function of sRGB as `Developer.tune` takes it: 8193 samples, 65535 is white."""
    x = np.arange(8193) / 8192
    y = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.round(y * 65535).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Tuning:
    """The arguments of `Developer.tune`."""

    black: float
    white: float
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    matrix: tuple[float, ...] = IDENTITY
    curve: NDArray[np.uint16] = field(default_factory=srgb_curve)
    falloff: F64 | None = None


def pack(samples: NDArray[np.integer], bits: int, stride: int = 0) -> U8:
    """Samples (rows, columns) as MIPI CSI-2 packs them, rows `stride` bytes apart."""
    s = samples.astype(np.uint16)
    if bits == 10:
        groups = s.reshape(s.shape[0], -1, 4)
        low = sum(((groups[:, :, k] & 3) << (2 * k)) for k in range(4))
        out = np.concatenate([groups >> 2, np.asarray(low)[:, :, None]], axis=2)
    else:
        groups = s.reshape(s.shape[0], -1, 2)
        low = (groups[:, :, 0] & 15) | (groups[:, :, 1] & 15) << 4
        out = np.concatenate([groups >> 4, low[:, :, None]], axis=2)
    rows = out.reshape(s.shape[0], -1).astype(np.uint8)
    return np.pad(rows, ((0, 0), (0, max(0, stride - rows.shape[1])))).ravel()


def half_up(x: F64 | float) -> I64:
    """C's lround for numbers above zero and below."""
    return np.asarray(np.sign(x) * np.floor(np.abs(x) + 0.5)).astype(np.int64)


def tone_table(curve: NDArray[np.uint16]) -> I64:
    """The curve in 62 straight pieces, for each linear value: recipe.c's tone_init."""
    t = curve.astype(np.float64) * TONE_WHITE / 65535
    out = np.empty(WHITE + 1, np.int64)
    for x0, x1, shift in [(16 * k, 16 * k + 16, 7) for k in range(32)] + [
        (256 * k, 256 * k + 256, 3) for k in range(2, 32)
    ]:
        slope = int(half_up((t[x1] - t[x0]) / (x1 - x0) * 65536 / (1 << shift)))
        base = int(np.floor(t[x0] + 0.5 - float(x0 << shift) * slope / 65536 + 0.5))
        x = np.arange(x0, min(x1, WHITE + 1), dtype=np.int64)
        out[x] = base + ((x << shift) * slope >> 16)
    wrapped: I64 = out & 0xFFFF
    return wrapped


def mesh(shape: tuple[int, int], crop: tuple[int, int, int, int], falloff: F64 | None) -> I64:
    """Vignetting gain of each quad, 14 bits behind the point: recipe.c's ml_mesh_fill and _row, level()."""
    height, width = shape[0] // 2, shape[1] // 2
    x, y, w, h = (n // 2 for n in crop)
    across, down = -(-w // BLOCK) + 1, h // BLOCK + 2
    bottom = np.arange(down) * BLOCK > h
    right = np.arange(across) * BLOCK > w

    def at(column: I64, line: I64) -> F64:
        dx, dy = 2 * (column + x) - width, 2 * (line + y) - height
        far = (dx[None, :] ** 2 + dy[:, None] ** 2) / (width**2 + height**2)
        if falloff is None:
            return np.ones(far.shape)
        return np.asarray(np.interp(far * (len(falloff) - 1), np.arange(len(falloff)), falloff))

    def along(line: I64) -> F64:
        """Nodes of lines of nodes; the last may lie behind the edge, where the way there is right."""
        column = np.arange(across) * BLOCK
        gain = at(np.minimum(column, w), line)
        before = column[right] - BLOCK
        start = at(before, line)
        gain[:, right] = start + (gain[:, right] - start) * BLOCK / (w - before)
        return gain

    line = np.arange(down) * BLOCK
    gain = along(np.minimum(line, h))
    before = line[bottom] - BLOCK
    start = along(before)
    ahead = np.where(h > before, h - before, BLOCK)[:, None]  # nothing of the last one counts where h is its edge
    gain[bottom] = np.where((h > before)[:, None], start + (gain[bottom] - start) * BLOCK / ahead, gain[bottom])
    gain = np.clip(gain, 0.25, MAX_GAIN)
    node = half_up(gain * 16384)
    for k in range(1, across):
        made_up = bottom | right[k]
        near = node[:, k - 1] / 16384
        node[made_up, k] = half_up(np.clip(gain[:, k], near - 1.99, near + 1.99) * 16384)[made_up]
    row = np.arange(h)
    f = (row % BLOCK)[:, None]
    lines = (node[row // BLOCK] * (BLOCK - f) + node[row // BLOCK + 1] * f + BLOCK // 2) // BLOCK
    quad = np.arange(w)
    left, right = lines[:, quad // BLOCK], lines[:, quad // BLOCK + 1]
    gains: I64 = left + (((right - left) * (quad % BLOCK * 1024) + (1 << 14)) >> 15)
    return gains


@dataclass(frozen=True, slots=True)
class Planes:
    """Linear samples by role (quad rows, quads): P is the first colour, Q the last; greens beside each."""

    p: I64
    g0: I64
    g1: I64
    q: I64
    odd: bool  # P stands in the odd column
    swapped: bool  # P is blue


def linear(
    samples: NDArray[np.integer], cfa: str, bits: int, tuning: Tuning, crop: tuple[int, int, int, int]
) -> Planes:
    """Black level and gains, to 13 bits."""
    odd, swapped = cfa in ("GRBG", "GBRG"), cfa in ("BGGR", "GBRG")
    x, y, w, h = crop
    s = samples[y : y + h, x : x + w].astype(np.int64) << (16 - bits)
    scale = 65536.0 / (1 << bits)
    s = np.maximum(0, s - int(half_up(tuning.black * scale)))
    full = (tuning.white - tuning.black) * scale
    gains = [int(half_up(g * 65536 / full * 16384)) for g in tuning.gains]
    falloff = mesh(samples.shape, crop, tuning.falloff)

    def plane(row: int, column: int, gain: int) -> I64:
        both = np.minimum(2 * ((falloff * gain) >> 16), 65535)
        levelled: I64 = np.minimum((s[row::2, column::2] * both) >> 16, WHITE)
        return levelled

    return Planes(
        plane(0, int(odd), gains[2 if swapped else 0]),
        plane(0, int(not odd), gains[1]),
        plane(1, int(odd), gains[1]),
        plane(1, int(not odd), gains[0 if swapped else 2]),
        odd,
        swapped,
    )


def moved(a: I64, dy: int, dx: int) -> I64:
    """a[y + dy, x + dx], edges repeated."""
    y = np.clip(np.arange(a.shape[0]) + dy, 0, a.shape[0] - 1)
    x = np.clip(np.arange(a.shape[1]) + dx, 0, a.shape[1] - 1)
    return a[y][:, x]


def mulhrs(a: I64, b: int) -> I64:
    """Product with 15 bits behind the point, rounded."""
    return (a * b + (1 << 14)) >> 15


def saturated(a: I64) -> I64:
    """To signed 16 bits."""
    return np.clip(a, -32768, 32767)


def coloured(g: I64, dr: I64, db: I64, tuning: Tuning) -> list[I64]:
    """Tone-mapped R, G, B; dr and db are four times the colour differences."""
    table = tone_table(tuning.curve)
    rows = np.reshape(tuning.matrix, (3, 3))
    out = []
    for row in rows:
        shift = saturated(mulhrs(dr, int(half_up(row[0] * 8192))) + mulhrs(db, int(half_up(row[2] * 8192))))
        out.append(table[np.clip(saturated(g + shift), 0, WHITE)])
    return out


def demosaiced(planes: Planes, tuning: Tuning) -> list[list[I64]]:
    """Tone-mapped R, G, B at the upper left, upper right, lower left and lower right of each quad."""
    p, g0, g1, q, odd = planes.p, planes.g0, planes.g1, planes.q, int(planes.odd)

    def green_at(own: I64, greens: I64) -> I64:
        around = moved(own, 0, -1) + moved(own, 0, 1) + moved(own, -1, 0) + moved(own, 1, 0)
        return np.clip(((greens + 2) >> 2) + ((4 * own - around) >> 3), 0, WHITE)

    gp = green_at(p, moved(g0, 0, odd - 1) + moved(g0, 0, odd) + moved(g1, -1, 0) + g1)
    gq = green_at(q, moved(g1, 0, -odd) + moved(g1, 0, 1 - odd) + g0 + moved(g0, 1, 0))
    dp, dq = p - gp, q - gq
    p_pair = moved(dp, 0, -odd) + moved(dp, 0, 1 - odd)
    q_pair = moved(dq, 0, odd - 1) + moved(dq, 0, odd)
    dps = [4 * dp, 2 * p_pair, 2 * (dp + moved(dp, 1, 0)), p_pair + moved(p_pair, 1, 0)]
    dqs = [q_pair + moved(q_pair, -1, 0), 2 * (dq + moved(dq, -1, 0)), 2 * q_pair, 4 * dq]
    out: list[list[I64]] = [[], [], [], []]
    for k, g in enumerate((gp, g0, g1, gq)):
        r, b = (dqs[k], dps[k]) if planes.swapped else (dps[k], dqs[k])
        out[k ^ odd] = coloured(g, r, b, tuning)
    return out


def reduced(planes: Planes, width: int, height: int, tuning: Tuning) -> list[list[I64]]:
    """Tone-mapped R, G, B at the four positions of each 2x2 pixels, every pixel an average of what it covers."""
    rows, columns = planes.p.shape

    def one(plane: I64, row: int, column: int, centre: int) -> I64:
        down = bayer_axis(rows, height, row, centre, H_ONE)
        across = bayer_axis(columns, width, column, centre, H_ONE)
        lines = [sum(mulhrs(4 * plane[j], int(line[j])) for j in np.flatnonzero(line)) for line in down]
        return np.asarray(np.minimum((np.stack(lines) @ across.T + (1 << 14)) >> 15, WHITE))

    odd = int(planes.odd)
    p, q = one(planes.p, 0, odd, 2), one(planes.q, 1, 1 - odd, 2)
    g = (one(planes.g0, 0, 1 - odd, 6) + one(planes.g1, 1, odd, 6) + 1) >> 1
    r, b = (q, p) if planes.swapped else (p, q)
    out = []
    for k in range(4):
        cut = np.s_[k // 2 :: 2, k % 2 :: 2]
        out.append(coloured(g[cut], 4 * (r[cut] - g[cut]), 4 * (b[cut] - g[cut]), tuning))
    return out


def luma(t: list[I64]) -> I64:
    """BT.601, limited range."""
    return (mulhrs(t[0], 8414) + mulhrs(t[1], 16519) + mulhrs(t[2], 3208) + 16 * 64 + 32) >> 6


def blue(t: list[I64]) -> I64:
    """Cb."""
    return (mulhrs(t[0], -4857) + mulhrs(t[1], -9535) + mulhrs(t[2], 14392) + 128 * 64 + 32) >> 6


def red(t: list[I64]) -> I64:
    """Cr."""
    return (mulhrs(t[0], 14392) + mulhrs(t[1], -12052) + mulhrs(t[2], -2340) + 128 * 64 + 32) >> 6


def quads_to_planes(t: list[list[I64]], fourcc: str) -> tuple[U8, U8, U8]:
    """Y, U, V of NV12 or YUYV from the four positions of each quad."""
    rows, columns = t[0][0].shape
    y = np.empty((2 * rows, 2 * columns), np.uint8)
    for k in range(4):
        y[k // 2 :: 2, k % 2 :: 2] = luma(t[k])
    if fourcc == "NV12":
        mean = [(t[0][c] + t[1][c] + t[2][c] + t[3][c] + 2) >> 2 for c in range(3)]
        return y, blue(mean).astype(np.uint8), red(mean).astype(np.uint8)
    u, v = np.empty((2 * rows, columns), np.uint8), np.empty((2 * rows, columns), np.uint8)
    for k in range(2):
        mean = [(t[2 * k][c] + t[2 * k + 1][c] + 1) >> 1 for c in range(3)]
        u[k::2], v[k::2] = blue(mean), red(mean)
    return y, u, v


def develop(
    samples: NDArray[np.integer],
    cfa: str,
    bits: int,
    tuning: Tuning,
    *,
    fourcc: str,
    placed: tuple[int, int],
    crop: tuple[int, int, int, int] | None = None,
) -> tuple[U8, U8, U8]:
    """The planes that Developer makes at (width, height) = placed, in its own integers."""
    crop = crop or (0, 0, samples.shape[1], samples.shape[0])
    planes = linear(samples, cfa, bits, tuning, crop)
    width, height = placed
    if planes.p.shape[1] >= width and planes.p.shape[0] >= height:
        return quads_to_planes(reduced(planes, width, height, tuning), fourcc)
    y, u, v = quads_to_planes(demosaiced(planes, tuning), fourcc)
    if crop[2:] == placed:
        return y, u, v
    size = (width // 2, height // 2 if fourcc == "NV12" else height)
    return plane_scaled(y, width, height), plane_scaled(u, *size), plane_scaled(v, *size)


def statistics(planes: Planes, zones: tuple[int, int]) -> tuple[I64, I64]:
    """Zones (rows, columns, 7 fields as in raw.h's ml_zone) and the histogram, by sums over slices."""
    p, g0, g1, q = planes.p, planes.g0, planes.g1, planes.q
    rows, columns = p.shape
    blocks = -(-columns // BLOCK)
    slope = (moved(g0, 0, 1) - g0) >> 3
    clipped = np.maximum(np.maximum(p, q), np.maximum(g0, g1)) >= CLIPPED
    r, b = (q, p) if planes.swapped else (p, q)
    light = (p + g0 + g1 + q) >> 2
    fields = [np.ones_like(p), clipped, r * ~clipped, (g0 + g1) * ~clipped, b * ~clipped, light, slope * slope]
    out = np.zeros((zones[1], zones[0], len(fields)), np.int64)
    for row in range(0, rows, STATS_STEP):
        for z in range(zones[0]):
            start, end = (k * blocks // zones[0] * BLOCK for k in (z, z + 1))
            out[row * zones[1] // rows, z] += [int(f[row, start:end].sum()) for f in fields]
    histogram = np.bincount((light[::STATS_STEP, ::STATS_STEP] >> 6).ravel(), minlength=128)
    return out, histogram
