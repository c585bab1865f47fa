# SPDX-License-Identifier: GPL-2.0-or-later
"""Recolouring, against R'G'B' in floating point and bit for bit; and every way from a source to the node with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maglens_driver.frame import Frame
from maglens_driver.mode import MJPG, NV12, YUYV, Mode, make_mode
from maglens_driver.ycbcr import TOLD, Matrix, YCbCr
from maglens_v4l2 import _pixels
from maglens_v4l2.convert import PictureConverter, make_converter, same_layout
from maglens_v4l2.feed import Feed
from maglens_v4l2.orientation import UPRIGHT, Orientation, upright_converter
from maglens_v4l2.recolouring import weights
from tests.bench.pixel_reference import planes_of

RATE = Fraction(1, 30)
FULL_709 = YCbCr(Matrix.BT709, full=True)
OTHERS = [YCbCr(matrix, full) for matrix in Matrix for full in (False, True) if YCbCr(matrix, full) != TOLD]
Bytes = NDArray[np.uint8]


def noise(nbytes: int, seed: int = 1) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8)


def encoded(rgb: NDArray[np.float64], made: YCbCr) -> NDArray[np.float64]:
    """R'G'B' of 0 to 1 (n, 3) as Y'CbCr (n, 3), by the definition and in floating point."""
    red, blue = made.matrix.weights
    luma = rgb @ [red, 1 - red - blue, blue]
    cb, cr = (rgb[:, 2] - luma) / (2 - 2 * blue), (rgb[:, 0] - luma) / (2 - 2 * red)
    if made.full:
        return np.stack([255 * luma, 255 * cb + 128, 255 * cr + 128], axis=1)
    return np.stack([219 * luma + 16, 224 * cb + 128, 224 * cr + 128], axis=1)


@pytest.mark.parametrize("made", OTHERS, ids=YCbCr.describe)
def test_a_colour_is_the_same_colour(made: YCbCr) -> None:
    """Within what the two roundings to bytes make."""
    corners = np.stack(np.meshgrid(*[np.linspace(0, 1, 7)] * 3), axis=-1).reshape(-1, 3)
    rgb = np.concatenate([corners, np.random.default_rng(3).random((1705, 3))])
    given_, want = encoded(rgb, made), encoded(rgb, TOLD)
    yuyv = np.empty((len(rgb), 4), np.uint8)
    yuyv[:, [0, 1, 3]] = np.clip(np.rint(given_), 0, 255)
    yuyv[:, 2] = yuyv[:, 0]
    mode = replace(make_mode(YUYV, 2 * len(rgb) // 64, 64, RATE), ycbcr=made)
    got = run(mode, make_mode(YUYV, mode.width, mode.height, RATE), yuyv.reshape(-1)).reshape(-1, 4)
    assert np.abs(got[:, [0, 1, 3]] - want).max() < 1.5
    assert np.abs(got[:, [0, 1, 3]] - want).mean() < 0.5
    assert (got[:, 0] == got[:, 2]).all()


def test_what_apps_are_told_stays_as_it_is() -> None:
    assert weights(TOLD) == (16384, 0, 0, 16384, 0, 0, 16384)


def test_grey_stays_grey_and_black_and_white_are_limited() -> None:
    for made in OTHERS:
        black, white = (0, 255) if made.full else (16, 235)
        for luma, means in ((black, 16), (white, 235)):
            mode = replace(make_mode(NV12, 2, 2, RATE), ycbcr=made)
            picture = np.array([luma] * 4 + [128, 128], np.uint8)
            assert run(mode, make_mode(NV12, 2, 2, RATE), picture).tolist() == [means] * 4 + [128, 128]


def reference(planes: list[NDArray[np.int64]], black: int, by: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """The kernel's integers; chroma is repeated over the pixels that share it."""
    y, u, v = planes[0] - black, planes[1] - 128, planes[2] - 128
    across, down = y.shape[1] // u.shape[1], y.shape[0] // u.shape[0]
    lift = (by[1] * u + by[2] * v).repeat(down, axis=0).repeat(across, axis=1)
    sums = by[0] * y + lift, by[3] * u + by[4] * v, by[5] * u + by[6] * v
    return [np.clip((s + 8192 >> 14) + zero, 0, 255) for s, zero in zip(sums, (16, 128, 128), strict=True)]


weight = st.one_of(st.integers(-32768, 32767), st.sampled_from([-32768, 32767]))


@settings(max_examples=100)
@given(
    fourcc=st.sampled_from(["NV12", "YUYV"]), half=st.tuples(st.integers(1, 150), st.integers(1, 6)),
    pad=st.tuples(st.integers(0, 9), st.integers(0, 9)), black=st.integers(0, 255),
    by=st.tuples(*[weight] * 7), level=st.sampled_from(_pixels.levels()), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_the_reference_at_every_level(
    *, fourcc: str, half: tuple[int, int], pad: tuple[int, int], black: int, by: Any, level: Any, seed: int
) -> None:
    width, height = 2 * half[0], 2 * half[1]
    row = width * (2 if fourcc == "YUYV" else 1)
    strides = row + pad[0], row + pad[1]
    src, out = (noise(_pixels.image_bytes(fourcc, width, height, stride), seed) for stride in strides)
    before = out.copy()
    _pixels.recolour(fourcc, width, height, strides[0], src, strides[1], out, black, by, level=level)
    given_ = [plane.astype(np.int64) for plane in planes_of(fourcc, src, width, height, strides[0])]
    got = planes_of(fourcc, out, width, height, strides[1])
    for mine, want in zip(got, reference(given_, black, by), strict=True):
        np.testing.assert_array_equal(mine, want)
    padding = out.reshape(-1, strides[1])[:, row:], before.reshape(-1, strides[1])[:, row:]
    np.testing.assert_array_equal(*padding)


@dataclass
class Held:
    """A lease of some bytes."""

    view: memoryview

    def release(self) -> None:
        """Nothing to give back."""


def run(src: Mode, dst: Mode, picture: Bytes, orientation: Orientation = UPRIGHT) -> Bytes:
    converter = upright_converter(src, dst, orientation)
    assert converter is not None
    out = np.zeros(dst.nbytes, np.uint8)
    frame = Frame(Held(memoryview(picture.data).cast("B")), len(picture), src, 0, 0, 1)
    assert converter.run(frame, memoryview(out.data).cast("B")) is None
    return out


def test_who_sends_what_apps_are_told_pays_nothing() -> None:
    plain = make_mode(NV12, 64, 32, RATE)
    assert make_converter(plain, plain) is None
    assert isinstance(make_converter(make_mode(YUYV, 64, 32, RATE), plain), PictureConverter)
    other = replace(plain, ycbcr=FULL_709)
    assert not same_layout(other, plain)
    assert other == plain, "a mode is chosen by other things"
    jpeg = Mode(MJPG, 64, 32, 0, 9999, RATE)
    assert same_layout(jpeg, jpeg)


@pytest.mark.parametrize("code", [NV12, YUYV])
@pytest.mark.parametrize("padded", [0, 6])
@pytest.mark.parametrize(
    "dst", [make_mode(NV12, 64, 32, RATE), make_mode(YUYV, 64, 32, RATE), make_mode(NV12, 96, 64, RATE)], ids=str
)
def test_every_format_and_size(code: int, padded: int, dst: Mode) -> None:
    """The same as recolouring first, by itself. Bars of a letterbox stay black."""
    plain = make_mode(code, 64, 32, RATE)
    stride = plain.stride + padded
    src = replace(plain, stride=stride, nbytes=plain.nbytes * stride // plain.stride, ycbcr=FULL_709)
    picture = noise(src.nbytes)
    recoloured = run(src, plain, picture)
    want = recoloured if same_layout(plain, dst) else run(plain, dst, recoloured)
    np.testing.assert_array_equal(run(src, dst, picture), want)


def test_a_short_frame_is_refused_before_anything_is_written() -> None:
    src = replace(make_mode(YUYV, 64, 32, RATE), ycbcr=FULL_709)
    with pytest.raises(ValueError, match="4095 bytes where 4096"):
        run(src, make_mode(YUYV, 64, 32, RATE), noise(4095))


@pytest.mark.parametrize("code", [NV12, YUYV])
def test_a_camera_that_was_mounted_otherwise(code: int) -> None:
    src = replace(make_mode(code, 64, 32, RATE), ycbcr=FULL_709)
    plain, dst = replace(src, ycbcr=None), make_mode(NV12, 32, 64, RATE)
    turned, picture = Orientation(90, mirror=True), noise(src.nbytes)
    want = run(plain, dst, run(src, plain, picture), turned)
    np.testing.assert_array_equal(run(src, dst, picture, turned), want)


@pytest.mark.parametrize("code", [NV12, YUYV])
def test_through_a_bare_lens(code: int) -> None:
    from maglens_driver.link.descriptor import Calibration, Lens, Profile
    from maglens_v4l2.correcting import OpticsConverter
    from maglens_v4l2.optics import Optics

    optics = Optics(Lens("Bare", (50_000, 50_000), (2000, 2000), 500), Profile(), Calibration())
    src = replace(make_mode(code, 64, 32, RATE), ycbcr=FULL_709)
    plain, dst = replace(src, ycbcr=None), make_mode(NV12, 64, 32, RATE)
    picture = noise(src.nbytes)

    def through(mode: Mode, data: Bytes) -> Bytes:
        out = np.zeros(dst.nbytes, np.uint8)
        frame = Frame(Held(memoryview(data.data).cast("B")), len(data), mode, 0, 0, 1)
        OpticsConverter(optics, mode, dst).run(frame, memoryview(out.data).cast("B"))
        return out

    np.testing.assert_array_equal(through(src, picture), through(plain, run(src, plain, picture)))


def test_its_frames_are_not_the_nodes_buffers() -> None:
    """A source that fills a lease of the sink's must not fill one that is shown as it is."""

    class Nobody:
        """No pipeline."""

    door: Any = Nobody()
    plain = make_mode(NV12, 64, 32, RATE)
    assert Feed(door, 1, plain, plain).staging is None
    feed = Feed(door, 1, replace(plain, ycbcr=FULL_709), plain)
    assert feed.converter is not None
    assert feed.staging is not None
