# SPDX-License-Identifier: GPL-2.0-or-later
"""Check: one named promise of docs/protocol.md, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from maglens_driver.conform.specimen import Specimen


class Verdict(enum.Enum):
    """What became of a check."""

    PASS = "pass"
    FAIL = "fail"
    NOTE = "note"  # a "should" of the protocol that is not kept
    SKIP = "skip"


class Failed(Exception):
    """The module does not keep the promise; the text says what it did."""


class Skipped(Exception):
    """The check cannot be made; the text says why."""


def fail(text: str) -> NoReturn:
    """End the check: not kept."""
    raise Failed(text)


def expect(condition: bool, text: str) -> None:
    """Not kept unless ``condition``."""
    if not condition:
        raise Failed(text)


Body = Callable[["Specimen"], None]


@dataclass(frozen=True, slots=True)
class Check:
    """``run`` raises :class:`Failed`, :class:`Skipped`, or what the transport raises. ``should``: no must."""

    name: str
    text: str
    run: Body
    should: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One check's outcome; ``why`` is empty for a pass."""

    check: Check
    verdict: Verdict
    why: str
    seconds: float


class Group:
    """Checks of one subject, in the order in which they are declared."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Check] = []

    def check(self, name: str, text: str, *, should: bool = False) -> Callable[[Body], Body]:
        """Declare the function below as the check ``GROUP.name``."""

        def declare(body: Body) -> Body:
            self.add(name, text, body, should=should)
            return body

        return declare

    def add(self, name: str, text: str, body: Body, *, should: bool = False) -> None:
        """Declare a check that comes from a table."""
        self.checks.append(Check(f"{self.name}.{name}", text, body, should))
