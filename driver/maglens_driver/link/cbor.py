# SPDX-License-Identifier: MIT
"""Deterministic CBOR (RFC 8949 section 4.2) for the descriptor: bounds first, then decode, then compare.

The library decodes; before it sees a byte, :func:`_scan` checks the shape, because a decoder recurses and allocates
as the input says. Afterwards the value is encoded again and compared, because decoders accept duplicate keys and
over-long integers silently. Allowed: integers, text, byte strings, arrays, maps with text keys, booleans, null.
"""

from __future__ import annotations

from typing import Final

import cbor2

from maglens_driver.errors import BadModule
from maglens_driver.link.limits import MAX_DESCRIPTOR_BYTES, MAX_DESCRIPTOR_DEPTH, MAX_DESCRIPTOR_ITEMS

Value = int | str | bytes | bool | None | list["Value"] | dict[str, "Value"]

_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = 20, 21, 22
_ONE_BYTE, _EIGHT_BYTES = 24, 27
_KINDS: Final = ("integer", "integer", "bytes", "text", "array", "map", "tag", "simple value")


def _head(raw: bytes, at: int) -> tuple[int, int, int]:
    """Major type, argument and the offset behind the head at ``at``. Floats and one-byte simple values are refused
    here: their argument would be taken for that of false, true or null."""
    if at >= len(raw):
        raise BadModule("descriptor_truncated", f"descriptor ends at byte {at} in the middle of an item")
    major, short = raw[at] >> 5, raw[at] & 0x1F
    at += 1
    if short < _ONE_BYTE:
        return major, short, at
    if short > _EIGHT_BYTES:
        raise BadModule("descriptor_cbor", f"descriptor has an indefinite length at byte {at - 1}")
    if major == _SIMPLE:
        raise BadModule("descriptor_cbor", f"descriptor has a {_KINDS[major]} at byte {at - 1}, which is not allowed")
    width = 1 << (short - _ONE_BYTE)
    if at + width > len(raw):
        raise BadModule("descriptor_truncated", f"descriptor ends at byte {len(raw)} in the middle of a number")
    return major, int.from_bytes(raw[at : at + width], "big"), at + width


def _scan(raw: bytes) -> None:
    """Walk the items without building anything; iterative, so depth costs no stack."""
    at, items = 0, 0
    open_items: list[int] = [1]  # items still to come, per level
    maps: list[bool] = [False]  # whether the level is a map: an even number to come means that a key is next
    while open_items:
        if open_items[-1] == 0:
            open_items.pop()
            maps.pop()
            continue
        key = maps[-1] and open_items[-1] % 2 == 0
        open_items[-1] -= 1
        major, argument, at = _head(raw, at)
        if key and major != _TEXT:
            raise BadModule("descriptor_cbor", f"descriptor has a {_KINDS[major]} as a key before byte {at}")
        items += 1
        if items > MAX_DESCRIPTOR_ITEMS:
            raise BadModule("descriptor_items", f"descriptor has more than {MAX_DESCRIPTOR_ITEMS} items")
        if major in (_BYTES, _TEXT):
            if argument > len(raw) - at:
                raise BadModule(
                    "descriptor_truncated", f"descriptor has {argument} bytes of {_KINDS[major]} past its end"
                )
            at += argument
        elif major in (_ARRAY, _MAP):
            count = argument * (2 if major == _MAP else 1)
            if count > MAX_DESCRIPTOR_ITEMS:
                raise BadModule("descriptor_items", f"descriptor has an {_KINDS[major]} of {argument} entries")
            if len(open_items) > MAX_DESCRIPTOR_DEPTH:
                raise BadModule("descriptor_depth", f"descriptor is nested deeper than {MAX_DESCRIPTOR_DEPTH}")
            open_items.append(count)
            maps.append(major == _MAP)
        elif major == _TAG or (major == _SIMPLE and argument not in (_FALSE, _TRUE, _NULL)):
            raise BadModule("descriptor_cbor", f"descriptor has a {_KINDS[major]}, which is not allowed")
    if at != len(raw):
        raise BadModule("descriptor_trailing", f"descriptor has {len(raw) - at} bytes behind its end")


def encode(value: Value) -> bytes:
    """Deterministic encoding. With text keys only, the library's canonical order is that of RFC 8949 4.2.1."""
    return cbor2.dumps(value, canonical=True)


def decode(raw: bytes) -> Value:
    """Decode a descriptor's bytes.

    Causes: ``descriptor_length|truncated|items|depth|cbor|trailing|deterministic``.
    """
    if not 0 < len(raw) <= MAX_DESCRIPTOR_BYTES:
        raise BadModule(
            "descriptor_length", f"descriptor of {len(raw)} bytes, 1 to {MAX_DESCRIPTOR_BYTES} are allowed"
        )
    _scan(raw)
    try:
        value: Value = cbor2.loads(raw)
        again = encode(value)
    except (cbor2.CBORError, ValueError, TypeError) as error:
        raise BadModule("descriptor_cbor", f"descriptor is not CBOR: {error}") from error
    if again != raw:
        raise BadModule("descriptor_deterministic", "descriptor is not deterministic CBOR (RFC 8949 4.2)")
    return value
