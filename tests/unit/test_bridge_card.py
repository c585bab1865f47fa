# SPDX-License-Identifier: GPL-2.0-or-later
"""Cards: exact size, right colours, text that fits."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from maglens_driver.errors import Refused
from maglens_driver.mode import MJPG, NV12, SRGGB10P, YUYV, Mode, frame_bytes, make_mode
from maglens_v4l2 import card
from maglens_v4l2.card import Card, black, draw, pack, render

RATE = Fraction(1, 30)
CARD = Card("Waiting for a camera module", ("Snap one onto the ring", "or plug a webcam"))


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (160, 120)])
@pytest.mark.parametrize("code", [NV12, YUYV])
def test_exactly_one_frame(code: int, size: tuple[int, int]) -> None:
    mode = make_mode(code, *size, RATE)
    assert len(render(CARD, mode)) == mode.nbytes
    assert len(black(mode)) == mode.nbytes


@pytest.mark.parametrize(
    ("rgb", "yuv"),
    [
        ((0, 0, 0), (16, 128, 128)),
        ((255, 255, 255), (235, 128, 128)),
        ((255, 0, 0), (81, 90, 240)),
        ((0, 255, 0), (145, 54, 34)),
        ((0, 0, 255), (41, 240, 110)),
    ],
)
def test_bt601_limited_in_both_layouts(rgb: tuple[int, int, int], yuv: tuple[int, int, int]) -> None:
    """Through JPEG's full range, so within one step of the exact value."""
    image = Image.new("RGB", (8, 4), rgb)
    nv12, yuyv = (np.frombuffer(pack(image, make_mode(code, 8, 4, RATE)), np.uint8) for code in (NV12, YUYV))
    planes = ((nv12[:32], nv12[32::2], nv12[33::2]), (yuyv[::2], yuyv[1::4], yuyv[3::4]))
    for layout in planes:
        for plane, value in zip(layout, yuv, strict=True):
            assert abs(plane.astype(int) - value).max() <= 1


@pytest.mark.parametrize("code", [NV12, YUYV])
def test_padded_rows(code: int) -> None:
    plain = make_mode(code, 64, 32, RATE)
    stride = plain.stride + 32
    padded = Mode(code, 64, 32, stride, frame_bytes(code, stride, 32), RATE)
    tight = np.frombuffer(render(CARD, plain), np.uint8).reshape(-1, plain.stride)
    wide = np.frombuffer(render(CARD, padded), np.uint8).reshape(-1, stride)
    assert np.array_equal(wide[:, : plain.stride], tight)


def test_mjpeg_decodes_to_the_size() -> None:
    mode = Mode(MJPG, 640, 480, 0, 1 << 20, RATE)
    with Image.open(io.BytesIO(render(CARD, mode))) as image:
        assert image.size == (640, 480)


def test_raw_is_refused() -> None:
    with pytest.raises(Refused):
        render(CARD, make_mode(SRGGB10P, 64, 64, RATE))


def text_pixels(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray(image.convert("L")) > 120


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080)])
def test_text_stays_inside_and_differs(size: tuple[int, int]) -> None:
    long = Card("W" * 300, tuple("M" * 300 for _ in range(9)))
    for one in (CARD, long):
        bright = text_pixels(draw(one, *size))
        edge = size[0] // 40
        assert bright.any()
        assert not bright[:, :edge].any()
        assert not bright[:, -edge:].any()
        assert not bright[-edge:, : size[0] // 2].any()  # the pins lie further right
    assert draw(CARD, *size).tobytes() != draw(Card("Other"), *size).tobytes()


def test_without_any_font_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "FACES", ("no-such-face.ttf",))
    monkeypatch.setattr(card, "BOLD_FACES", ("no-such-bold.ttf",))
    assert text_pixels(draw(CARD, 640, 480)).sum() > 1000


def test_cards_are_kept() -> None:
    mode = make_mode(NV12, 64, 32, RATE)
    assert render(CARD, mode) is render(CARD, mode)
