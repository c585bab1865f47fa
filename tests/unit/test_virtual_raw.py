# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual sensor is honest: levels, noise, colour, vignetting and focus come out of its samples as they must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from maglens_driver.control import Cid
from maglens_driver.frame import Frame
from maglens_driver.mode import NV12, RAW, RAW10, RAW12, Mode, fourcc_text, make_mode
from maglens_driver.virtual.bayer import bits_of, cfa_of, pack
from maglens_driver.virtual.camera import VirtualCamera
from maglens_driver.virtual.canvas import never
from maglens_driver.virtual.lens import lens_names, load_lens
from maglens_driver.virtual.mark import Mark, luma_plane, read
from maglens_driver.virtual.optics import Optics
from maglens_driver.virtual.raw_picture import RawRenderer, flat
from maglens_driver.virtual.sensor import FULL_WELL, HEADROOM, MAX_BINNED, ONE, READ_NOISE, SensorModel
from maglens_driver.virtual.stack import Stack
from maglens_v4l2 import _pixels
from maglens_v4l2.convert import make_converter
from maglens_v4l2.statistics import Field, Statistics
from tests.bench.pixel_raw_reference import pack as reference_pack

RATE = Fraction(1, 30)
LENS = load_lens("35mm")
Samples = npt.NDArray[np.uint16]


@dataclass
class Memory:
    view: memoryview

    def release(self) -> None:
        """Nothing to give back."""


def raw_mode(lens: str = "35mm", width: int = 640, depth: frozenset[int] = RAW10) -> Mode:
    module = load_lens(lens).descriptor
    return module.with_facts(next(m for m in module.modes if m.width == width and m.fourcc in depth))


def optics(lens: str = "35mm", **changes: float) -> Optics:
    module = load_lens(lens).descriptor
    return replace(Optics.of(module, {c.id: c.default for c in module.controls}), **changes)  # type: ignore[arg-type]


def unpacked(packed: npt.NDArray[np.uint8], mode: Mode) -> Samples:
    out = np.empty((mode.height, mode.width), np.uint16)
    _pixels.unpack(mode.fourcc, mode.width, mode.height, mode.stride, packed, 16, out)
    return out


def sensor(mode: Mode) -> SensorModel:
    assert LENS.descriptor.sensor is not None
    return SensorModel(LENS.descriptor.sensor, mode)


def exposed(mode: Mode, light: Samples, settings: Optics) -> Samples:
    out = np.zeros(mode.nbytes, np.uint8)
    sensor(mode).expose(light, settings, out)
    return unpacked(out, mode)


@contextmanager
def camera(lens: str = "35mm") -> Iterator[VirtualCamera]:
    made = VirtualCamera(load_lens(lens))
    try:
        yield made
    finally:
        made.close()


def developed(cam: VirtualCamera, mode: Mode, dst: Mode, mark: Mark) -> tuple[bytearray, Statistics]:
    seen: list[Statistics] = []
    view, out = memoryview(bytearray(mode.nbytes)), bytearray(dst.nbytes)
    nbytes, meta = cam.compose(view, mark)
    converter = make_converter(mode, dst, None, seen.append)
    assert converter is not None
    converter.run(Frame(Memory(view), nbytes, mode, 0, 0, 1, meta), memoryview(out))
    return out, seen[0]


def test_every_lens_has_its_raw_modes() -> None:
    orders = set()
    for name in lens_names():
        module = load_lens(name).descriptor
        raw = [mode for mode in module.modes if mode.fourcc in RAW]
        assert {(m.width, m.height) for m in raw} == {(640, 480), (1920, 1080), (3840, 2160), (11648, 8736)}
        assert {fourcc_text(m.fourcc)[2:] for m in raw} == {"AA", "CC"}
        assert module.sensor is not None
        colors = "".join("RGB"[c] for c in cfa_of(raw[0]))
        assert {"".join("RGB"[c] for c in cfa_of(m)) for m in raw} == {module.sensor.cfa}
        orders.add(colors)
        assert len(module.calibration.vignetting) > 2
        assert all(m.mbit_s < load_lens(name).link_mbit_s * 0.8 for m in raw)
    assert orders == {"RGGB", "GRBG", "GBRG", "BGGR"}


@pytest.mark.parametrize(("depth", "bits"), [(RAW10, 10), (RAW12, 12)])
def test_packing_is_the_references(depth: frozenset[int], bits: int) -> None:
    mode = raw_mode(width=1920, depth=depth)
    samples = np.random.default_rng(1).integers(0, 1 << bits, (6, 64), dtype=np.uint16)
    out = np.full((6, 64 * bits // 8 + 5), 7, np.uint8)
    pack(samples, bits_of(mode), out)
    np.testing.assert_array_equal(out[:, :-5].reshape(-1), reference_pack(samples, bits))
    assert (out[:, -5:] == 7).all()


def test_darkness_is_the_black_level_and_light_saturates() -> None:
    mode = raw_mode(width=1920, depth=RAW12)
    dark = exposed(mode, np.zeros((mode.height, mode.width), np.uint16), optics(gain=4.0))
    assert dark.mean() == pytest.approx(256, abs=0.5)
    assert dark.std() > 1
    bright = exposed(mode, np.full((mode.height, mode.width), ONE, np.uint16), optics(exposure_s=0.032))
    assert (bright == 4095).mean() > 0.99


@pytest.mark.parametrize("gain", [1.0, 8.0])
def test_noise_is_shot_and_read_noise(gain: float) -> None:
    """Photon transfer: variance rises in proportion to the mean, by the electrons that one step stands for."""
    mode = raw_mode(width=640, depth=RAW10)
    well, read_noise = FULL_WELL * MAX_BINNED, READ_NOISE * MAX_BINNED**0.5
    step = 959 / well * gain  # sample values per electron
    for level in (0.1, 0.5):
        settings = optics(gain=gain, exposure_s=0.008 / gain, fnumber=2.8)
        light = np.full((mode.height, mode.width), round(level * ONE), np.uint16)
        seen = exposed(mode, light, settings).astype(float)
        signal = level * HEADROOM * 959
        assert seen.mean() - 64 == pytest.approx(signal, rel=0.01)
        want = signal * step + (read_noise * step) ** 2 + 1 / 12
        assert seen.var() == pytest.approx(want, rel=0.1)


def test_takes_differ_by_their_noise_alone() -> None:
    assert LENS.descriptor.sensor is not None
    mode = raw_mode()
    picture = RawRenderer(LENS.descriptor.sensor, mode).render(optics(gain=16.0, exposure_s=0.0005), never)
    first, second = (unpacked(take, mode).astype(int) for take in picture.takes[:2])
    assert 1 < (first - second).std() < 40
    assert abs((first - second).mean()) < 0.2


@pytest.mark.parametrize("lens", ["35mm", "73mm", "234mm", "24-70mm"])
@pytest.mark.parametrize("kelvin", [3200, 5600])
def test_a_white_wall_is_white_and_even(lens: str, kelvin: int) -> None:
    """Light's colour, vignetting, black level and order of colours: development undoes them all."""
    module = load_lens(lens).descriptor
    assert module.sensor is not None
    mode, dst = raw_mode(lens), make_mode(NV12, 640, 480, RATE)
    model = SensorModel(module.sensor, mode)
    light = model.seen(np.full((480, 640, 3), 150, np.uint8), kelvin)
    packed = np.zeros(mode.nbytes, np.uint8)
    model.expose(light, optics(exposure_s=0.008, fnumber=2.8, gain=1.0), packed)
    corner, middle = unpacked(packed, mode)[:8, :8].mean() - 64, unpacked(packed, mode)[236:244, 316:324].mean() - 64
    assert middle / corner == pytest.approx(module.calibration.vignetting[-1] / 1e6, rel=0.06)
    converter, out = make_converter(mode, dst), bytearray(dst.nbytes)
    assert converter is not None
    meta = replace(optics().meta(), temperature_k=kelvin)
    converter.run(Frame(Memory(packed.data), mode.nbytes, mode, 0, 0, 1, meta), memoryview(out))
    planes = np.frombuffer(out, np.uint8).astype(float)
    luma, chroma = planes[: 640 * 480].reshape(480, 640), planes[640 * 480 :]
    blocks = luma.reshape(30, 16, 40, 16).mean(axis=(1, 3))
    assert np.ptp(blocks) < 3
    assert chroma.mean() == pytest.approx(128, abs=1)
    assert np.abs(chroma - 128).mean() < 3


@pytest.mark.parametrize(("lens", "width", "dst"), [("35mm", 640, (640, 480)), ("73mm", 1920, (640, 360))])
def test_the_mark_survives_development_and_scaling(lens: str, width: int, dst: tuple[int, int]) -> None:
    with camera(lens) as cam:
        mode = raw_mode(lens, width)
        out_mode = make_mode(NV12, *dst, RATE)
        cam.select(mode)  # coarse, but marked
        for number in (1, 0xABCDEF):
            for exposure in (80, 1, 320):
                cam.set({Cid.EXPOSURE_ABSOLUTE: exposure})
                out, _ = developed(cam, mode, out_mode, Mark(cam.lens.mark, 3, number))
                assert read(luma_plane(memoryview(out), out_mode)) == Mark(cam.lens.mark, 3, number)


def test_focus_exposure_and_light_show_in_the_statistics() -> None:
    with camera() as cam:
        mode, dst = raw_mode(), make_mode(NV12, 640, 480, RATE)
        cam.select(mode)
        totals = {}
        changes: dict[str, dict[int, int]] = {
            "sharp": {Cid.FOCUS_ABSOLUTE: 50},
            "near": {Cid.FOCUS_ABSOLUTE: 400},
            "dark": {Cid.FOCUS_ABSOLUTE: 50, Cid.EXPOSURE_ABSOLUTE: 40},
        }
        for name, values in changes.items():
            cam.set(values)
            assert cam.settled(60)
            totals[name] = developed(cam, mode, dst, Mark(35, 1, 1))[1].zones[4:8].sum(axis=(0, 1)).astype(float)
        assert totals["sharp"][Field.CONTRAST] > 3 * totals["near"][Field.CONTRAST]
        assert totals["dark"][Field.LUMA] == pytest.approx(totals["sharp"][Field.LUMA] / 2, rel=0.05)
        cam.shine(3000, 1.0)
        assert cam.settled(60)
        warm = developed(cam, mode, dst, Mark(35, 1, 1))[1].zones.sum(axis=(0, 1)).astype(float)
        assert warm[Field.R] / warm[Field.B] > 2 * totals["dark"][Field.R] / totals["dark"][Field.B]


def test_a_huge_frame_is_grey_at_first() -> None:
    mode = raw_mode(width=3840)
    grey = flat(mode, optics())
    assert unpacked(grey.takes[0], mode).std() > 0
    assert grey.takes[0].size == mode.nbytes


def test_light_once_drawn_comes_from_the_stack(tmp_path: Path) -> None:
    assert LENS.descriptor.sensor is not None
    mode = raw_mode()
    stack = Stack(tmp_path)
    drawn = RawRenderer(LENS.descriptor.sensor, mode, stack)
    first = drawn.light(optics(), never)
    again = RawRenderer(LENS.descriptor.sensor, mode, stack)

    def not_now() -> bool:
        raise AssertionError("it was drawn again")

    np.testing.assert_array_equal(again.light(optics(exposure_s=0.001), not_now), first)
    assert len(list(tmp_path.iterdir())) == 1
    positions = drawn.positions(optics(fnumber=1.4))
    assert positions[0].focus_dpt == 4.0
    assert positions[-1].focus_dpt == 0.0
    near = [p.focus_dpt for p in positions if abs(p.focus_dpt - 2) < 0.1]
    assert len(near) > 6  # finely where the robot is sharp
    assert len(positions) < 200


def test_the_stack_stays_within_its_room(tmp_path: Path) -> None:
    stack = Stack(tmp_path, max_bytes=3 * 800)
    light = np.arange(400, dtype=np.uint16).reshape(20, 20)
    for key in "abcd":
        np.testing.assert_array_equal(stack.keep(key, light), light)
    assert len(list(tmp_path.iterdir())) == 3
    assert stack.find("d", (20, 20), np.uint16) is not None
    assert stack.find("d", (20, 40), np.uint16) is None
    assert stack.find("d", (20, 20), np.uint8) is None
    assert stack.find("never", (20, 20), np.uint16) is None
