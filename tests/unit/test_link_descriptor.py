# SPDX-License-Identifier: MIT
"""The descriptor: round trip, every ceiling, every reason to refuse one, and that nothing but BadModule comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_driver.errors import BadModule
from maglens_driver.link import cbor, limits
from maglens_driver.link.descriptor import Calibration, Descriptor
from maglens_driver.link.document import example_descriptor
from tests.unit.usb_rig import DESCRIPTOR

RAW = DESCRIPTOR.pack()


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The descriptor with something else in it, properly encoded."""
    value = copy.deepcopy(cbor2.loads(RAW))
    change(value)
    return cbor2.dumps(value, canonical=True)


def cause_of(raw: bytes) -> tuple[str, str]:
    with pytest.raises(BadModule) as error:
        Descriptor.unpack(raw)
    return error.value.cause, str(error.value)


def put(*path_and_value: Any) -> Callable[[dict[str, Any]], None]:
    *path, key, value = path_and_value

    def change(top: dict[str, Any]) -> None:
        at: Any = top
        for step in path:
            at = at[step]
        at[key] = value

    return change


def test_what_is_quoted_is_cut() -> None:
    _, text = cause_of(changed(put("power", "peak_mw", b"\0" * 60_000)))
    assert "power.peak_mw" in text and len(text) < 300


@pytest.mark.parametrize("descriptor", [DESCRIPTOR, example_descriptor()], ids=["full", "small"])
def test_round_trip(descriptor: Descriptor) -> None:
    assert Descriptor.unpack(descriptor.pack()) == descriptor


def test_optics_only() -> None:
    raw = changed(lambda top: (top.pop("sensor"), top.pop("calibration"), top.update(modes=[])))
    descriptor = Descriptor.unpack(raw)
    assert descriptor.sensor is None and descriptor.modes == () and descriptor.calibration == Calibration()
    assert descriptor.pack() == raw


def test_unknown_keys_and_a_newer_minor_version_are_tolerated() -> None:
    def change(top: dict[str, Any]) -> None:
        top["maglens"] = [1, 9, "more"]
        top["flash"] = {"lumen": 5, "on": True, "none": None, "raw": b"x"}
        top["lens"]["coating"] = "blue"

    assert Descriptor.unpack(changed(change)) == DESCRIPTOR


class TestBytes:
    """What is refused before a field is looked at."""

    @pytest.mark.parametrize("raw", [b"", bytes(limits.MAX_DESCRIPTOR_BYTES + 1)], ids=["empty", "too long"])
    def test_length(self, raw: bytes) -> None:
        assert cause_of(raw)[0] == "descriptor_length"

    def test_every_truncation(self) -> None:
        for n in range(1, len(RAW)):
            assert cause_of(RAW[:n])[0] == "descriptor_truncated", n

    def test_bytes_behind_the_end(self) -> None:
        assert cause_of(RAW + b"\0")[0] == "descriptor_trailing"

    @pytest.mark.parametrize(
        ("raw", "what"),
        [
            (b"\x9f\xff", "indefinite"),
            (b"\xbf\xff", "indefinite"),
            (b"\x5f\x41x\xff", "indefinite"),
            (b"\x1c", "indefinite"),
            (b"\xc0\x60", "tag"),
            (b"\xc2\x41\x01", "tag"),  # a bignum
            (b"\xf9\x00\x14", "simple"),  # a half float whose bits are those of false
            (b"\xfa\x00\x00\x00\x00", "simple"),
            (b"\xfb" + bytes(8), "simple"),
            (b"\xf8\x14", "simple"),
            (b"\xf7", "simple"),  # undefined
            (b"\xe0", "simple"),
            (b"\xa1\x01\x02", "key"),
            (b"\xa1\x80\x02", "key"),
            (b"\xa2\x61a\x01\x41b\x02", "key"),
            (b"\x62\xff\xfe", "CBOR"),  # not UTF-8
        ],
    )
    def test_what_cbor_may_not_hold(self, raw: bytes, what: str) -> None:
        cause, text = cause_of(raw)
        assert cause == "descriptor_cbor" and what in text

    @pytest.mark.parametrize(
        "raw",
        [
            b"\xa2\x61b\x01\x61a\x02",  # order
            b"\xa2\x61a\x01\x61a\x02",  # a key twice
            b"\xa2\x61a\x01\x61a\x01",
            b"\xa2\x62aa\x01\x61b\x02",  # shorter keys first
            b"\xa1\x61a\x18\x05",  # longer than needed
            b"\xa1\x61a\x1b" + (5).to_bytes(8, "big"),
            b"\xa1\x78\x01a\x05",
        ],
    )
    def test_not_deterministic(self, raw: bytes) -> None:
        assert cause_of(raw)[0] == "descriptor_deterministic"

    def test_depth(self) -> None:
        def nested(depth: int) -> bytes:
            return b"\x81" * (depth - 1) + b"\x80"

        assert cbor.decode(nested(limits.MAX_DESCRIPTOR_DEPTH)) is not None
        assert cause_of(nested(limits.MAX_DESCRIPTOR_DEPTH + 1))[0] == "descriptor_depth"
        assert cause_of(b"\x81" * 60_000)[0] == "descriptor_depth"

    @pytest.mark.parametrize("head", [b"\x9a\xff\xff\xff\xff", b"\xbb" + b"\xff" * 8, b"\xba\x7f\xff\xff\xff"])
    def test_absurd_counts(self, head: bytes) -> None:
        assert cause_of(head)[0] == "descriptor_items"

    @pytest.mark.parametrize("head", [b"\x5b" + b"\xff" * 8, b"\x7a\xff\xff\xff\xff", b"\x79\x10\x00"])
    def test_absurd_lengths(self, head: bytes) -> None:
        assert cause_of(head)[0] == "descriptor_truncated"

    def test_items(self) -> None:
        def rows(n: int) -> bytes:  # n arrays of 255 numbers: 256 items each
            return cbor2.dumps([[0] * 255] * n)

        assert cbor.decode(rows(15)) is not None
        assert cause_of(rows(16))[0] == "descriptor_items"

    def test_a_newer_major_version_says_what_to_do(self) -> None:
        with pytest.raises(BadModule) as error:
            Descriptor.unpack(changed(put("maglens", [2, 0])))
        assert error.value.cause == "descriptor_version" and "update" in error.value.hint

    def test_the_version_is_looked_at_before_any_other_field(self) -> None:
        assert cause_of(cbor2.dumps({"maglens": [2, 0]}, canonical=True))[0] == "descriptor_version"


MANY = limits.MAX_MODES
FIELDS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda top: top.pop("maker"), "maker is missing"),
    (put("maker", 5), "maker is not text"),
    (put("maker", ""), "maker is not text"),
    (put("maker", "x" * 65), "maker is not text of 1 to 64"),
    (put("maker", "é" * 33), "maker is not text of 1 to 64"),
    (put("maker", "a\nb"), "cannot be printed"),
    (put("maker", "a/b"), "'/'"),
    (put("serial", "../../etc"), "'/'"),
    (put("maglens", [1]), "maglens has 1 entries"),
    (put("maglens", 1), "maglens has no array"),
    (put("maglens", [True, 0]), "maglens[0]"),
    (put("lens", []), "lens is not a map"),
    (put("lens", "focal_um", [0, 1]), "lens.focal_um[0]"),
    (put("lens", "focal_um", [2, 1]), "least is above its most"),
    (put("lens", "focal_um", [1]), "lens.focal_um has 1 entries"),
    (put("lens", "fnumber_milli", [1400, 1_000_001]), "lens.fnumber_milli[1]"),
    (put("lens", "near_mm", -1), "lens.near_mm"),
    (put("lens", "rings", ["hat"]), "lens.rings[0]"),
    (put("lens", "rings", ["focus"] * 4), "lens.rings has 4"),
    (put("sensor", "bits", 17), "sensor.bits"),
    (put("sensor", "cfa", "RGBW"), "sensor.cfa"),
    (put("sensor", "black", 4095), "sensor.black"),
    (put("sensor", "white", 4096), "sensor.white"),
    (put("sensor", "width", 0), "sensor.width"),
    (put("sensor", "height", limits.MAX_HEIGHT + 1), "sensor.height"),
    (put("sensor", "matrices", 0, "values", [1] * 8), "sensor.matrices[0].values has 8"),
    (lambda top: top["sensor"]["matrices"].append(top["sensor"]["matrices"][0]), "sensor.matrices has 3"),
    (put("modes", []), "modes has 0 entries"),
    (lambda top: top.update(modes=top["modes"] * (MANY + 1)), f"to {MANY} are allowed"),
    (put("modes", 0, "fourcc", "NV1"), "modes[0].fourcc"),
    (put("modes", 0, "fourcc", "NV1é"), "modes[0].fourcc"),
    (put("modes", 0, "width", 0), "modes[0].width"),
    (put("modes", 0, "width", 1_000_000), "modes[0].width"),
    (put("modes", 0, "width", 63), "odd size"),
    (put("modes", 0, "height", 47), "odd size"),
    (put("modes", 0, "stride", 63), "do not fit"),
    (put("modes", 0, "bytes", 4607), "do not fit"),
    (put("modes", 0, "bytes", limits.MAX_FRAME_BYTES + 1), "modes[0].bytes"),
    (put("modes", 0, "bytes", 0), "modes[0].bytes"),
    (put("modes", 2, "stride", 64), "is not 0 for MJPG"),
    (lambda top: top["modes"][2].update(width=4098, height=4096), "modes[2] has 4098x4096 pixels of MJPG"),
    (put("modes", 0, "interval", [1, 0]), "modes[0].interval[1]"),
    (put("modes", 0, "interval", [1, 1001]), "modes[0].interval"),
    (put("modes", 0, "interval", [61, 1]), "modes[0].interval"),
    (put("modes", 0, "mbit_s", limits.MAX_MODE_MBIT_S + 1), "modes[0].mbit_s"),
    (put("modes", 0, "mw", limits.MAX_POWER_MW + 1), "modes[0].mw"),
    (lambda top: top.update(controls=top["controls"] * 22), "controls has 66 entries"),
    (lambda top: top["controls"].append(top["controls"][0]), "twice"),
    (put("controls", 0, "id", 0), "controls[0].id"),
    (put("controls", 0, "type", 5), "controls[0].type"),
    (put("controls", 0, "range", [0, 10, 1, 11]), "controls[0].range"),
    (put("controls", 0, "range", [0, 10, 0, 1]), "controls[0].range"),
    (put("controls", 0, "range", [0, 1 << 31, 1, 1]), "controls[0].range[1]"),
    (put("controls", 0, "flags", 8), "controls[0].flags"),
    (lambda top: top["controls"][2].pop("menu"), "controls[2].menu is missing"),
    (put("controls", 2, "menu", [[5, "Off"]]), "controls[2].menu[0]"),
    (put("controls", 2, "menu", [[0, "Off"]] * 33), "controls[2].menu has 33"),
    (put("controls", 2, "menu", [0]), "controls[2].menu[0]"),
    (put("power", "peak_mw", limits.MAX_POWER_MW + 1), "power.peak_mw"),
    (put("power", {}), "power.standby_mw is missing"),
    (put("calibration", "vignetting", [0] * 257), "calibration.vignetting has 257"),
    (put("calibration", "distortion", [1_000_001]), "calibration.distortion[0]"),
]


@pytest.mark.parametrize(("change", "text"), FIELDS, ids=[t for _, t in FIELDS])
def test_a_wrong_field_is_named(change: Callable[[dict[str, Any]], object], text: str) -> None:
    cause, message = cause_of(changed(change))
    assert cause == "descriptor_field" and text in message


@pytest.mark.parametrize("raw", [b"\x01", b"\x80", b"\x60", b"\xf6", b"\xa0"])
def test_other_documents_are_refused(raw: bytes) -> None:
    assert cause_of(raw)[0] == "descriptor_field"


CBOR_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(CBOR_VALUES)
def test_cbor_round_trip(value: Any) -> None:
    raw = cbor.encode(value)
    try:
        assert cbor.decode(raw) == value
    except BadModule as error:
        assert error.cause == "descriptor_depth"


@given(st.binary(max_size=200))
def test_random_bytes_are_only_ever_bad_module(raw: bytes) -> None:
    with pytest.raises(BadModule):
        Descriptor.unpack(raw)


@given(st.sampled_from(sorted(cbor2.loads(RAW))), CBOR_VALUES)
def test_a_random_value_in_any_place_is_only_ever_bad_module(key: str, value: Any) -> None:
    try:
        Descriptor.unpack(changed(put(key, value)))
    except BadModule as error:
        assert error.cause.startswith("descriptor_")


@given(st.integers(0, len(RAW) - 1), st.integers(0, 255))
def test_a_random_byte_in_any_place_is_only_ever_bad_module(at: int, byte: int) -> None:
    raw = bytearray(RAW)
    raw[at] = byte
    try:
        Descriptor.unpack(bytes(raw))
    except BadModule as error:
        assert error.cause.startswith("descriptor_")
