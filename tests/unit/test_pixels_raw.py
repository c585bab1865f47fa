# SPDX-License-Identifier: GPL-2.0-or-later
"""Developer against numpy, bit for bit, for every order, depth, format, level and number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maglens_v4l2 import _pixels
from tests.bench.pixel_raw_reference import Tuning, develop, fourcc_of, linear, pack, srgb_curve, statistics
from tests.bench.pixel_reference import planes_of

CFAS = ("RGGB", "GRBG", "GBRG", "BGGR")
MATRIX = (1.62, -0.45, -0.17, -0.31, 1.55, -0.24, 0.02, -0.61, 1.59)
even = st.integers(1, 70).map(lambda n: 2 * n)
four = st.integers(1, 50).map(lambda n: 4 * n)


def scene(width: int, height: int, bits: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Samples with smooth parts, hard edges, noise and both extremes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    s = (np.sin(x / 7 + seed) * np.cos(y / 5) + 1) * (1 << bits) / 2 + rng.normal(0, 9, (height, width))
    s[rng.random((height, width)) < 0.05] = (1 << bits) - 1
    s[:, width // 2 :: 9] = 0
    samples: np.ndarray[Any, np.dtype[np.uint16]] = np.clip(s, 0, (1 << bits) - 1).astype(np.uint16)
    return samples


def tuned(developer: _pixels.Developer, tuning: Tuning) -> _pixels.Developer:
    developer.tune(tuning.black, tuning.white, tuning.gains, tuning.matrix, tuning.curve, tuning.falloff)
    return developer


def tuning_for(bits: int, seed: int) -> Tuning:
    rng = np.random.default_rng(seed)
    falloff = None if seed % 3 == 0 else 1 + rng.uniform(0, 1.5) * np.linspace(0, 1, 5) ** 2
    gains = tuple(rng.uniform(0.4, 2.6, 3))
    black = rng.uniform(0, 70) * (1 << (bits - 10))
    return Tuning(black, (1 << bits) - 1.0, (gains[0], gains[1], gains[2]), MATRIX, falloff=falloff)


@settings(max_examples=200)
@given(
    cfa=st.sampled_from(CFAS), bits=st.sampled_from([10, 12]), dst=st.sampled_from(["NV12", "YUYV"]), sw=four,
    sh=even, size=st.one_of(st.none(), st.sampled_from([2, 4, 6]), st.tuples(even, even)), pad=st.integers(0, 7),
    fit=st.sampled_from(["letterbox", "stretch"]), threads=st.integers(1, 4),
    level=st.sampled_from(_pixels.levels()), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_the_reference(
    *, cfa: str, bits: int, dst: str, sw: int, sh: int, size: Any, pad: int, fit: Any, threads: int, level: Any,
    seed: int,
) -> None:  # fmt: skip
    if size is None:
        dw, dh = sw, sh
    elif isinstance(size, int):  # whole quads to a pixel
        dw, dh = max(2, sw // size // 2 * 2), max(2, sh // size // 2 * 2)
    else:
        dw, dh = size
    ss, ds = sw * bits // 8 + pad, (2 * dw if dst == "YUYV" else dw) + pad
    developer = _pixels.Developer(
        fourcc_of(cfa, bits), sw, sh, ss, dst, dw, dh, ds, fit=fit, threads=threads, level=level
    )
    tuning, samples = tuning_for(bits, seed), scene(sw, sh, bits, seed)
    tuned(developer, tuning)
    out = np.random.default_rng(1).integers(0, 256, developer.dst_bytes, dtype=np.uint8)
    before = out.copy()
    developer.run(pack(samples, bits, ss), out)
    x, y, w, h = developer.placed
    want = develop(samples, cfa, bits, tuning, fourcc=dst, placed=(w, h))
    for plane, (got, wanted) in enumerate(zip(planes_of(dst, out, dw, dh, ds), want, strict=True)):
        dx, dy = (1 if plane == 0 else 2), (2 if plane and dst == "NV12" else 1)
        part = got[y // dy : (y + h) // dy, x // dx : (x + w) // dx]
        np.testing.assert_array_equal(part, wanted)
        rest = got.copy()
        rest[y // dy : (y + h) // dy, x // dx : (x + w) // dx] = 128 if plane else 16
        assert (rest == (128 if plane else 16)).all()
    row = 2 * dw if dst == "YUYV" else dw
    np.testing.assert_array_equal(out.reshape(-1, ds)[:, row:], before.reshape(-1, ds)[:, row:])


@settings(max_examples=60)
@given(
    cfa=st.sampled_from(CFAS), sw=st.integers(16, 80).map(lambda n: 4 * n),
    sh=st.integers(8, 40).map(lambda n: 2 * n), small=st.booleans(), threads=st.integers(1, 3),
    level=st.sampled_from(_pixels.levels()), seed=st.integers(0, 99),
)  # fmt: skip
def test_statistics_equal_the_reference(
    *, cfa: str, sw: int, sh: int, small: bool, threads: int, level: Any, seed: int
) -> None:
    dw, dh = (sw // 8 * 2, sh // 8 * 2) if small else (sw, sh)
    zones = (1 + seed % -(-sw // 64), 1 + seed % 2)
    developer = _pixels.Developer(
        fourcc_of(cfa, 12), sw, sh, 0, "NV12", dw, dh, 0, zones=zones, threads=threads, level=level
    )
    tuning, samples = tuning_for(12, seed), scene(sw, sh, 12, seed)
    stats = np.full(developer.stats_bytes // 8, 7, np.uint64)
    tuned(developer, tuning).run(pack(samples, 12), bytearray(developer.dst_bytes), stats)
    want, histogram = statistics(linear(samples, cfa, 12, tuning, (0, 0, sw, sh)), zones)
    cells = zones[0] * zones[1] * 7
    np.testing.assert_array_equal(stats[:cells].reshape(want.shape), want)
    np.testing.assert_array_equal(stats[cells:], histogram)


@settings(max_examples=40)
@given(data=st.data(), level=st.sampled_from(_pixels.levels()))
def test_a_crop_is_what_it_says(*, data: st.DataObject, level: Any) -> None:
    sw, sh = 4 * data.draw(st.integers(2, 60)), 2 * data.draw(st.integers(2, 60))
    x, y = 4 * data.draw(st.integers(0, sw // 4 - 1)), 2 * data.draw(st.integers(0, sh // 2 - 1))
    w, h = 4 * data.draw(st.integers(1, (sw - x) // 4)), 2 * data.draw(st.integers(1, (sh - y) // 2))
    developer = _pixels.Developer(fourcc_of("GRBG", 10), sw, sh, 0, "NV12", w, h, 0, crop=(x, y, w, h), level=level)
    tuning, samples = tuning_for(10, 1), scene(sw, sh, 10, 3)
    out = np.zeros(developer.dst_bytes, np.uint8)
    tuned(developer, tuning).run(pack(samples, 10), out)
    for got, want in zip(
        planes_of("NV12", out, w, h, w),
        develop(samples, "GRBG", 10, tuning, fourcc="NV12", placed=(w, h), crop=(x, y, w, h)),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)


def test_white_stays_white_and_black_black() -> None:
    for sample, luma in ((1023, 235), (64, 16), (0, 16)):
        developer = tuned(_pixels.Developer("pRAA", 64, 8, 0, "NV12", 64, 8, 0), Tuning(64, 1023, matrix=MATRIX))
        out = np.zeros(developer.dst_bytes, np.uint8)
        developer.run(pack(np.full((8, 64), sample), 10), out)
        assert (out[: 64 * 8] == luma).all()
        assert (out[64 * 8 :] == 128).all()


def test_tuning_changes_the_next_frame_and_a_bad_one_does_not() -> None:
    developer = tuned(_pixels.Developer("pRAA", 64, 8, 0, "NV12", 64, 8, 0), Tuning(0, 1023))
    src, first, second = pack(scene(64, 8, 10, 1), 10), bytearray(768), bytearray(768)
    developer.run(src, first)
    with pytest.raises(ValueError, match="add up to 1"):
        tuned(developer, Tuning(0, 1023, matrix=(2.0, 0, 0, 0, 1, 0, 0, 0, 1)))
    developer.run(src, second)
    assert first == second
    tuned(developer, Tuning(0, 1023, gains=(2.0, 1.0, 1.0))).run(src, second)
    assert first != second


def test_needs_tuning_first() -> None:
    developer = _pixels.Developer("pRAA", 64, 8, 0, "NV12", 64, 8, 0)
    with pytest.raises(RuntimeError, match="tune"):
        developer.run(bytes(developer.src_bytes), bytearray(developer.dst_bytes))


GOOD: dict[str, Any] = {
    "src_fourcc": "pRAA", "src_width": 64, "src_height": 48, "src_stride": 0,
    "dst_fourcc": "NV12", "dst_width": 64, "dst_height": 48, "dst_stride": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"src_fourcc": "RG10"}, "src: fourcc"),
        ({"src_fourcc": "pXAA"}, "src: fourcc"),
        ({"src_width": 62}, "multiple of 4"),
        ({"src_height": 47}, "multiple of 4, height of 2"),
        ({"src_width": 0}, "at least"),
        ({"src_width": 40000}, "at most"),
        ({"src_stride": 79}, "stride is shorter"),
        ({"src_stride": 1 << 20}, "stride must be"),
        ({"dst_fourcc": "MJPG"}, "dst: fourcc"),
        ({"dst_width": 63}, "even"),
        ({"dst_stride": 62}, "stride is shorter"),
        ({"crop": (2, 0, 8, 8)}, "multiples of 4"),
        ({"crop": (0, 0, 6, 8)}, "multiples of 4"),
        ({"crop": (0, 1, 8, 8)}, "even"),
        ({"crop": (0, 0, 68, 8)}, "not inside"),
        ({"rect": (0, 0, 66, 48)}, "not inside"),
        ({"threads": 0}, "threads must be"),
        ({"threads": 65}, "threads must be"),
        ({"zones": (0, 1)}, "zones must be"),
        ({"zones": (33, 1)}, "zones must be"),
        ({"zones": (2, 1)}, "too many zones"),
        ({"zones": (1, 7)}, "too many zones"),
        ({"fit": "wide"}, "fit is"),
        ({"level": "mmx"}, "levels"),
    ],
)
def test_refuses_a_bad_configuration(change: dict[str, Any], message: str) -> None:
    _pixels.Developer(**GOOD)
    with pytest.raises(ValueError, match=message):
        _pixels.Developer(**{**GOOD, **change})


STEEP = np.minimum(np.arange(8193) * 999, 65535).astype(np.uint16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"black": -1}, "black below white"),
        ({"black": 1023}, "black below white"),
        ({"white": 1024}, "black below white"),
        ({"black": float("nan")}, "black below white"),
        ({"gains": (0, 1, 1)}, "gains"),
        ({"gains": (4, 1, 1)}, "gains"),
        ({"gains": (1, float("nan"), 1)}, "gains"),
        ({"matrix": (float("nan"), 0, 1, 0, 1, 0, 0, 0, 1)}, "add up"),
        ({"matrix": (2, -2, 1, 0, 1, 0, 0, 0, 1)}, "up to 2.99"),
        ({"curve": np.zeros(8192, np.uint16)}, "16386 are needed"),
        ({"curve": srgb_curve()[::-1].copy()}, "must not fall"),
        ({"curve": STEEP}, "too steeply"),
        ({"falloff": np.array([1.0])}, "vignetting has"),
        ({"falloff": np.ones(1026)}, "vignetting has"),
        ({"falloff": np.array([1.0, 4.0])}, "vignetting gains"),
        ({"falloff": np.array([1.0, float("inf")])}, "vignetting gains"),
    ],
)
def test_refuses_a_bad_tuning(change: dict[str, Any], message: str) -> None:
    developer = _pixels.Developer(**GOOD)
    good: dict[str, Any] = {"black": 64, "white": 1023, "gains": (1, 1, 1), "matrix": MATRIX, "curve": srgb_curve()}
    developer.tune(**good)
    with pytest.raises(ValueError, match=message):
        developer.tune(**{**good, **change})


@pytest.mark.parametrize(
    ("src", "dst", "stats", "error", "message"),
    [
        (bytes(3839), bytearray(4608), None, ValueError, "src has 3839 bytes, 3840"),
        (bytes(3840), bytearray(4607), None, ValueError, "dst has 4607"),
        (bytes(3840), bytes(4608), None, ValueError, "dst: .*writable"),
        (np.zeros(7680, np.uint8)[::2], bytearray(4608), None, ValueError, "src: .*contiguous"),
        (bytes(3840), bytearray(4608), np.zeros(134, np.uint64), ValueError, "stats has 1072 bytes, 1080"),
        (bytes(3840), bytearray(4608), np.zeros(1081, np.uint8)[1:], ValueError, "aligned"),
        (bytes(3840), bytearray(4608), bytes(1080), ValueError, "stats: .*writable"),
        (bytes(3840), bytearray(4608), 3, TypeError, "stats is no buffer"),
        ("x", bytearray(4608), None, TypeError, "src is no buffer"),
    ],
)
def test_refuses_a_bad_buffer(src: Any, dst: Any, stats: Any, error: type[Exception], message: str) -> None:
    developer = tuned(_pixels.Developer(**GOOD), Tuning(64, 1023))
    with pytest.raises(error, match=message):
        developer.run(src, dst, stats)
    developer.run(bytes(3840), bytearray(4608), np.zeros(135, np.uint64))


def test_refuses_overlap() -> None:
    developer = tuned(_pixels.Developer(**GOOD), Tuning(64, 1023))
    both = memoryview(bytearray(3840 + 4608 + 1088))
    with pytest.raises(ValueError, match="src and dst overlap"):
        developer.run(both[:3840], both[3839:-1])
    at = np.frombuffer(both, np.uint8)
    with pytest.raises(ValueError, match="stats overlaps"):
        developer.run(bytes(3840), at[:4608], at[4600:5680])


@settings(max_examples=40)
@given(
    bits=st.sampled_from([10, 12]),
    width=four,
    height=st.integers(1, 9),
    pad=st.integers(0, 5),
    seed=st.integers(0, 9),
)
def test_unpack(*, bits: int, width: int, height: int, pad: int, seed: int) -> None:
    samples = np.random.default_rng(seed).integers(0, 1 << bits, (2 * height, width), dtype=np.uint16)
    stride = width * bits // 8 + pad
    for wide, want in ((16, samples), (8, (samples >> (bits - 8)).astype(np.uint8))):
        out = np.zeros_like(want)
        fourcc = fourcc_of("RGGB", bits)
        _pixels.unpack(fourcc, width, 2 * height, stride, pack(samples, bits, stride), 16 if wide == 16 else 8, out)
        np.testing.assert_array_equal(out, want)


def test_unpack_refuses() -> None:
    with pytest.raises(ValueError, match="bits is"):
        _pixels.unpack("pRAA", 4, 2, 0, bytes(10), 10, bytearray(16))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dst has 15 bytes, 16"):
        _pixels.unpack("pRAA", 4, 2, 0, bytes(10), 16, bytearray(15))
    with pytest.raises(ValueError, match="src has 9 bytes, 10"):
        _pixels.unpack("pRAA", 4, 2, 0, bytes(9), 8, bytearray(8))


@pytest.mark.parametrize("size", [(640, 480), (328, 248), (644, 482)])
def test_vignetting_is_undone_in_every_corner_alike(size: tuple[int, int]) -> None:
    """Steps of the mesh go beyond the edges at right and below, wherever those are no multiple of 64 samples."""
    width, height = size
    falloff = np.array([1.0, 1.1, 1.22, 1.37, 1.56, 1.8])
    y, x = np.mgrid[0:height, 0:width]
    far = ((x - x % 2 + 1 - width / 2) ** 2 + (y - y % 2 + 1 - height / 2) ** 2) / (width**2 + height**2) * 4
    gain = np.interp(far, np.linspace(0, 1, len(falloff)), falloff)
    flat = np.round(4095 * 0.5 / gain).astype(np.uint16)
    developer = _pixels.Developer(fourcc_of("RGGB", 12), *size, 0, "YUYV", *size, 0)
    grey = Tuning(0.0, 4095.0, (1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), falloff=falloff)
    out = bytearray(developer.dst_bytes)
    tuned(developer, grey).run(pack(flat, 12).tobytes(), out)
    luma = np.frombuffer(out, np.uint8).reshape(height, 2 * width)[:, ::2].astype(int)
    corners = luma[[1, 1, -2, -2], [1, -2, 1, -2]]
    assert np.ptp(corners) <= 1, corners
