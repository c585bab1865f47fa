# SPDX-License-Identifier: GPL-2.0-or-later
"""The colours of V4L2 devices: those that convert are asked, and what the others send is read by V4L2's rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from maglens_driver.mode import MJPG, NV12, YUYV, Mode, make_mode
from maglens_driver.v4l2 import colours, modes
from maglens_driver.ycbcr import TOLD, Matrix, YCbCr

raw: Any = pytest.importorskip("linuxpy.video.raw", reason="linuxpy is not installed")

RATE = Fraction(1, 30)
BOTH = colours.CSC_YCBCR_ENC | colours.CSC_QUANTIZATION
FULL_601, LIMITED_709 = YCbCr(Matrix.BT601, full=True), YCbCr(Matrix.BT709, full=False)


@dataclass
class Driver:
    """linuxpy with a driver behind it that has one format, whose ``flags`` it honours. ``leaves``: what it does not
    convert it leaves in the structure as it was given, which V4L2 forbids and some do."""

    code: int = YUYV
    flags: int = 0
    colorspace: int = colours.COLORSPACE_SRGB
    ycbcr_enc: int = 0
    quantization: int = 0
    leaves: bool = False
    raw: Any = raw
    BufferType = SimpleNamespace(VIDEO_CAPTURE=1)
    Field = SimpleNamespace(ANY=0)
    IOC = SimpleNamespace(ENUM_FMT=2)

    def iter_read(self, fd: int, ioc: int, wanted: Any) -> Iterator[Any]:
        assert (ioc, wanted.type) == (2, 1)
        wanted.pixelformat, wanted.flags = self.code, self.flags
        yield wanted

    def try_raw_format(self, fd: int, wanted: Any) -> None:
        pix = wanted.fmt.pix
        if pix.priv != colours.PRIV_MAGIC:  # as the kernel does for every driver (v4l_sanitize_format)
            pix.flags = pix.ycbcr_enc = pix.quantization = pix.xfer_func = 0
        if not pix.colorspace:
            pix.ycbcr_enc = pix.quantization = pix.xfer_func = 0
        converts = self.flags if pix.flags & colours.SET_CSC else 0
        pix.colorspace = self.colorspace
        if not self.leaves and not (converts & colours.CSC_YCBCR_ENC and pix.ycbcr_enc):
            pix.ycbcr_enc = self.ycbcr_enc
        if not self.leaves and not (converts & colours.CSC_QUANTIZATION and pix.quantization):
            pix.quantization = self.quantization
        pix.bytesperline, pix.sizeimage = 0 if self.code == MJPG else 1280, 1280 * 480

    def set_raw_format(self, fd: int, wanted: Any) -> None:
        self.try_raw_format(fd, wanted)

    def set_fps(self, fd: int, kind: int, fps: Fraction) -> None:
        raise OSError(25, "it has no rate")

    def get_fps(self, fd: int, kind: int) -> Fraction:
        raise OSError(25, "it has no rate")


def settled(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> YCbCr | None:
    """What a source would say of its pictures."""
    for module in (colours, modes):
        monkeypatch.setattr(module, "linuxpy", lambda: driver)
    wanted = Mode(MJPG, 640, 480, 0, 999, RATE) if driver.code == MJPG else make_mode(driver.code, 640, 480, RATE)
    assert modes.try_mode(3, wanted).ycbcr == modes.set_mode(3, wanted).ycbcr
    return modes.set_mode(3, wanted).ycbcr


@pytest.mark.parametrize(
    ("colorspace", "ycbcr_enc", "quantization", "means"),
    [
        ("DEFAULT", "DEFAULT", "DEFAULT", TOLD),
        ("SRGB", "DEFAULT", "DEFAULT", TOLD),
        ("SRGB", "_709", "DEFAULT", LIMITED_709),  # a webcam whose descriptor says so
        ("SRGB", "_601", "FULL_RANGE", FULL_601),
        ("REC709", "DEFAULT", "DEFAULT", LIMITED_709),
        ("REC709", "_601", "DEFAULT", TOLD),
        ("DCI_P3", "DEFAULT", "FULL_RANGE", YCbCr(Matrix.BT709, full=True)),
        ("JPEG", "DEFAULT", "DEFAULT", FULL_601),
        ("JPEG", "DEFAULT", "LIM_RANGE", TOLD),
        ("BT2020", "DEFAULT", "LIM_RANGE", YCbCr(Matrix.BT2020, full=False)),
        ("BT2020", "BT2020_CONST_LUM", "DEFAULT", YCbCr(Matrix.BT2020, full=False)),
        ("SMPTE240M", "DEFAULT", "DEFAULT", YCbCr(Matrix.SMPTE240M, full=False)),
        ("SMPTE170M", "XV601", "DEFAULT", TOLD),
        ("REC709", "XV709", "DEFAULT", LIMITED_709),
    ],
)
def test_what_a_driver_leaves_open_is_what_v4l2_says(
    *, colorspace: str, ycbcr_enc: str, quantization: str, means: YCbCr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the names that linuxpy has from videodev2.h."""
    driver = Driver(NV12, 0, raw.Colorspace[colorspace], raw.YcbcrEncoding[ycbcr_enc], raw.Quantization[quantization])
    assert settled(driver, monkeypatch) == (None if means == TOLD else means)


def test_a_matrix_that_is_not_known_yet_counts_as_unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(Driver(ycbcr_enc=99), monkeypatch) is None


def test_a_device_that_converts_sends_what_apps_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(Driver(YUYV, BOTH, 3, 2, 1), monkeypatch) is None
    assert settled(Driver(YUYV, colours.CSC_QUANTIZATION, 3, 2, 1), monkeypatch) == LIMITED_709
    assert settled(Driver(YUYV, colours.CSC_YCBCR_ENC, 3, 2, 1), monkeypatch) == FULL_601


def test_a_device_that_does_not_convert_is_not_taken_at_our_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves as it was given must not be what we wished for."""
    assert settled(Driver(YUYV, 0, 3, leaves=True), monkeypatch) == LIMITED_709
    assert settled(Driver(YUYV, 0, colours.COLORSPACE_JPEG, leaves=True), monkeypatch) == FULL_601


def test_mjpeg_is_jfif_whatever_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every decoder takes it; and no device is asked to make another of it."""
    assert settled(Driver(MJPG, BOTH, 3, 2, 2, leaves=True), monkeypatch) is None
    wanted = raw.v4l2_pix_format(pixelformat=MJPG)
    colours.ask(3, wanted)
    assert (wanted.priv, wanted.flags, wanted.colorspace) == (0, 0, 0)


def test_the_numbers_are_v4l2s() -> None:
    flags, encodings = raw.ImageFormatFlag, raw.YcbcrEncoding
    assert (flags.CSC_YCBCR_ENC, flags.CSC_QUANTIZATION) == (colours.CSC_YCBCR_ENC, colours.CSC_QUANTIZATION)
    assert (raw.Colorspace.JPEG, raw.Colorspace.SRGB) == (colours.COLORSPACE_JPEG, colours.COLORSPACE_SRGB)
    assert (raw.XferFunc.SRGB, raw.Quantization.FULL_RANGE, raw.Quantization.LIM_RANGE) == (
        colours.XFER_FUNC_SRGB, colours.FULL_RANGE, colours.LIM_RANGE
    )  # fmt: skip
    assert [encodings._601, encodings._709, encodings.BT2020, encodings.SMPTE240M] == list(Matrix)
