# SPDX-License-Identifier: GPL-2.0-or-later
"""A bare lens before a camera: the remap equals a plain numpy one, and undoes what a lens does."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maglens_driver.frame import Frame, Meta
from maglens_driver.link.descriptor import Calibration, Lens, Profile
from maglens_driver.mode import NV12, YUYV, Mode, make_mode
from maglens_driver.virtual.lens import load_lens, optics_names
from maglens_v4l2._pixels import Remap
from maglens_v4l2.correcting import OpticsConverter, table
from maglens_v4l2.optics import Optics, through
from maglens_v4l2.orientation import UPRIGHT, Orientation

W, H = 64, 48
PLAIN = Optics(Lens("50 mm f/2", (50_000, 50_000), (2000, 2000), 700), Profile(), Calibration())
RNG = np.random.default_rng(7)

Plane = NDArray[np.uint8]


class Held:
    def __init__(self, raw: bytes | bytearray) -> None:
        self.view = memoryview(bytearray(raw))

    def release(self) -> None: ...


def frame(mode: Mode, raw: bytes) -> Frame:
    return Frame(Held(raw), len(raw), mode, 1, 1, 1)


def mode(code: int = NV12, width: int = W, height: int = H) -> Mode:
    return make_mode(code, width, height, Fraction(1, 30))


def reference(
    plane: NDArray[Any], x: NDArray[np.int32], y: NDArray[np.int32], gain: NDArray[np.uint16], zero: int
) -> Plane:
    """What remap.c does, sample by sample, in whole numbers. ``plane``: rows, columns, channels."""
    rows, columns, _ = plane.shape
    px, py = np.minimum(x, (columns - 1) * 256 - 1), np.minimum(y, (rows - 1) * 256 - 1)
    ix, fx, iy, fy = px // 256, (px % 256)[..., None], py // 256, (py % 256)[..., None]
    ix, iy = np.where(x < 0, 0, ix), np.where(y < 0, 0, iy)
    whole = plane.astype(np.int64)
    above = whole[iy, ix] * (256 - fx) + whole[iy, ix + 1] * fx
    below = whole[iy + 1, ix] * (256 - fx) + whole[iy + 1, ix + 1] * fx
    value = (above * (256 - fy) + below * fy + (1 << 15)) >> 16
    lit = (((value - zero) * gain.astype(np.int64)[..., None] + 2048) >> 12) + zero
    return np.where(((x < 0) | (y < 0))[..., None], zero, np.clip(lit, 0, 255)).astype(np.uint8)


def tables(rows: int, columns: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint16]]:
    x = RNG.integers(-300, columns * 256 + 300, (rows, columns)).astype(np.int32)
    y = RNG.integers(-300, rows * 256 + 300, (rows, columns)).astype(np.int32)
    return x, y, RNG.integers(0, 0x10000, (rows, columns)).astype(np.uint16)


@pytest.mark.parametrize(("src_stride", "dst_stride"), [(W, W), (W + 32, W), (W, W + 10)])
def test_the_remap_equals_the_reference(src_stride: int, dst_stride: int) -> None:
    luma, chroma = tables(H, W), tables(H // 2, W // 2)
    raw = RNG.integers(0, 256, src_stride * H * 3 // 2).astype(np.uint8)
    out = np.full(dst_stride * H * 3 // 2, 77, np.uint8)
    Remap(W, H, src_stride, dst_stride, luma, chroma).run(raw, out)
    lines, made = raw.reshape(-1, src_stride), out.reshape(-1, dst_stride)
    want = reference(lines[:H, :W, None], *luma, 16)[..., 0]
    assert np.array_equal(made[:H, :W], want)
    pairs = lines[H:, :W].reshape(H // 2, W // 2, 2)
    assert np.array_equal(made[H:, :W].reshape(H // 2, W // 2, 2), reference(pairs, *chroma, 128))
    assert (made[:, W:] == 77).all()


def test_wrong_tables_and_buffers_are_refused() -> None:
    luma, chroma = tables(H, W), tables(H // 2, W // 2)
    with pytest.raises(ValueError, match="gain"):
        Remap(W, H, W, W, (luma[0], luma[1], luma[2][:-1].copy()), chroma)
    with pytest.raises(ValueError, match="neighbours"):
        Remap(2, 2, 2, 2, luma, chroma)
    shifted = np.frombuffer(b"\0" + luma[0].tobytes(), np.uint8)[1:]
    with pytest.raises(ValueError, match="aligned"):
        Remap(W, H, W, W, (shifted, luma[1], luma[2]), chroma)
    with pytest.raises(ValueError, match="too large"):  # offsets have 32 bits
        Remap(4, 32768, 131072, 4, tables(32768, 4), tables(16384, 2))
    remap = Remap(W, H, W, W, luma, chroma)
    buffer = bytearray(W * H * 3 // 2)
    with pytest.raises(ValueError):
        remap.run(buffer[:-1], buffer)
    with pytest.raises(ValueError):
        remap.run(buffer, buffer)


def picture(width: int = W, height: int = H) -> bytes:
    """A slope to the right and down, with colour."""
    y, x = np.mgrid[0:height, 0:width]
    luma = (30 + 2 * x + y).astype(np.uint8)
    chroma = np.stack([100 + x[::2, ::2] // 2, 150 - y[::2, ::2] // 2], -1).astype(np.uint8)
    return bytes(luma.tobytes() + chroma.tobytes())


def shown(optics: Optics, src: Mode, raw: bytes, dst: Mode) -> Plane:
    out = bytearray(dst.nbytes)
    converter = through(optics, src, dst)
    assert converter is not None
    assert converter.run(frame(src, raw), memoryview(out)) is None
    return np.frombuffer(out, np.uint8)


def luma_of(raw: Plane | bytes) -> Plane:
    return np.frombuffer(bytes(raw), np.uint8)[: W * H].reshape(H, W)


def test_a_lens_that_does_nothing_changes_nothing() -> None:
    inner = np.s_[1:-1, 1:-1]
    got = luma_of(shown(PLAIN, mode(), picture(), mode()))
    assert np.array_equal(got[inner], luma_of(picture())[inner])


def test_flips_turn_the_picture_back() -> None:
    both = Optics(PLAIN.lens, Profile(1_000_000, ("horizontal", "vertical")), Calibration())
    got = luma_of(shown(both, mode(), picture(), mode()))
    assert np.array_equal(got[1:-1, 1:-1], luma_of(picture())[::-1, ::-1][1:-1, 1:-1])


def test_a_crop_fills_the_picture_with_its_middle() -> None:
    half = Optics(PLAIN.lens, Profile(500_000), Calibration())
    got = luma_of(shown(half, mode(), picture(), mode())).astype(int)
    src = luma_of(picture()).astype(int)
    assert abs(got[2:-2, 2:-2].mean() - src.mean()) < 1
    assert abs((got[24, -2] - got[24, 1]) - (src[24, 47] - src[24, 16])) <= 2


def test_vignetting_is_undone() -> None:
    """Grey that the lens has darkened to the corner by half, in light, is even again within a step or two."""
    y, x = np.mgrid[0:H, 0:W]
    radius2 = ((x + 0.5 - W / 2) ** 2 + (y + 0.5 - H / 2) ** 2) / ((W / 2) ** 2 + (H / 2) ** 2)
    dark = 16 + 160 * (1 / (1 + radius2)) ** 0.45
    raw = np.rint(dark).astype(np.uint8).tobytes() + bytes([128]) * (W * H // 2)
    points = tuple(round((1 + k / 16) * 1_000_000) for k in range(17))
    lens = Optics(PLAIN.lens, Profile(), Calibration(points, ()))
    got = luma_of(shown(lens, mode(), raw, mode())).astype(int)
    assert abs(got - 176).max() <= 2
    assert np.rint(dark).min() < 140


def test_distortion_is_undone() -> None:
    """A straight line that a barrel has bent is straight again: its points are where a straight one has them."""
    shifts = (0, -2_000, -16_000, -54_000, -128_000)
    lens = Optics(PLAIN.lens, Profile(), Calibration((), shifts))
    x, y, _ = table(lens, 640, 480, 1)
    assert max(abs(x[240, 320] / 256 - 320), abs(y[240, 320] / 256 - 240)) < 0.5
    # of a point at radius 0.75 (the fourth of five) the camera's is nearer to the middle by that shift
    at = (round(320 + 0.75 * 400 * 0.8), round(240 + 0.75 * 400 * 0.6))
    found = np.hypot(x[at[1], at[0]] / 256 - 319.5, y[at[1], at[0]] / 256 - 239.5) / 400
    assert found == pytest.approx(0.75 - 0.054, abs=0.004)


@pytest.mark.parametrize(("code", "width", "height"), [(NV12, 128, 96), (YUYV, W, H), (YUYV, 128, 96)])
def test_it_goes_on_to_the_nodes_format(code: int, width: int, height: int) -> None:
    dst = mode(code, width, height)
    got = shown(Optics(PLAIN.lens, Profile(500_000), Calibration()), mode(YUYV), bytes([90, 128]) * (W * H), dst)
    level = got[: width * height] if code == NV12 else got[0::2]
    assert set(np.unique(level)) == {90}


def test_without_a_lens_it_is_the_plain_converter() -> None:
    assert through(None, mode(), mode()) is None
    assert not isinstance(through(None, mode(), mode(YUYV)), OpticsConverter)


def test_frames_tell_of_the_lens() -> None:
    meta = PLAIN.meta(Meta(exposure_us=100, focal_um=4000, fnumber_milli=2800, focus_cdpt=30))
    assert (meta.exposure_us, meta.focal_um, meta.fnumber_milli, meta.focus_cdpt) == (100, 50_000, 2000, 0)


@pytest.mark.parametrize("name", optics_names())
def test_every_optics_file_is_optics_only(name: str) -> None:
    descriptor = load_lens(name).descriptor
    assert descriptor.is_optics_only
    assert descriptor.profile is not None


@pytest.mark.parametrize("dst", [mode(), mode(YUYV), mode(NV12, 32, 24)])
@pytest.mark.parametrize("orientation", [UPRIGHT, Orientation(180)])
def test_the_way_to_another_format_is_the_one_that_is_made_for_it(dst: Mode, orientation: Orientation) -> None:
    lens = Optics(PLAIN.lens, Profile(), Calibration((1_000_000, 1_500_000), (0, -20_000)))
    src = mode(YUYV)
    picture = frame(src, RNG.integers(0, 256, src.nbytes, np.uint8).tobytes())
    made = through(lens, src, dst, orientation)
    other = through(lens, src, mode(NV12, 128, 96), orientation)
    moved = through(lens, src, dst, orientation, like=other)
    assert made is not None
    assert moved is not None
    want, got = bytearray(dst.nbytes), bytearray(dst.nbytes)
    assert made.run(picture, memoryview(want)) is None
    assert moved.run(picture, memoryview(got)) is None
    assert want == got
    assert len(set(want)) > 1
