# SPDX-License-Identifier: GPL-2.0-or-later
"""Failures: every way in which a module's way in can fail, and how often each is tried again. The one table.

docs/operations.md prints it, and a test compares. ``[retry.CODE]`` of the configuration replaces a rule's numbers.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from maglens_driver.errors import MaglensError

RESEAT: Final = "lift it off, wipe the contacts, snap it on again"


class Code(enum.Enum):
    """The step that failed; the value is the cause word in status, journal and counters."""

    BOUNCE = "bounce"
    SHORT = "short"
    POWER_FAULT = "power_fault"
    DETECT_LOST = "detect_lost"
    NO_USB = "no_usb"
    NO_ANSWER = "no_answer"
    OVER_CURRENT = "over_current"
    CURRENT_ALARM = "current_alarm"
    OVER_DRAW = "over_draw"
    BROWN_OUT = "brown_out"
    BOARD_ERROR = "board_error"


@dataclass(frozen=True, slots=True)
class Rule:
    """After ``tries`` failures within ``window_s`` the port stays off; before another try it rests ``pause_s``."""

    tries: int
    window_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told, what to do, and the rule unless the configuration has another."""

    message: str
    hint: str
    rule: Rule


_FIVE_IN_FIVE_MINUTES: Final = Rule(5, 300.0, 1.0)

FAILURES: Final[Mapping[Code, Failure]] = {
    Code.BOUNCE: Failure(
        "its contacts do not come to rest",
        "press it home; if that does not help, wipe the contacts",
        Rule(3, 60.0, 0.5),
    ),
    Code.SHORT: Failure(
        "its power contacts are shorted: the switch reported a fault in the short test",
        "lift it off and look for metal between the contacts",
        Rule(8, 300.0, 0.25),  # Moto Mods test so often before they give up
    ),
    Code.POWER_FAULT: Failure(
        "the power switch reported a fault as power came on: the module draws too much at start",
        RESEAT,
        _FIVE_IN_FIVE_MINUTES,
    ),
    Code.DETECT_LOST: Failure(
        "the detect line fell as power came on: it sits loosely", "press it home", _FIVE_IN_FIVE_MINUTES
    ),
    Code.NO_USB: Failure("it has power, but did not appear on USB in time", RESEAT, Rule(3, 300.0, 1.0)),
    Code.NO_ANSWER: Failure(
        "it is on USB, but does not answer",
        RESEAT,
        Rule(2, 300.0, 1.0),  # a hard reset twice, as in USB PD
    ),
    Code.OVER_CURRENT: Failure(
        "the power switch reported over-current, and power was cut", RESEAT, _FIVE_IN_FIVE_MINUTES
    ),
    Code.CURRENT_ALARM: Failure(
        "the current meter raised its alarm, and power was cut", RESEAT, _FIVE_IN_FIVE_MINUTES
    ),
    Code.OVER_DRAW: Failure(
        "it drew more than its contract allows, and power was cut",
        "tell its maker; see `maglens status`",
        Rule(3, 300.0, 2.0),
    ),
    Code.BROWN_OUT: Failure(
        "it reset while it stayed on the port: its supply sags",
        "raise max_mw of the port if the board can give more, or wipe the contacts",
        Rule(5, 300.0, 1.0),
    ),
    Code.BOARD_ERROR: Failure(
        "the board's power switch or meter cannot be used", "maglens doctor", Rule(3, 60.0, 1.0)
    ),
}


class AttachFailed(MaglensError):
    """A module was not let in, or was put out again, and will not be tried any more until it is lifted off."""

    def __init__(self, code: Code, detail: str = "") -> None:
        failure = FAILURES[code]
        super().__init__(failure.message + (f" ({detail})" if detail else ""), hint=failure.hint)
        self.code = code
        self.cause = code.value


def rules(overrides: Mapping[str, Rule] | None = None) -> Mapping[Code, Rule]:
    """The table's rules, with those of the configuration (by cause word) in their place."""
    given = overrides or {}
    return {code: given.get(code.value, failure.rule) for code, failure in FAILURES.items()}
