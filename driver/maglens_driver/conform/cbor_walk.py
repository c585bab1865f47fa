# SPDX-License-Identifier: GPL-2.0-or-later
"""CborWalk: the items of a document one by one, to say what is wrong where, and not only that something is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from maglens_driver.conform.check import Failed
from maglens_driver.link.limits import MAX_DESCRIPTOR_ITEMS

UINT, NINT, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
KINDS: Final = ("integer", "integer", "byte string", "text", "array", "map", "tag", "float or simple value")
_INDEFINITE, _FIRST_LONG, _LAST_LONG = 31, 24, 27


@dataclass(frozen=True, slots=True)
class Item:
    """``at``: its offset. ``argument``: value, length or count; ``shortest``: whether it is encoded in the fewest
    bytes. ``depth``: 1 for the outermost. ``key``: its bytes where it is a key of a map, else empty."""

    at: int
    major: int
    argument: int
    shortest: bool
    definite: bool
    depth: int
    key: bytes


@dataclass
class _Level:
    left: int
    is_map: bool
    keys: list[bytes] = field(default_factory=list)


@dataclass
class CborWalk:
    """Raises :class:`Failed` where the bytes end too early or an item cannot be read. ``end``: where it ended."""

    raw: bytes
    end: int = 0
    misplaced: list[str] = field(default_factory=list)  # keys out of order
    twice: list[str] = field(default_factory=list)

    def items(self) -> Iterator[Item]:
        """Every item in the order of the bytes. Iterative, so that depth costs no stack; bounded."""
        levels = [_Level(1, False)]
        count = 0
        while levels:
            level = levels[-1]
            if level.left == 0:
                levels.pop()
                continue
            item, body = self._item(level.is_map and level.left % 2 == 0, len(levels))
            level.left -= 1
            count += 1
            if item.key:
                self._order(level, item.key)
            yield item
            self.end = body
            if item.major in (BYTES, TEXT):
                self.end = body + item.argument
            elif item.major in (ARRAY, MAP):
                levels.append(_Level(item.argument * (1 + (item.major == MAP)), item.major == MAP))
            if count > MAX_DESCRIPTOR_ITEMS:
                raise Failed(f"more than {MAX_DESCRIPTOR_ITEMS} items")

    def _item(self, is_key: bool, depth: int) -> tuple[Item, int]:
        at = self.end
        if at >= len(self.raw):
            raise Failed(f"it ends at byte {at} where an item is due")
        major, short = self.raw[at] >> 5, self.raw[at] & 0x1F
        body, argument, shortest = at + 1, short, True
        if _FIRST_LONG <= short <= _LAST_LONG:
            width = 1 << (short - _FIRST_LONG)
            body += width
            if body > len(self.raw):
                raise Failed(f"it ends within the number at byte {at}")
            argument = int.from_bytes(self.raw[at + 1 : body], "big")
            shortest = argument >= (_FIRST_LONG if width == 1 else 1 << (4 * width))
        elif short > _LAST_LONG and short != _INDEFINITE:
            raise Failed(f"byte {at} is no head of an item ({self.raw[at]:#04x})")
        if major in (BYTES, TEXT) and argument > len(self.raw) - body:
            raise Failed(f"the {KINDS[major]} at byte {at} goes {argument - len(self.raw) + body} bytes past the end")
        if major in (ARRAY, MAP) and argument > len(self.raw):
            raise Failed(f"the {KINDS[major]} at byte {at} says it has {argument} entries")
        key = self.raw[at : body + argument] if is_key and major == TEXT else b""
        return Item(at, major, argument, shortest, short != _INDEFINITE, depth, key), body

    def _order(self, level: _Level, key: bytes) -> None:
        name = key[1 + (key[0] & 0x1F >= _FIRST_LONG) :].decode(errors="replace")
        if key in level.keys:
            self.twice.append(name)
        elif level.keys and key < level.keys[-1]:
            self.misplaced.append(name)
        level.keys.append(key)
