# SPDX-License-Identifier: GPL-2.0-or-later
"""JpegDecoder against Pillow's decoder and the range arithmetic in floats."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maglens_v4l2 import _pixels
from tests.bench.pixel_reference import planes_of

SAMPLING = {"444": 0, "422": 1, "420": 2}


def jpeg(ycc: np.ndarray[Any, np.dtype[np.uint8]], sampling: str, quality: int = 95, **more: Any) -> bytes:
    """A (height, width, 3) full-range YCbCr picture, compressed."""
    out = io.BytesIO()
    image = Image.fromarray(ycc, "YCbCr") if sampling != "grey" else Image.fromarray(ycc[:, :, 0])
    image.save(out, "JPEG", quality=quality, subsampling=SAMPLING.get(sampling, -1), **more)
    return out.getvalue()


def smooth(width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // width, 128 + 90 * np.sin(y / height * 3), 40 + (x + y) * 170 // (width + height)]
    return np.dstack([np.asarray(p, dtype=np.uint8) for p in planes])


def limited(plane: Any, chroma: bool) -> Any:
    value = plane.astype(np.float64)
    return np.floor((128 + (value - 128) * 224 / 255 if chroma else 16 + value * 219 / 255) + 0.5)


@pytest.mark.parametrize("fourcc", ["NV12", "YUYV"])
@pytest.mark.parametrize("sampling", ["444", "422", "420", "grey"])
@pytest.mark.parametrize("size", [(64, 48), (98, 50), (1280, 720)])
def test_agrees_with_pillow(fourcc: str, sampling: str, size: tuple[int, int]) -> None:
    width, height = size
    ycc, stride = smooth(width, height), 2 * width + 6
    out = np.zeros(_pixels.image_bytes(fourcc, width, height, stride), np.uint8)
    assert _pixels.JpegDecoder(fourcc, width, height, stride).run(jpeg(ycc, sampling), out) is None
    y, u, v = planes_of(fourcc, out, width, height, stride)
    assert np.abs(y - limited(ycc[:, :, 0], False)).max() <= 3
    for plane, got in ((1, u), (2, v)):
        full = ycc[:, :, plane].astype(np.float64)
        rows = 2 if fourcc == "NV12" else 1
        mean = full.reshape(height // rows, rows, width // 2, 2).mean(axis=(1, 3))
        want = limited(mean, True) if sampling != "grey" else np.full(got.shape, 128.0)
        assert np.abs(got - want).max() <= (10 if sampling == "420" else 6)  # a row of 4:2:0 serves two
        assert np.abs(got - want).mean() < (2 if sampling == "420" else 1)
    assert (out.reshape(-1, stride)[:, 2 * width :] == 0).all()


def test_range_is_exact_for_every_value() -> None:
    """Blocks of one value survive compression at quality 100 exactly."""
    ycc = np.full((256, 256, 3), 128, np.uint8)
    values = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(16, axis=0).repeat(16, axis=1)
    for plane in range(3):
        ycc[:, :, plane] = np.roll(values, 16 * plane, axis=1)
    data = jpeg(ycc, "444", quality=100)
    with Image.open(io.BytesIO(data)) as opened:
        opened.draft("YCbCr", None)
        full = np.asarray(opened.convert("YCbCr"))
    assert np.unique(full[:, :, 1]).size == 256
    out = np.zeros(_pixels.image_bytes("YUYV", 256, 256), np.uint8)
    _pixels.JpegDecoder("YUYV", 256, 256).run(data, out)
    y, u, v = planes_of("YUYV", out, 256, 256, 512)
    np.testing.assert_array_equal(y, limited(full[:, :, 0], False))
    np.testing.assert_array_equal(u, limited(full[:, 0::2, 1], True))
    np.testing.assert_array_equal(v, limited(full[:, 0::2, 2], True))


def test_truncated_data_warn() -> None:
    data = jpeg(smooth(64, 48), "420")
    out = bytearray(64 * 72)
    warning = _pixels.JpegDecoder("NV12", 64, 48).run(data[: len(data) * 2 // 3], out)
    assert warning is not None and "end" in warning.lower()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (b"no picture at all", "JPEG"),
        (jpeg(smooth(66, 48), "420"), "66x48, not 64x48"),
        (jpeg(smooth(64, 48), "420")[:300], "JPEG|picture"),
    ],
)
def test_refuses_and_leaves_dst_alone(data: bytes, message: str) -> None:
    decoder, out = _pixels.JpegDecoder("NV12", 64, 48), bytearray(b"\x55" * (64 * 72))
    with pytest.raises(ValueError, match=message):
        decoder.run(data, out)
    assert bytes(out) == b"\x55" * (64 * 72)
    assert decoder.run(jpeg(smooth(64, 48), "420"), out) is None


def test_refuses_what_has_the_decoder_go_over_the_picture_again_and_again() -> None:
    """A progressive file; a sequential one with a scan too many; not one with a marker's bytes inside a segment."""
    decoder, out = _pixels.JpegDecoder("NV12", 64, 48), bytearray(b"\x55" * (64 * 72))
    with pytest.raises(ValueError, match="only sequential"):
        decoder.run(jpeg(smooth(64, 48), "420", progressive=True), out)
    data = jpeg(smooth(64, 48), "420")
    scan = data[data.index(b"\xff\xda") : -2]
    with pytest.raises(ValueError, match="more scans"):
        decoder.run(data[:-2] + 4 * scan + data[-2:], out)
    hidden = b"\xff\x02\xff\xff"  # libjpeg looks at what is behind it, whatever length that says
    with pytest.raises(ValueError, match="more scans"):
        decoder.run(data[:-2] + hidden + 4 * scan + data[-2:], out)
    assert bytes(out) == b"\x55" * (64 * 72)
    assert decoder.run(data[:2] + b"\xff\xfe\x00\x06\xff\xc2\xff\xda" + data[2:], out) is None


@pytest.mark.parametrize("sampling", ["420", "grey"])
def test_one_scan_for_every_component_is_decoded(sampling: str) -> None:
    """Pillow writes one scan: three grey pictures make a picture of three, T.81 B.2.3."""
    decoder, out = _pixels.JpegDecoder("NV12", 64, 48), bytearray(64 * 72)
    data = jpeg(smooth(64, 48), "grey", quality=100)
    if sampling != "grey":
        at = data.index(b"\xff\xc0")
        start = data.index(b"\xff\xda")
        frame = (
            data[at : at + 2]
            + b"\x00\x11"
            + data[at + 4 : at + 9]
            + b"\3"
            + b"".join(bytes((k, 0x11, 0)) for k in (1, 2, 3))
        )
        scans = b"".join(b"\xff\xda\x00\x08\x01" + bytes((k,)) + data[start + 6 : -2] for k in (1, 2, 3))
        data = data[:at] + frame + data[at + 13 : start] + scans + b"\xff\xd9"
    assert decoder.run(data, out) is None
    assert (
        np.abs(
            np.frombuffer(out, np.uint8)[: 64 * 48].reshape(48, 64) - limited(smooth(64, 48)[:, :, 0], False)
        ).max()
        <= 3
    )


def test_refuses_other_colour_spaces() -> None:
    out = io.BytesIO()
    Image.new("CMYK", (64, 48)).save(out, "JPEG")
    with pytest.raises(ValueError, match="only YCbCr"):
        _pixels.JpegDecoder("NV12", 64, 48).run(out.getvalue(), bytearray(64 * 72))


def test_refuses_bad_arguments() -> None:
    decoder, data = _pixels.JpegDecoder("NV12", 64, 48), jpeg(smooth(64, 48), "420")
    with pytest.raises(ValueError, match="4607 bytes, 4608"):
        decoder.run(data, bytearray(64 * 72 - 1))
    with pytest.raises(ValueError, match="writable"):
        decoder.run(data, bytes(64 * 72))
    with pytest.raises(ValueError, match="more than a frame"):
        decoder.run(np.zeros((48 << 20) + 1, np.uint8), bytearray(64 * 72))
    both = bytearray(64 * 72)
    with pytest.raises(ValueError, match="overlap"):
        decoder.run(memoryview(both)[:100], both)
    with pytest.raises(ValueError, match="even"):
        _pixels.JpegDecoder("NV12", 63, 48)
    with pytest.raises(ValueError, match="fourcc must be"):
        _pixels.JpegDecoder("MJPG", 64, 48)


@settings(max_examples=200)
@given(at=st.integers(0, 3000), value=st.integers(0, 255), keep=st.integers(2, 4000))
def test_damage_never_crashes(at: int, value: int, keep: int) -> None:
    data = bytearray(jpeg(smooth(64, 48), "422", quality=80))
    data[at % len(data)] = value
    decoder, out = _pixels.JpegDecoder("YUYV", 64, 48), bytearray(64 * 96)
    try:
        answer = decoder.run(memoryview(data)[:keep], out)
    except ValueError:
        return
    assert answer is None or answer
