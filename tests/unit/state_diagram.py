# SPDX-License-Identifier: GPL-2.0-or-later
"""State machines: the diagram in a module's doc comment against its transition table."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import TypeVar

S = TypeVar("S", bound=enum.Enum)


def drawn(doc: str | None, states: type[S]) -> set[tuple[S, S]]:
    """Transitions that lines such as ``a -> b <-> c`` and ``* -> d`` (from every other state) draw."""
    found: set[tuple[S, S]] = set()
    words = "|".join(str(s.value) for s in states)
    for line in (doc or "").splitlines():
        if not re.fullmatch(rf"\s+(\*|{words})( <?-> ({words}))+", line):
            continue
        parts = line.split()
        for left, arrow, right in zip(parts[0::2], parts[1::2], parts[2::2], strict=False):
            lefts = [s for s in states if s.value != right] if left == "*" else [states(left)]
            found |= {(state, states(right)) for state in lefts}
            if arrow == "<->":
                found.add((states(right), states(left)))
    return found


def listed(table: Mapping[S, frozenset[S]]) -> set[tuple[S, S]]:
    """The same of a table."""
    return {(left, right) for left, rights in table.items() for right in rights}
