# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy: which source plays. Pure functions of rules, what is there, and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from maglens_daemon.config import Rule

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Rules:
    """``rule`` in the order of the configuration; ``pinned`` is the identity key chosen live, or "auto"."""

    rule: tuple[Rule, ...] = ()
    pinned: str = AUTO
    dwell_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source that could play. ``id`` is the stay's own; ``since`` is when it became ready, seconds."""

    id: int
    kind: str
    identity: str
    port: str
    port_name: str
    since: float


@dataclass(frozen=True, slots=True)
class Choice:
    """``source`` None: the card. ``again_at``: when to ask again, because dwell times then have passed."""

    source: int | None
    again_at: float | None = None


def _matches(rule: Rule, source: SourceState) -> bool:
    return (
        (rule.kind is None or rule.kind == source.kind)
        and (rule.identity is None or fnmatchcase(source.identity, rule.identity))
        and (rule.port is None or fnmatchcase(source.port, rule.port) or fnmatchcase(source.port_name, rule.port))
    )


def _place(rules: Rules, source: SourceState) -> int | None:
    """Place of a source in the order of preference, from 0; None: never. What no rule names comes last: modules, then
    what is built in."""
    for place, rule in enumerate(rules.rule):
        if _matches(rule, source):
            return None if rule.use == "never" else place
    return len(rules.rule) + (source.kind != "module")


def choose(rules: Rules, seen: Sequence[SourceState], playing: int | None, now: float) -> Choice:
    """Who plays now.

    The pinned source when it is there; else the best place in the rules, and of equals the one that came last: what a
    person has just snapped on is what they want to see. A source displaces a *playing* one only after it has been
    there for the dwell time, so that a loose contact does not flicker; an empty stage it takes at once.
    """
    places = {s.id: place for s in seen if (place := _place(rules, s)) is not None}
    candidates = [s for s in seen if s.id in places or s.identity == rules.pinned]
    if not candidates:
        return Choice(None)

    def order(source: SourceState) -> tuple[bool, int, float, int]:
        pinned = source.identity == rules.pinned
        return (not pinned, places.get(source.id, 0), -source.since, -source.id)

    ranked = sorted(candidates, key=order)
    current = next((s for s in ranked if s.id == playing), None)
    if current is None:
        return Choice(ranked[0].id)
    waiting: float | None = None
    for source in ranked:
        if source is current:
            break
        ripe = source.since + rules.dwell_s
        if now >= ripe or source.identity == rules.pinned:
            return Choice(source.id)
        waiting = ripe if waiting is None else min(waiting, ripe)
    return Choice(current.id, waiting)
