# SPDX-License-Identifier: MIT
"""Reader: takes typed, bounded values out of a decoded descriptor and names the place of what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from maglens_driver.errors import BadModule
from maglens_driver.link.cbor import Value
from maglens_driver.link.limits import MAX_TEXT_BYTES

T = TypeVar("T")

_MOST_SAID: Final = 200  # characters: a byte string of the whole descriptor must not fill the journal


class Reader:
    """One map of the descriptor. Unknown keys are ignored: a newer minor version may add some."""

    def __init__(self, value: Value, path: str) -> None:
        if not isinstance(value, dict):
            raise bad(path, "is not a map")
        self._map = value
        self._path = path

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._map

    def _get(self, key: str) -> Value:
        if key not in self._map:
            raise bad(self._at(key), "is missing")
        return self._map[key]

    def number(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer in ``low`` .. ``high``; ``default`` where the key may be absent."""
        if default is not None and key not in self._map:
            return default
        return check_number(self._get(key), low, high, self._at(key))

    def text(self, key: str, default: str | None = None) -> str:
        """Printable text of 1 to 64 bytes of UTF-8."""
        if default is not None and key not in self._map:
            return default
        value = self._get(key)
        if not isinstance(value, str) or not 0 < len(value.encode()) <= MAX_TEXT_BYTES:
            raise bad(self._at(key), f"is not text of 1 to {MAX_TEXT_BYTES} bytes")
        if not value.isprintable():
            raise bad(self._at(key), "has characters that cannot be printed")
        return value

    def map(self, key: str) -> Reader:
        """A nested map."""
        return Reader(self._get(key), self._at(key))

    def list(self, key: str, low: int, high: int, item: Callable[[Value, str], T]) -> tuple[T, ...]:
        """An array of ``low`` .. ``high`` entries, each read by ``item(value, path)``; absent where low is 0."""
        if low == 0 and key not in self._map:
            return ()
        value = self._get(key)
        if not isinstance(value, list) or not low <= len(value) <= high:
            have = f"{len(value)} entries" if isinstance(value, list) else "no array"
            raise bad(self._at(key), f"has {have}, {low} to {high} are allowed")
        return tuple(item(v, f"{self._at(key)}[{i}]") for i, v in enumerate(value))


def check_number(value: Value, low: int, high: int, path: str) -> int:
    """``value`` as an integer in range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise bad(path, f"is {value!r}, not a number from {low} to {high}")
    return value


def bad(path: str, what: str) -> BadModule:
    """The error for a field of the descriptor; ``what`` may quote the module, and is cut."""
    if len(what) > _MOST_SAID:
        what = what[:_MOST_SAID] + "..."
    return BadModule("descriptor_field", f"descriptor: {path or 'top level'} {what}")
