# SPDX-License-Identifier: GPL-2.0-or-later
"""Inputs: the sources as inputs of a node, as apps choose one. Pure bookkeeping.

Input 0 is automatic. A source keeps its input for as long as the camera lives, so that what an app has saved means
the same later; one that has left gives its place up only when a new one finds none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from maglens_v4l2.canonical import INPUTS
from maglens_v4l2.node import InputInfo

AUTOMATIC: Final = InputInfo("Automatic", True)
MAX_NAME: Final = 31  # bytes of struct v4l2_input's name, without the final zero


class Inputs:
    """One per node. Sources are known by identity key."""

    def __init__(self, count: int = INPUTS, slots: Sequence[tuple[str, str]] = ()) -> None:
        """``slots``: see :attr:`slots`; of the service before."""
        self._slots: list[str] = [*(key for key, _ in slots), *[""] * (count - 1)][: count - 1]
        self._names: dict[str, str] = dict(slots)
        self._present: frozenset[str] = frozenset()

    def update(self, present: Mapping[str, str]) -> bool:
        """``present``: names for people by identity key. Whether anything has changed."""
        before = self.infos()
        self._present = frozenset(present)
        for key, name in present.items():
            if key not in self._slots and (place := self._place()) is not None:
                self._slots[place] = key
            self._names[key] = name
        self._names = {key: name for key, name in self._names.items() if key in self._slots}
        return self.infos() != before

    def _place(self) -> int | None:
        """A slot that nobody has had, else one whose source has left."""
        free = [place for place, key in enumerate(self._slots) if not key]
        left = [place for place, key in enumerate(self._slots) if key not in self._present]
        return next(iter((*free, *left)), None)

    def infos(self) -> tuple[InputInfo, ...]:
        """As apps are to see them, unused ones at the end left out."""
        used = max((place + 1 for place, key in enumerate(self._slots) if key), default=0)
        return (
            AUTOMATIC,
            *(InputInfo(_cut(self._names.get(key, "")), key in self._present) for key in self._slots[:used]),
        )

    @property
    def slots(self) -> tuple[tuple[str, str], ...]:
        """Identity keys and names behind them, from input 1 on; empty where nobody stands."""
        return tuple((key, self._names.get(key, "")) for key in self._slots)

    def source(self, index: int) -> str | None:
        """The identity key behind an input; None for automatic, and for one that is nobody's."""
        return (self._slots[index - 1] or None) if 0 < index <= len(self._slots) else None


def _cut(name: str) -> str:
    """At most ``MAX_NAME`` bytes of printable text."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return printable.encode()[:MAX_NAME].decode(errors="ignore") or "?"
