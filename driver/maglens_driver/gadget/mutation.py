# SPDX-License-Identifier: MIT
"""Mutation: descriptors that no module may have, made from a good one."""

from __future__ import annotations

import cbor2

from maglens_driver.gadget.faults import Fault
from maglens_driver.link import cbor, limits
from maglens_driver.link.cbor import Value

_EXTRA_KEY = "zz"  # a host ignores unknown keys, so only what is under it can be wrong
_DEEP = 4  # levels beyond the limit
_ARRAY_OF_ALL = b"\x9a\xff\xff\xff\xff"  # head of an array of 2**32 - 1 entries
_TEXT_KEY = cbor2.dumps(_EXTRA_KEY)


def mutate(raw: bytes, fault: Fault) -> bytes:
    """``raw`` with ``fault`` in it. ``ValueError`` for faults that are not the descriptor's bytes."""
    top = cbor.decode(raw)
    if not isinstance(top, dict):
        raise TypeError("a descriptor is a map")
    match fault:
        case Fault.DESCRIPTOR_LONG:
            return cbor.encode({**top, _EXTRA_KEY: bytes(limits.MAX_DESCRIPTOR_BYTES)})
        case Fault.DESCRIPTOR_TRUNCATED:
            return raw[: len(raw) // 2]
        case Fault.DESCRIPTOR_ORDER:
            return cbor2.dumps(dict(reversed(top.items())))
        case Fault.DESCRIPTOR_DUPLICATE:
            return _with_entry(raw, cbor2.dumps("maker") + cbor2.dumps("someone else"))
        case Fault.DESCRIPTOR_DEPTH:
            deep: Value = 0
            for _ in range(limits.MAX_DESCRIPTOR_DEPTH + _DEEP):
                deep = [deep]
            return cbor.encode({**top, _EXTRA_KEY: deep})
        case Fault.DESCRIPTOR_COUNT:
            return _with_entry(raw, _TEXT_KEY + _ARRAY_OF_ALL)
        case Fault.DESCRIPTOR_ZERO:
            return cbor.encode(_with_width(top, 0))
        case Fault.DESCRIPTOR_HUGE:
            return cbor.encode(_with_width(top, 1_000_000))
        case Fault.DESCRIPTOR_VERSION:
            return cbor.encode({**top, "maglens": [limits.VERSION_MAJOR + 1, 0]})
        case _:
            raise ValueError(f"{fault.value} does not change the descriptor's bytes")


def _with_entry(raw: bytes, entry: bytes) -> bytes:
    """One more entry at the end of the top map, whose head must be a single byte (up to 22 entries before)."""
    if not 0xA0 <= raw[0] < 0xB7:
        raise ValueError("the descriptor's top map has too many entries to add one")
    return bytes((raw[0] + 1,)) + raw[1:] + entry


def _with_width(top: dict[str, Value], width: int) -> dict[str, Value]:
    modes = top["modes"]
    if not isinstance(modes, list) or not modes or not isinstance(modes[0], dict):
        raise ValueError("the descriptor has no mode to change")
    return {**top, "modes": [{**modes[0], "width": width}, *modes[1:]]}
