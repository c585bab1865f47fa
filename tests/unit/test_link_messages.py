# SPDX-License-Identifier: MIT
"""Every wire structure: layout, round trip, and what is refused."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import struct
import sys

import pytest
from crc32c import crc32c as crc32c_fast
from hypothesis import given
from hypothesis import strategies as st

from maglens_driver.errors import BadModule
from maglens_driver.link import limits, wire
from maglens_driver.link.message import Message

KINDS = [k for _, k in inspect.getmembers(wire, inspect.isclass) if issubclass(k, Message) and k is not Message]
RANGES = {
    "B": (0, 0xFF),
    "H": (0, 0xFFFF),
    "I": (0, 0xFFFFFFFF),
    "i": (-(1 << 31), (1 << 31) - 1),
    "Q": (0, (1 << 64) - 1),
    "q": (-(1 << 63), (1 << 63) - 1),
}


def values(kind: type[Message]) -> st.SearchStrategy[Message]:
    return st.tuples(*(st.integers(*RANGES[f.code]) for f in kind.layout())).map(lambda v: kind(*v))


def test_there_are_structures() -> None:
    assert len(KINDS) == 11


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
class TestEveryStructure:
    def test_fields_lie_one_behind_the_other(self, kind: type[Message]) -> None:
        at = 0
        for f in kind.layout():
            assert f.offset == at and f.size == struct.calcsize("<" + f.code) and f.doc
            assert at % f.size == 0, "a C compiler would put padding here"
            at += f.size
        assert at == kind.SIZE

    def test_round_trip(self, kind: type[Message]) -> None:
        @given(values(kind), st.binary(max_size=8), st.integers(0, 5))
        def check(value: Message, behind: bytes, before: int) -> None:
            raw = value.pack()
            assert len(raw) == kind.SIZE
            assert kind.unpack(raw) == value
            assert kind.unpack(raw + behind) == value
            assert kind.unpack(bytes(before) + raw, before) == value
            target = bytearray(before + kind.SIZE)
            value.pack_into(target, before)
            assert target[before:] == raw

        check()

    def test_too_short_is_refused(self, kind: type[Message]) -> None:
        with pytest.raises(BadModule) as error:
            kind.unpack(bytes(kind.SIZE - 1))
        assert error.value.cause == "length"
        assert str(kind.SIZE) in str(error.value)

    def test_it_is_frozen(self, kind: type[Message]) -> None:
        value = kind.unpack(bytes(kind.SIZE))
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, kind.NAMES[0], 1)


LEADER = wire.Leader(wire.LEADER_MAGIC, 80, 1, 0, 0, 7, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
TRAILER = wire.Trailer(wire.TRAILER_MAGIC, 32, 1, 0, 0, 7, 9, 6, 1)
EVENT = wire.Event(wire.EVENT_MAGIC, 1, 1, 5, 6, -7, 8)


def broken(raw: bytes, at: int, to: bytes) -> bytes:
    return raw[:at] + to + raw[at + len(to) :]


class TestSealed:
    def test_round_trip(self) -> None:
        leader = wire.open_leader(wire.seal(LEADER))
        assert dataclasses.replace(leader, crc32c=0) == LEADER
        trailer = wire.open_trailer(memoryview(wire.seal(TRAILER)))
        assert dataclasses.replace(trailer, crc32c=0) == TRAILER

    def test_a_longer_one_of_a_newer_minor_version_is_read(self) -> None:
        longer = bytearray(wire.seal(dataclasses.replace(LEADER, size=96)) + bytes(16))
        longer[8:12] = bytes(4)
        longer[8:12] = crc32c_fast(bytes(longer)).to_bytes(4, "little")
        assert wire.open_leader(longer).frame_id == 9

    @pytest.mark.parametrize(
        ("damage", "cause"),
        [
            (lambda raw: raw[:-1], "leader_length"),
            (lambda raw: b"", "leader_length"),
            (lambda raw: raw + b"\0", "leader_length"),
            (lambda raw: raw + bytes(limits.MAX_STRUCTURE_BYTES), "leader_length"),
            (lambda raw: broken(raw, 0, b"X"), "leader_magic"),
            (lambda raw: broken(raw, 6, b"\2"), "leader_version"),
            (lambda raw: broken(raw, 4, b"\x51\0"), "leader_length"),
            (lambda raw: broken(raw, 8, b"\0\0\0\0"), "leader_crc"),
            (lambda raw: broken(raw, 79, b"\1"), "leader_crc"),
        ],
    )
    def test_a_damaged_leader_is_refused(self, damage, cause) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(BadModule) as error:
            wire.open_leader(damage(wire.seal(LEADER)))
        assert error.value.cause == cause

    @pytest.mark.parametrize(
        ("at", "to", "cause"),
        [
            (0, b"X", "trailer_magic"),
            (4, b"\x21\0", "trailer_length"),
            (6, b"\0", "trailer_version"),
            (31, b"\1", "trailer_crc"),
        ],
    )
    def test_a_damaged_trailer_is_refused(self, at: int, to: bytes, cause: str) -> None:
        with pytest.raises(BadModule) as error:
            wire.open_trailer(broken(wire.seal(TRAILER), at, to))
        assert error.value.cause == cause

    def test_any_changed_bit_is_noticed(self) -> None:
        raw = wire.seal(LEADER)
        for bit in range(len(raw) * 8):
            changed = bytearray(raw)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(BadModule):
                wire.open_leader(changed)


class TestControlPayload:
    def test_round_trip(self) -> None:
        head, body = wire.open_payload(wire.pack_request(wire.Op.START, 3, b"abcd"))
        assert (head.code, head.tag, body) == (wire.Op.START, 3, b"abcd")
        head, body = wire.open_payload(wire.pack_reply(wire.Status.ADJUSTED, 3))
        assert (head.code, head.tag, body) == (wire.Status.ADJUSTED, 3, b"")

    @pytest.mark.parametrize(
        ("raw", "cause"),
        [
            (b"", "control_length"),
            (bytes(7), "control_length"),
            (bytes(limits.MAX_CONTROL_BYTES + 1), "control_length"),
            (broken(wire.pack_reply(wire.Status.OK, 0), 0, b"XX"), "control_magic"),
            (broken(wire.pack_reply(wire.Status.OK, 0), 2, b"\2"), "control_version"),
            (wire.pack_reply(wire.Status.OK, 0) + b"x", "control_length"),
            (wire.pack_reply(wire.Status.OK, 0, b"abc")[:-1], "control_length"),
        ],
    )
    def test_damage_is_refused(self, raw: bytes, cause: str) -> None:
        with pytest.raises(BadModule) as error:
            wire.open_payload(raw)
        assert error.value.cause == cause

    def test_a_newer_major_version_says_what_to_do(self) -> None:
        with pytest.raises(BadModule) as error:
            wire.open_payload(broken(wire.pack_reply(wire.Status.OK, 0), 2, b"\2"))
        assert "update" in error.value.hint


class TestControlList:
    def test_the_ceiling(self) -> None:
        entries = [wire.ControlValue(i, 0, -i) for i in range(limits.MAX_CONTROLS)]
        assert list(wire.open_controls(wire.pack_controls(entries))) == entries
        with pytest.raises(ValueError, match="at most 64"):
            wire.pack_controls([*entries, entries[0]])

    @pytest.mark.parametrize(
        ("body", "cause"),
        [
            (b"\1", "length"),
            (wire.ControlCount(65).pack() + bytes(65 * 16), "controls_count"),
            (wire.ControlCount(0xFFFF).pack(), "controls_count"),
            (wire.ControlCount(2).pack() + bytes(31), "length"),
        ],
    )
    def test_damage_is_refused(self, body: bytes, cause: str) -> None:
        with pytest.raises(BadModule) as error:
            wire.open_controls(body)
        assert error.value.cause == cause


class TestEvent:
    def test_round_trip(self) -> None:
        assert wire.open_event(EVENT.pack() + bytes(40)) == EVENT

    @pytest.mark.parametrize(
        ("raw", "cause"),
        [
            (EVENT.pack()[:-1], "event_length"),
            (EVENT.pack() + bytes(41), "event_length"),
            (broken(EVENT.pack(), 1, b"X"), "event_magic"),
            (broken(EVENT.pack(), 2, b"\0"), "event_version"),
        ],
    )
    def test_damage_is_refused(self, raw: bytes, cause: str) -> None:
        with pytest.raises(BadModule) as error:
            wire.open_event(raw)
        assert error.value.cause == cause


@given(st.binary(max_size=600))
def test_random_bytes_are_only_ever_bad_module(raw: bytes) -> None:
    for opener in (
        wire.open_leader, wire.open_trailer, wire.open_payload, wire.open_controls, wire.open_event,
    ):  # fmt: skip
        try:
            opener(raw)
        except BadModule as error:
            assert error.cause


def test_packing_leaves_nothing_behind() -> None:
    """Nor with the interpreter, which keeps tuples that it cut to size."""
    clock, target = wire.Clock(1, 1, 0), bytearray(wire.Clock.SIZE)
    gc.collect()  # which gives back the spare ones
    clock.pack()
    before = sys.getallocatedblocks()
    for _ in range(200):
        clock.pack()
        clock.pack_into(target)
    assert sys.getallocatedblocks() - before < 20
