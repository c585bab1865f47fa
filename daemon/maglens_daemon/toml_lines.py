# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines: at which line of a TOML text a key stands. The library's parser keeps no places."""

from __future__ import annotations

import re
import tomllib
from typing import Final

KeyPath = tuple[str | int, ...]  # keys; an integer is an index into an array of tables

_HEADER: Final = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_PART: Final = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_ASSIGNMENT: Final = re.compile(rf"^\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_PLACE: Final = re.compile(r"^(?P<what>.*?) \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")


def _keys(text: str) -> tuple[str, ...] | None:
    """The parts of a dotted key, by the library's own reading of it."""
    try:
        value: object = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return None
    parts: list[str] = []
    while isinstance(value, dict):
        if len(value) != 1:
            return None  # a table within the brackets, and no key
        ((name, value),) = value.items()
        parts.append(name)
    return tuple(parts)


class Lines:
    """Places of all table headers and assignments of one text; lines count from 1."""

    def __init__(self, text: str) -> None:
        self._lines = text.removesuffix("\n").split("\n")  # splitlines() would end lines that go on in TOML
        self._places: dict[KeyPath, int] = {}
        counts: dict[tuple[str, ...], int] = {}
        table: KeyPath = ()
        for number, line in enumerate(self._lines, 1):
            if header := _HEADER.match(line):
                keys = _keys(header[2])
                if keys is None:
                    continue
                if header[1] == "[[":
                    counts[keys] = counts.get(keys, -1) + 1
                    table = (*keys, counts[keys])
                else:
                    table = keys
                self._note(table, number)
            elif assignment := _ASSIGNMENT.match(line):
                keys = _keys(assignment[1])
                if keys is not None:
                    self._note((*table, *keys), number)

    def _note(self, at: KeyPath, number: int) -> None:
        for length in range(1, len(at) + 1):
            self._places.setdefault(at[:length], number)

    def find(self, at: KeyPath) -> int:
        """Line of the key, else of the nearest table around it, else 1."""
        for length in range(len(at), 0, -1):
            if at[:length] in self._places:
                return self._places[at[:length]]
        return 1

    def of_syntax_error(self, message: str) -> tuple[int, str]:
        """Line and text of the library's error message."""
        place = _PLACE.match(message)
        if place is None:
            return 1, message
        line = int(place["line"]) if place["line"] else max(1, len(self._lines))
        return line, place["what"]
