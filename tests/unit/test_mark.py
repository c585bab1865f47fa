# SPDX-License-Identifier: GPL-2.0-or-later
"""The mark is read back from scaled, letterboxed, compressed and brightened pictures, and never read wrong."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maglens_driver.mode import NV12, YUYV, Mode, make_mode
from maglens_driver.virtual.mark import Mark, Mixed, draw, luma_plane, read, strip_height

Luma = npt.NDArray[np.uint8]
SIZES = ((640, 480), (1280, 720), (1920, 1080))
MARKS = st.builds(Mark, st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFFFF))


def mode_of(code: int, size: tuple[int, int]) -> Mode:
    return make_mode(code, *size, Fraction(1, 30))


def scene(size: tuple[int, int], seed: int = 1) -> Luma:
    """Blocks, edges and noise: more structure than a real picture has."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(16, 235, (size[1] // 40 + 1, size[0] // 40 + 1), np.uint8)
    big = np.kron(blocks, np.ones((40, 40), np.uint8))[: size[1], : size[0]]
    return np.clip(big + rng.normal(0, 6, big.shape), 16, 235).astype(np.uint8)


def marked(size: tuple[int, int], mark: Mark, code: int = NV12) -> Luma:
    mode = mode_of(code, size)
    raw = bytearray(mode.nbytes)
    luma_plane(raw, mode)[:] = scene(size)
    draw(raw, mode, mark)
    return luma_plane(raw, mode)


def letterboxed(luma: Luma, size: tuple[int, int]) -> Luma:
    """As the bridge does it: bilinear without a prefilter, centred on black."""
    height, width = luma.shape
    scale = min(size[0] / width, size[1] / height)
    w, h = round(width * scale) // 2 * 2, round(height * scale) // 2 * 2
    y = np.clip((np.arange(h) + 0.5) / scale - 0.5, 0, height - 1)
    x = np.clip((np.arange(w) + 0.5) / scale - 0.5, 0, width - 1)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, height - 1), np.minimum(x0 + 1, width - 1)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    f = luma.astype(float)
    top = f[y0][:, x0] * (1 - fx) + f[y0][:, x1] * fx
    bottom = f[y1][:, x0] * (1 - fx) + f[y1][:, x1] * fx
    out = np.full((size[1], size[0]), 16, np.uint8)
    left, above = (size[0] - w) // 4 * 2, (size[1] - h) // 4 * 2
    out[above : above + h, left : left + w] = (top * (1 - fy) + bottom * fy).round().astype(np.uint8)
    return out


@given(MARKS)
@settings(max_examples=30)
@pytest.mark.parametrize("code", [NV12, YUYV])
def test_reads_what_was_drawn(code: int, mark: Mark) -> None:
    assert read(marked((640, 480), mark, code)) == mark


@given(MARKS, st.sampled_from(SIZES), st.sampled_from(SIZES))
@settings(max_examples=40)
def test_survives_scaling_and_letterbox(mark: Mark, source: tuple[int, int], target: tuple[int, int]) -> None:
    assert read(letterboxed(marked(source, mark), target)) == mark


@given(MARKS, st.sampled_from(SIZES), st.integers(30, 95))
@settings(max_examples=20)
def test_survives_jpeg_after_scaling(mark: Mark, source: tuple[int, int], quality: int) -> None:
    small = letterboxed(marked(source, mark), (640, 480))
    file = io.BytesIO()
    Image.fromarray(small).save(file, "JPEG", quality=quality)
    assert read(np.asarray(Image.open(file))) == mark


@given(MARKS, st.floats(0.4, 1.15), st.integers(-12, 40))
@settings(max_examples=30)
def test_survives_brightness_and_contrast(mark: Mark, contrast: float, lift: int) -> None:
    luma = marked((1280, 720), mark)
    changed = np.clip(luma * contrast + lift, 0, 255).astype(np.uint8)
    assert read(changed) == mark


@given(MARKS, MARKS, st.floats(0.05, 0.95), st.sampled_from(SIZES))
@settings(max_examples=30)
def test_a_torn_picture_is_mixed(first: Mark, second: Mark, cut: float, size: tuple[int, int]) -> None:
    if first == second:
        return
    torn = marked(size, first).copy()
    row = round(size[1] * cut)
    torn[row:] = marked(size, second)[row:]
    found = read(torn)
    assert isinstance(found, Mixed)
    assert found.top[0] == first
    assert found.bottom[-1] == second


def test_one_row_that_is_misread_does_not_make_a_picture_mixed() -> None:
    mark, misread = Mark(36, 1, 92), Mark(36, 0, 88)
    luma = marked((640, 480), mark).copy()
    edge = 480 - strip_height(480)
    luma[edge] = marked((640, 480), misread)[edge]
    assert read(luma) == mark
    luma[edge + 1] = luma[edge]
    assert isinstance(read(luma), Mixed)


def test_a_half_picture_is_mixed() -> None:
    mark = Mark(35, 1, 7)
    luma = marked((640, 480), mark).copy()
    luma[300:] = 16
    assert read(luma) == Mixed((mark,), ())


@given(MARKS, st.integers(0, 63), st.booleans())
@settings(max_examples=60)
def test_a_flipped_cell_is_never_read_as_another_mark(mark: Mark, cell: int, top: bool) -> None:
    luma = marked((640, 480), mark).copy()
    rows = slice(0, strip_height(480)) if top else slice(480 - strip_height(480), 480)
    luma[rows, cell * 10 : cell * 10 + 10] = 244 - luma[rows, cell * 10 : cell * 10 + 10]
    assert isinstance(read(luma), Mixed)


@pytest.mark.parametrize("seed", range(8))
def test_pictures_without_a_mark_have_none(seed: int) -> None:
    assert read(scene((1280, 720), seed)) is None
    noise = np.random.default_rng(seed).integers(0, 256, (480, 640), np.uint8)
    assert read(noise) is None
    assert read(np.full((480, 640), 16, np.uint8)) is None


def test_numbers_wrap_and_do_not_overflow() -> None:
    assert Mark.wrapped(35, 256 + 3, (1 << 24) + 9) == Mark(35, 3, 9)
    with pytest.raises(OverflowError):
        Mark(1, 1, 1 << 24).pack()


def test_compressed_pictures_have_no_luma_plane() -> None:
    mode = Mode(int.from_bytes(b"MJPG", "little"), 640, 480, 0, 100, Fraction(1, 30))
    with pytest.raises(ValueError, match="no luma plane"):
        luma_plane(bytearray(100), mode)
