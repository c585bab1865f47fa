# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw frames through the converter: neutral under its light, measured, and by the recipe that is given."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maglens_driver.color import neutral, temperature_of, to_srgb, white_xyz
from maglens_driver.errors import Refused
from maglens_driver.frame import Frame, Lease, Meta
from maglens_driver.link.descriptor import Calibration, ColorMatrix, Sensor
from maglens_driver.mode import NV12, SGRBG12P, SRGGB10P, YUYV, Mode, fourcc_text, make_mode
from maglens_driver.raw import Illuminant, RawFacts
from maglens_driver.virtual.lens import load_lens
from maglens_v4l2.convert import make_converter
from maglens_v4l2.developing import DevelopConverter
from maglens_v4l2.feed import STAGING, STAGING_LEAST, Feed
from maglens_v4l2.recipe import recipe_for
from maglens_v4l2.recipe_book import RecipeBook
from maglens_v4l2.statistics import WHITE, Field, Statistics
from tests.bench.pixel_raw_reference import FOURCC_OF, pack

RATE = Fraction(1, 30)
LENS = replace(load_lens("35mm").descriptor, calibration=Calibration())  # nothing darkens the corners
DST = make_mode(NV12, 128, 96, RATE)


def raw_mode(code: int = SRGGB10P, width: int = 128, height: int = 96) -> Mode:
    """Of a sensor behind an ideal lens: the frames below are as bright in the corners as in the middle."""
    mode = LENS.with_facts(make_mode(code, width, height, RATE))
    assert mode.raw is not None
    return replace(mode, raw=replace(mode.raw, vignetting=()))


@dataclass
class Memory:
    view: memoryview

    def release(self) -> None:
        """Nothing to give back."""


def grey(mode: Mode, kelvin: float, level: float, meta: Meta = Meta()) -> Frame:  # noqa: B008 frozen
    """What the sensor makes of a grey card under a light: ``level`` 1 saturates the strongest colour."""
    facts = mode.raw
    assert facts is not None
    white = neutral(facts, kelvin)
    camera = white / white.max() * level
    name = fourcc_text(mode.fourcc)
    cfa = next(cfa for cfa, start in FOURCC_OF.items() if name.startswith(start))
    samples = np.empty((mode.height, mode.width))
    for place, color in enumerate(cfa):
        samples[place // 2 :: 2, place % 2 :: 2] = camera["RGB".index(color)]
    samples = np.round(facts.black + samples * (facts.white - facts.black))
    packed = pack(samples.astype(np.uint16), facts.bits, mode.stride)
    view = memoryview(bytearray(packed.tobytes()))
    return Frame(Memory(view), mode.nbytes, mode, 7, 1000, 3, meta)


@pytest.mark.parametrize("kelvin", [2856, 4000, 5500, 7500])
@pytest.mark.parametrize("code", [SRGGB10P, SGRBG12P])
def test_white_under_the_light_that_the_frame_names_is_white(kelvin: int, code: int) -> None:
    mode = raw_mode(code)
    out = bytearray(DST.nbytes)
    converter = make_converter(mode, DST)
    assert converter is not None
    converter.run(grey(mode, kelvin, 0.4, Meta(temperature_k=kelvin)), memoryview(out))
    chroma = np.frombuffer(out, np.uint8)[128 * 96 :].astype(int)
    assert np.abs(chroma - 128).max() <= 2
    luma = np.frombuffer(out, np.uint8)[: 128 * 96]
    assert 150 < luma.mean() < 170  # 0.4 of white through the sRGB curve is 0.665 of the range from 16 to 235


def test_what_is_measured() -> None:
    seen: list[tuple[Statistics, np.ndarray]] = []
    mode = raw_mode()
    converter = make_converter(mode, DST, None, lambda s: seen.append((s, s.zones.copy())))
    assert converter is not None
    converter.run(
        grey(mode, 4000, 0.5, Meta(exposure_us=8000, temperature_k=4000)), memoryview(bytearray(DST.nbytes))
    )
    statistics, zones = seen[0]
    assert zones.shape == (12, 2, 7)
    assert (statistics.generation, statistics.seq, statistics.meta.exposure_us) == (3, 7, 8000)
    total = zones.reshape(-1, 7).sum(axis=0)
    quads = int(total[Field.QUADS])
    assert quads == 128 * 96 // 4 // 4
    assert total[Field.CLIPPED] == 0
    assert total[Field.LUMA] / quads / WHITE == pytest.approx(0.5, abs=0.01)
    for part in (total[Field.R], total[Field.G] / 2, total[Field.B]):
        assert part / quads / WHITE == pytest.approx(0.5, abs=0.01)
    assert statistics.histogram.sum() > 0
    converter.run(grey(mode, 4000, 1.0, Meta(temperature_k=4000)), memoryview(bytearray(DST.nbytes)))
    assert seen[1][1].reshape(-1, 7).sum(axis=0)[Field.CLIPPED] == quads


def test_a_recipe_that_is_given_wins_until_it_is_taken_back() -> None:
    mode, book, out = raw_mode(), RecipeBook(), bytearray(DST.nbytes)
    seen: list[float] = []
    converter = make_converter(mode, DST, book, lambda s: seen.append(s.recipe.kelvin))
    assert converter is not None and mode.raw is not None
    frame = grey(mode, 5500, 0.2, Meta(temperature_k=5500))

    def luma() -> float:
        converter.run(frame, memoryview(out))
        return float(np.frombuffer(out, np.uint8)[: 128 * 96].mean())

    plain = luma()
    book.tune(recipe_for(mode.raw, 3000, brightness=1.4))
    assert luma() > plain + 15
    assert np.frombuffer(out, np.uint8)[128 * 96 + 64] > 140  # too blue
    book.tune(None)
    assert luma() == plain
    assert seen == [5500, 3000, 5500]


@pytest.mark.parametrize("kelvin", [2000, 2856, 3500, 4500, 5500, 6504, 9000])
def test_temperature_is_found_again(kelvin: float) -> None:
    facts = raw_mode().raw
    assert facts is not None
    red, green, blue = neutral(facts, kelvin)
    assert temperature_of(facts, red / green, blue / green) == pytest.approx(kelvin, rel=0.002)


def test_known_whites() -> None:
    for kelvin, x, y in ((2856, 0.4476, 0.4074), (5003, 0.3457, 0.3585), (6504, 0.3127, 0.3290)):
        xyz = white_xyz(kelvin)
        assert tuple(xyz[:2] / xyz.sum()) == pytest.approx((x, y), abs=0.0015)
    plain = RawFacts(10, 64, 1023)
    assert np.abs(to_srgb(plain, 6504) - np.eye(3)).max() < 0.01  # no matrices: the camera's colours are sRGB's
    assert neutral(plain, 6504) == pytest.approx([1, 1, 1], abs=0.01)


def test_facts_follow_the_depth_of_the_mode() -> None:
    ten, twelve = raw_mode(SRGGB10P).raw, raw_mode(SGRBG12P).raw
    assert ten is not None and twelve is not None
    assert (ten.bits, ten.black, ten.white) == (10, 64, 1023)
    assert (twelve.bits, twelve.black, twelve.white) == (12, 256, 4095)
    assert [light.kelvin for light in ten.illuminants] == [2856, 6504]
    assert LENS.with_facts(make_mode(NV12, 64, 64, RATE)).raw is None
    assert raw_mode() == make_mode(SRGGB10P, 128, 96, RATE)  # what is known tells no modes apart


def one_light(values: tuple[int, ...]) -> Mode:
    sensor = Sensor(128, 96, 3000, "RGGB", 10, 64, 1023, (ColorMatrix(21, values),))
    return replace(LENS, sensor=sensor).with_facts(make_mode(SRGGB10P, 128, 96, RATE))


def vignetted(*gains: float) -> Mode:
    light = Illuminant(6504, (0.4, 0.3, 0.2, 0.2, 0.7, 0.1, 0, 0.1, 0.9))
    return replace(raw_mode(), raw=RawFacts(10, 64, 1023, (light,), gains))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (make_mode(SRGGB10P, 128, 96, RATE), "nothing is known"),
        (raw_mode(width=126), "multiple of 4"),
        (one_light((0,) * 9), "inverted"),
        (one_light((10_000, 0, 0, 0, 10_000, 0, 0, 0, -10_000)), "make white"),
        (vignetted(1, 64, 0), "too fast"),
    ],
)
def test_a_module_that_says_nonsense_is_refused(mode: Mode, message: str) -> None:
    with pytest.raises(Refused, match=message):
        make_converter(mode, DST)


def test_extremes_are_cut_to_what_is_possible() -> None:
    strong = one_light((30_000, -20_000, 0, -10_000, 21_000, 0, 0, -20_000, 30_000))
    for mode in (strong, vignetted(1, 1.5, 2.5), vignetted(9)):
        assert isinstance(make_converter(mode, DST), DevelopConverter)


def test_to_any_even_size() -> None:
    mode = raw_mode()
    for dst in (make_mode(YUYV, 62, 34, RATE), make_mode(NV12, 322, 242, RATE), make_mode(NV12, 128, 96, RATE)):
        assert isinstance(make_converter(mode, dst), DevelopConverter)


entries = st.integers(-100_000, 100_000)


@settings(max_examples=300)
@given(
    matrices=st.lists(
        st.tuples(st.sampled_from((17, 20, 21, 99)), st.lists(entries, min_size=9, max_size=9)), max_size=2
    ),
    black=st.integers(0, 1022), white=st.integers(1, 1023), gains=st.lists(st.integers(0, 64_000_000), max_size=4),
    kelvin=st.integers(0, 1 << 32), code=st.sampled_from((SRGGB10P, SGRBG12P)),
)  # fmt: skip
def test_whatever_a_module_says_of_its_sensor(
    *, matrices: list[tuple[int, list[int]]], black: int, white: int, gains: list[int], kelvin: int, code: int
) -> None:
    """It is refused with its reason, or developed; no other error, whatever temperature a frame names."""
    known = tuple(ColorMatrix(light, tuple(values)) for light, values in matrices)
    sensor = Sensor(128, 96, 3000, "RGGB", 10, min(black, white - 1), white, known)
    module = replace(LENS, sensor=sensor, calibration=Calibration(tuple(gains)))
    mode = module.with_facts(make_mode(code, 128, 96, RATE))
    try:
        converter = make_converter(mode, DST)
    except Refused:
        return
    assert converter is not None
    noise = np.random.default_rng(kelvin).integers(0, 256, mode.nbytes, dtype=np.uint8)
    frame = Frame(Memory(memoryview(bytearray(noise))), mode.nbytes, mode, 0, 0, 1, Meta(temperature_k=kelvin))
    with contextlib.suppress(ValueError):  # counted as undecodable
        converter.run(frame, memoryview(bytearray(DST.nbytes)))


class NoDoor:
    """Nobody behind it."""

    def lease(self, feed: Feed, nbytes: int) -> Lease | None:
        return None

    def deliver(self, feed: Feed, frame: Frame) -> None:
        frame.lease.release()

    def active(self, feed: Feed, control: int, active: bool) -> None:
        raise AssertionError(control)

    def control(self, feed: Feed, control: int, value: int) -> None:
        raise AssertionError("nobody turns a ring")

    def dropped(self, cause: str) -> None:
        raise AssertionError(cause)

    def lost(self, feed: Feed, why: Exception) -> None:
        raise why


def test_frames_of_every_pixel_wait_in_few_buffers() -> None:
    small = Feed(NoDoor(), 1, raw_mode(), DST).staging
    huge = Feed(NoDoor(), 1, raw_mode(SGRBG12P, 11648, 8736), DST).staging
    assert small is not None and huge is not None
    assert (small.count, huge.count) == (STAGING, STAGING_LEAST)
    assert huge.count * huge.nbytes < 640 * 1024 * 1024
