# SPDX-License-Identifier: GPL-2.0-or-later
"""Power policy: how much the board can spare, from its battery and its heat. Pure: readings in, a condition out.

Three levels: at ``normal`` modules get what they ask for, within the budget; at ``low`` each is squeezed to its least
and streams step down; at ``critical`` none gets more than standby, and newcomers get nothing. A level is entered at
its threshold and left only when the reading is better by a margin, so that it does not flicker.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

PERCENT_BACK: Final = 3  # a battery has to gain so much over a threshold to leave its level
DEGREES_BACK: Final = 5  # a zone has to cool so far below


class Level(enum.IntEnum):
    """How the board is; worse is larger."""

    NORMAL = 0
    LOW = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class PowerRules:
    """Thresholds: percent of the battery while nothing feeds it, degrees Celsius of the hottest zone; None: not
    followed. Budgets in mW, None for no limit but the ports'."""

    budget_mw: int | None = None
    battery_budget_mw: int | None = None
    low_percent: int | None = 20
    critical_percent: int | None = 5
    warm_c: int | None = 85
    hot_c: int | None = 100


@dataclass(frozen=True, slots=True)
class Readings:
    """What the board says. ``percent`` None: no battery. ``on_battery``: nothing else feeds it. ``zone`` is the
    hottest, by its type."""

    on_battery: bool = False
    percent: int | None = None
    zone: str = ""
    celsius: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """What follows. ``reason`` is for people, empty at ``NORMAL``."""

    level: Level = Level.NORMAL
    budget_mw: int | None = None
    reason: str = ""


def assess(rules: PowerRules, now: Readings, before: Level = Level.NORMAL) -> Condition:
    """The condition for these readings, having been at ``before``."""
    worst, reason = Level.NORMAL, ""
    for level, text in (_battery(rules, now, before), _heat(rules, now, before)):
        if level > worst:
            worst, reason = level, text
    budgets = [rules.budget_mw, rules.battery_budget_mw if now.on_battery else None]
    return Condition(worst, min((b for b in budgets if b is not None), default=None), reason)


def _battery(rules: PowerRules, now: Readings, before: Level) -> tuple[Level, str]:
    if not now.on_battery or now.percent is None:
        return Level.NORMAL, ""
    thresholds = ((Level.CRITICAL, rules.critical_percent), (Level.LOW, rules.low_percent))
    for level, threshold in thresholds:
        back = PERCENT_BACK if before >= level else 0
        if threshold is not None and now.percent < threshold + back:
            return level, f"the battery is at {now.percent} %"
    return Level.NORMAL, ""


def _heat(rules: PowerRules, now: Readings, before: Level) -> tuple[Level, str]:
    if now.celsius is None:
        return Level.NORMAL, ""
    for level, threshold in ((Level.CRITICAL, rules.hot_c), (Level.LOW, rules.warm_c)):
        back = DEGREES_BACK if before >= level else 0
        if threshold is not None and now.celsius > threshold - back:
            return level, f"{now.zone} is at {now.celsius:.0f} degrees"
    return Level.NORMAL, ""
