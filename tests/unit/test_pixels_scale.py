# SPDX-License-Identifier: GPL-2.0-or-later
"""Scaler and fill against numpy, and every way of calling them wrongly."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maglens_v4l2 import _pixels
from tests.bench.pixel_reference import convert_scale, planes_of

FOURCCS = ("NV12", "YUYV")
even = st.integers(1, 60).map(lambda n: 2 * n)


def noise(n: int, seed: int = 1) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, n, dtype=np.uint8)


def tight(fourcc: str, width: int) -> int:
    return 2 * width if fourcc == "YUYV" else width


@settings(max_examples=150)
@given(
    src=st.sampled_from(FOURCCS), dst=st.sampled_from(FOURCCS), sw=even, sh=even, dw=even, dh=even,
    pad=st.integers(0, 9), fit=st.sampled_from(["letterbox", "stretch"]), flip_x=st.booleans(),
    flip_y=st.booleans(), level=st.sampled_from(_pixels.levels()), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_the_reference(
    *, src: str, dst: str, sw: int, sh: int, dw: int, dh: int, pad: int, fit: Any, flip_x: bool,
    flip_y: bool, level: Any, seed: int,
) -> None:  # fmt: skip
    ss, ds = tight(src, sw) + pad, tight(dst, dw) + 2 * pad
    scaler = _pixels.Scaler(src, sw, sh, ss, dst, dw, dh, ds, fit=fit, flip_x=flip_x, flip_y=flip_y, level=level)
    given_, out = noise(scaler.src_bytes, seed), noise(scaler.dst_bytes, seed + 1)
    before = out.copy()
    scaler.run(given_, out)
    x, y, w, h = scaler.placed
    want = convert_scale(src, given_, (sw, sh, ss), dst, (w, h), flip_x=flip_x, flip_y=flip_y)
    got = planes_of(dst, out, dw, dh, ds)
    for plane, (got_plane, want_plane) in enumerate(zip(got, want, strict=True)):
        dx, dy = (1 if plane == 0 else 2), (2 if plane and dst == "NV12" else 1)
        part = got_plane[y // dy : (y + h) // dy, x // dx : (x + w) // dx]
        np.testing.assert_array_equal(part, want_plane)
        bars = got_plane.copy()
        bars[y // dy : (y + h) // dy, x // dx : (x + w) // dx] = 128 if plane else 16
        assert (bars == (128 if plane else 16)).all()
    rows = out.reshape(-1, ds)[:, tight(dst, dw) :]
    np.testing.assert_array_equal(rows, before.reshape(-1, ds)[:, tight(dst, dw) :])  # padding untouched


@pytest.mark.parametrize("size", [(1920, 1080, 1280, 720), (640, 480, 1920, 1080), (1280, 720, 640, 480)])
def test_agrees_with_pillow(size: tuple[int, int, int, int]) -> None:
    sw, sh, dw, dh = size
    scaler = _pixels.Scaler("NV12", sw, sh, 0, "NV12", dw, dh, 0, fit="stretch")
    src, out = noise(scaler.src_bytes), np.empty(scaler.dst_bytes, np.uint8)
    scaler.run(src, out)
    luma = Image.fromarray(src[: sw * sh].reshape(sh, sw))
    want = np.asarray(luma.resize((dw, dh), Image.Resampling.BILINEAR), dtype=np.int16)
    got = out[: dw * dh].reshape(dh, dw).astype(np.int16)
    assert np.abs(got - want)[2:-2, 2:-2].max() <= 2
    assert np.abs(got - want).mean() < 0.5


def test_a_constant_stays_constant_at_every_size() -> None:
    for size in range(2, 400, 14):
        scaler = _pixels.Scaler("YUYV", 130, 98, 0, "NV12", size, size, 0, fit="stretch")
        src, out = np.full(scaler.src_bytes, 255, np.uint8), np.zeros(scaler.dst_bytes, np.uint8)
        scaler.run(src, out)
        assert (out == 255).all()


def test_back_and_forth_is_exact() -> None:
    there = _pixels.Scaler("NV12", 64, 48, 0, "YUYV", 64, 48, 0)
    back = _pixels.Scaler("YUYV", 64, 48, 0, "NV12", 64, 48, 0)
    src, mid, out = noise(there.src_bytes), bytearray(there.dst_bytes), bytearray(back.dst_bytes)
    there.run(src, mid)
    back.run(mid, out)
    assert bytes(out) == src.tobytes()


def test_letterbox_keeps_shape_inside_the_rect() -> None:
    scaler = _pixels.Scaler("NV12", 640, 480, 0, "NV12", 1920, 1080, 0)
    assert scaler.placed == (240, 0, 1440, 1080)
    scaler = _pixels.Scaler("NV12", 1920, 1080, 0, "NV12", 640, 480, 0, rect=(320, 240, 320, 240))
    assert scaler.placed == (320, 270, 320, 180)


GOOD: dict[str, Any] = {
    "src_fourcc": "NV12", "src_width": 64, "src_height": 48, "src_stride": 0,
    "dst_fourcc": "YUYV", "dst_width": 32, "dst_height": 24, "dst_stride": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"src_fourcc": "RGB3"}, "src: fourcc must be NV12 or YUYV"),
        ({"dst_fourcc": "MJPG"}, "dst: fourcc must be"),
        ({"src_fourcc": "NV1"}, "four letters"),
        ({"src_fourcc": -1}, "32-bit"),
        ({"src_fourcc": 1 << 40}, "32-bit"),
        ({"src_width": 63}, "even"),
        ({"src_height": 47}, "even"),
        ({"dst_width": 31}, "even"),
        ({"dst_height": 23}, "even"),
        ({"src_width": 0}, "at least 2"),
        ({"src_height": -2}, "at least 2"),
        ({"dst_width": 32770}, "at most 32768"),
        ({"src_height": 40000}, "at most 32768"),
        ({"src_stride": 63}, "stride is shorter"),
        ({"src_stride": -64}, "stride is shorter"),
        ({"dst_stride": 63}, "stride is shorter"),
        ({"dst_stride": 131074}, "stride must be at most"),
        ({"fit": "crop"}, "fit is"),
        ({"rect": (0, 0, 34, 24)}, "not inside"),
        ({"rect": (-2, 0, 8, 8)}, "not inside"),
        ({"rect": (2**31 - 2, 0, 8, 8)}, "not inside"),
        ({"rect": (0, 0, 0, 8)}, "not inside"),
        ({"rect": (1, 0, 8, 8)}, "even"),
        ({"rect": (0, 0, 8)}, "rect is"),
        ({"level": "avx9"}, "levels"),
        ({"level": "neon" if "neon" not in _pixels.levels() else "avx2"}, "lacks"),
    ],
)
def test_refuses_a_bad_configuration(change: dict[str, Any], message: str) -> None:
    _pixels.Scaler(**GOOD)
    with pytest.raises(ValueError, match=message):
        _pixels.Scaler(**{**GOOD, **change})


def test_refuses_a_fourcc_of_another_type() -> None:
    with pytest.raises(TypeError, match="fourcc"):
        _pixels.Scaler(**{**GOOD, "src_fourcc": 1.5})


def test_takes_v4l2_integers() -> None:
    nv12 = int.from_bytes(b"NV12", "little")
    assert _pixels.image_bytes(nv12, 64, 48) == _pixels.image_bytes("NV12", 64, 48) == 64 * 72


def read_only(n: int) -> memoryview:
    return memoryview(bytes(n))


@pytest.mark.parametrize(
    ("src", "dst", "error", "message"),
    [
        (bytes(64 * 72 - 1), bytearray(64 * 24), ValueError, "src has 4607 bytes, 4608"),
        (bytes(64 * 72), bytearray(64 * 24 - 1), ValueError, "dst has 1535 bytes, 1536"),
        (bytes(64 * 72), read_only(64 * 24), ValueError, "writable"),
        (np.zeros(2 * 64 * 72, np.uint8)[::2], bytearray(64 * 24), ValueError, "src: .*contiguous"),
        (bytes(64 * 72), np.zeros(2 * 64 * 24, np.uint8)[::2], ValueError, "dst: .*contiguous"),
        (None, bytearray(64 * 24), TypeError, "src is no buffer"),
        (bytes(64 * 72), 7, TypeError, "dst is no buffer"),
    ],
)
def test_refuses_a_bad_buffer(src: Any, dst: Any, error: type[Exception], message: str) -> None:
    scaler = _pixels.Scaler(**GOOD)
    with pytest.raises(error, match=message):
        scaler.run(src, dst)
    scaler.run(bytes(64 * 72), bytearray(64 * 24))  # and the object is still good


def test_refuses_overlap_by_a_byte() -> None:
    scaler = _pixels.Scaler(**GOOD)
    both = memoryview(bytearray(64 * 72 + 64 * 24))
    scaler.run(both[: 64 * 72], both[64 * 72 :])
    with pytest.raises(ValueError, match="overlap"):
        scaler.run(both[: 64 * 72], both[64 * 72 - 1 : -1])


def test_a_second_thread_is_refused_not_let_in() -> None:
    scaler = _pixels.Scaler("NV12", 4096, 4096, 0, "NV12", 2048, 2048, 0)
    src, refused, done = bytes(scaler.src_bytes), threading.Event(), threading.Event()

    def work() -> None:
        out = bytearray(scaler.dst_bytes)
        while not refused.is_set() and not done.is_set():
            try:
                scaler.run(src, out)
            except RuntimeError as error:
                assert "another thread" in str(error)
                refused.set()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert refused.wait(20)
    for thread in threads:
        thread.join()
    scaler.run(src, bytearray(scaler.dst_bytes))  # the flag is given back


@pytest.mark.parametrize("fourcc", FOURCCS)
def test_fill(fourcc: str) -> None:
    stride = tight(fourcc, 32) + 6
    out = np.zeros(_pixels.image_bytes(fourcc, 32, 16, stride), np.uint8)
    _pixels.fill(fourcc, 32, 16, stride, out, 81, 90, 240)
    for plane, value in zip(planes_of(fourcc, out, 32, 16, stride), (81, 90, 240), strict=True):
        assert (plane == value).all()
    assert (out.reshape(-1, stride)[:, -6:] == 0).all()


def test_fill_refuses() -> None:
    with pytest.raises(ValueError, match="bytes, not"):
        _pixels.fill("NV12", 4, 4, 0, bytearray(24), 256)
    with pytest.raises(ValueError, match="24 are needed"):
        _pixels.fill("NV12", 4, 4, 0, bytearray(23), 0)
    with pytest.raises(ValueError, match="even"):
        _pixels.fill("NV12", 3, 4, 0, bytearray(24), 0)
