# SPDX-License-Identifier: GPL-2.0-or-later
"""Turned and mirrored pictures, against numpy, pixel for pixel; and through the converter in every layout."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from maglens_driver.errors import Refused
from maglens_driver.frame import Frame
from maglens_driver.mode import MJPG, NV12, YUYV, Mode, frame_bytes, make_mode
from maglens_v4l2._pixels import turn
from maglens_v4l2.convert import make_converter
from maglens_v4l2.orientation import QUARTERS, UPRIGHT, Orientation, upright_converter

RATE = Fraction(1, 30)
Plane = npt.NDArray[np.uint8]
ALL = [Orientation(rotate, mirror) for rotate in QUARTERS for mirror in (False, True)]


def view(data: Plane) -> memoryview:
    return memoryview(data.data).cast("B")


class Held:
    """A lease of some bytes."""

    def __init__(self, data: Plane) -> None:
        self.view = view(data)

    def release(self) -> None:
        """Nothing to give back."""


def planes(data: Plane, width: int, height: int, stride: int) -> tuple[Plane, Plane]:
    """Luma, and chroma as height x width x 2."""
    luma = data[: stride * height].reshape(height, stride)[:, :width]
    pairs = data[stride * height : stride * height * 3 // 2].reshape(height // 2, stride)[:, :width]
    return luma, pairs.reshape(height // 2, width // 2, 2)


def reference(plane: Plane, orientation: Orientation) -> Plane:
    """numpy turns counter-clockwise."""
    turned = np.rot90(plane, -orientation.rotate // 90)
    return turned[:, ::-1] if orientation.mirror else turned


def noise(nbytes: int) -> Plane:
    return np.random.default_rng(7).integers(0, 256, nbytes, np.uint8)


@pytest.mark.parametrize("orientation", ALL, ids=str)
@pytest.mark.parametrize(("width", "height", "stride", "out"), [(2, 2, 2, 0), (66, 34, 80, 70), (640, 482, 640, 0)])
def test_every_pixel(orientation: Orientation, width: int, height: int, stride: int, out: int) -> None:
    src = noise(stride * height * 3 // 2)
    across = orientation.rotate % 180 != 0
    wide, high = (height, width) if across else (width, height)
    out_stride = max(out, wide)
    dst = np.full(out_stride * high * 3 // 2, 99, np.uint8)
    turn(width, height, stride, src, out_stride, dst, orientation.rotate, orientation.mirror)
    for was, now in zip(planes(src, width, height, stride), planes(dst, wide, high, out_stride), strict=True):
        assert np.array_equal(now, reference(was, orientation))
    assert (dst[: out_stride * high].reshape(high, out_stride)[:, wide:] == 99).all(), "padding stays"


def test_four_quarters_are_none() -> None:
    src = noise(66 * 34 * 3 // 2)
    once, back = np.zeros_like(src), np.zeros_like(src)
    turn(66, 34, 66, src, 34, once, 90, False)
    turn(34, 66, 34, once, 66, back, 270, False)
    assert np.array_equal(src, back)


@pytest.mark.parametrize(
    ("width", "height", "degrees", "size"), [(64, 48, 45, 4608), (63, 48, 90, 4608), (64, 48, 90, 4607)]
)
def test_what_cannot_be_is_refused(width: int, height: int, degrees: int, size: int) -> None:
    with pytest.raises(ValueError, match=r"even|degrees|bytes"):
        turn(width, height, 0, noise(4608), 0, np.zeros(size, np.uint8), degrees, False)


def frame_of(mode: Mode, data: Plane) -> Frame:
    return Frame(Held(data), len(data), mode, 1, 0, 1)


@pytest.mark.parametrize("orientation", ALL[1:], ids=str)
@pytest.mark.parametrize("fourcc", [NV12, YUYV])
def test_as_the_plain_converter_of_a_turned_source(orientation: Orientation, fourcc: int) -> None:
    """Whatever the layouts, the result is that of a source that was upright from the first."""
    src, dst = make_mode(fourcc, 96, 64, RATE), make_mode(NV12, 128, 96, RATE)
    data = noise(src.nbytes)
    plain = data
    if fourcc == YUYV:
        plain = np.zeros(96 * 64 * 3 // 2, np.uint8)
        first = make_converter(src, make_mode(NV12, 96, 64, RATE))
        assert first is not None
        first.run(frame_of(src, data), view(plain))
    turned = orientation.turned(src)
    upright = np.zeros(turned.nbytes, np.uint8)
    turn(96, 64, 96, plain, turned.stride, upright, orientation.rotate, orientation.mirror)
    wanted, got = np.zeros(dst.nbytes, np.uint8), np.zeros(dst.nbytes, np.uint8)
    last = make_converter(turned, dst)
    assert last is not None
    last.run(frame_of(turned, upright), view(wanted))
    converter = upright_converter(src, dst, orientation)
    assert converter is not None
    assert converter.run(frame_of(src, data), view(got)) is None
    assert np.array_equal(wanted, got)


def test_same_size_is_turned_straight_into_the_node() -> None:
    mode = make_mode(NV12, 96, 64, RATE)
    padded = replace(mode, stride=112, nbytes=frame_bytes(NV12, 112, 64))
    data, got = noise(padded.nbytes), np.zeros(mode.nbytes, np.uint8)
    converter = upright_converter(padded, mode, Orientation(180))
    assert converter is not None
    converter.run(frame_of(padded, data), view(got))
    for was, now in zip(planes(data, 96, 64, 112), planes(got, 96, 64, 96), strict=True):
        assert np.array_equal(now, reference(was, Orientation(180)))


def test_upright_passes_through_and_what_has_no_way_is_refused() -> None:
    mode = make_mode(NV12, 96, 64, RATE)
    assert upright_converter(mode, mode, UPRIGHT) is None
    with pytest.raises(Refused):
        upright_converter(mode, Mode(MJPG, 96, 64, 0, 9000, RATE), Orientation(90))
