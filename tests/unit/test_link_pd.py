# SPDX-License-Identifier: MIT
"""Power messages: encodings against values worked out by hand from the USB PD tables, round trip, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_driver.errors import BadModule
from maglens_driver.link import limits
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo, source_capabilities


def test_encodings_worked_by_hand() -> None:
    assert FixedPdo(5000, 900).pack() == 100 << 10 | 90
    assert FixedPdo(9000, 3000).pack() == 0x0002D12C
    assert Rdo(1, 400, 100, give_back=True).pack() == 1 << 28 | 1 << 27 | 40 << 10 | 10
    assert Rdo(7, 0, 0, capability_mismatch=True).pack() == 7 << 28 | 1 << 26
    # two objects, id 3, from the source, revision 3, Source_Capabilities
    raw = source_capabilities([FixedPdo(5000, 900), FixedPdo(9000, 3000)], 3).pack(source=True)
    assert raw.hex() == "8127" + "5a900100" + "2cd10200"
    assert PdMessage(PdType.ACCEPT, 0).pack(source=False).hex() == "8300"


def test_currents_and_voltages_are_truncated_to_steps() -> None:
    assert FixedPdo.unpack(FixedPdo(5049, 909).pack()) == FixedPdo(5000, 900)
    assert FixedPdo(9000, 3000).mw == 27_000


@given(st.integers(1, 1023), st.integers(0, 1023))
def test_pdo_round_trip(mv: int, ma: int) -> None:
    pdo = FixedPdo(mv * 50, ma * 10)
    assert FixedPdo.unpack(pdo.pack()) == pdo


@given(st.integers(1, 7), st.integers(0, 1023), st.integers(0, 1023), st.booleans(), st.booleans())
def test_rdo_round_trip(position: int, operating: int, maximum: int, give_back: bool, mismatch: bool) -> None:
    rdo = Rdo(position, operating * 10, maximum * 10, give_back, mismatch)
    assert Rdo.unpack(rdo.pack()) == rdo


@given(st.sampled_from(PdType), st.integers(0, 7), st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=7))
def test_message_round_trip(kind: PdType, number: int, objects: list[int]) -> None:
    message = PdMessage(kind, number, tuple(objects) if kind.value[1] else ())
    for source in (True, False):
        raw = message.pack(source=source)
        assert PdMessage.unpack(raw) == message
        assert bool(raw[1] & 1) is source


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"", "pd_length"),
        (b"\x83", "pd_length"),
        (b"\x83\x00\x00", "pd_length"),
        (b"\x82\x10\x00\x00\x00", "pd_length"),
        (b"\x82\x20\x00\x00\x00\x00", "pd_length"),
        (b"\x84\x10\x00\x00\x00\x00", "pd_type"),  # Sink_Capabilities
        (b"\x81\x00", "pd_type"),  # GoodCRC
        (b"\x83\x80", "pd_type"),  # extended
    ],
)
def test_damage_is_refused(raw: bytes, cause: str) -> None:
    with pytest.raises(BadModule) as error:
        PdMessage.unpack(raw)
    assert error.value.cause == cause


@pytest.mark.parametrize("raw", [1 << 30, 2 << 30, 3 << 30])
def test_other_supplies_are_refused(raw: int) -> None:
    with pytest.raises(BadModule) as error:
        FixedPdo.unpack(raw)
    assert error.value.cause == "pd_object"


def test_a_request_for_no_offer_is_refused() -> None:
    with pytest.raises(BadModule) as error:
        Rdo.unpack(0)
    assert error.value.cause == "pd_object"


@pytest.mark.parametrize("value", [FixedPdo(0, 10), FixedPdo(51_200, 10), FixedPdo(50, 10_240), FixedPdo(50, -10)])
def test_what_does_not_fit_is_not_sent(value: FixedPdo) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        value.pack()


@pytest.mark.parametrize("value", [Rdo(0, 0, 0), Rdo(8, 0, 0), Rdo(1, 10_240, 0), Rdo(1, 0, 10_240)])
def test_a_request_that_does_not_fit_is_not_sent(value: Rdo) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        value.pack()


def test_the_ceiling_on_objects() -> None:
    offer = FixedPdo(5000, 500)
    assert PdMessage.unpack(source_capabilities([offer] * limits.MAX_PD_OBJECTS, 0).pack(source=True))
    with pytest.raises(ValueError, match="8 objects"):
        source_capabilities([offer] * 8, 0).pack(source=True)
    with pytest.raises(ValueError, match="0 objects"):
        PdMessage(PdType.REQUEST, 0).pack(source=False)
    with pytest.raises(ValueError, match="1 objects"):
        PdMessage(PdType.ACCEPT, 0, (1,)).pack(source=False)


@given(st.binary(max_size=34))
def test_random_bytes_are_only_ever_bad_module(raw: bytes) -> None:
    try:
        message = PdMessage.unpack(raw)
        for data in message.objects:
            FixedPdo.unpack(data) if message.type is PdType.SOURCE_CAPABILITIES else Rdo.unpack(data)
    except BadModule as error:
        assert error.cause.startswith("pd_")
