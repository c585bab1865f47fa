# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy: which source plays. Pure functions of rules, what is there, and the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from maglens_daemon.config import Rule
from maglens_daemon.pattern import fits

if TYPE_CHECKING:
    from maglens_daemon.session import Session

AUTO: Final = "auto"
PINNED: Final = -1  # place of what a rule pins
BARRED: Final = "a rule of [policy] says never"


@dataclass(frozen=True, slots=True)
class Rules:
    """``rule`` in the order of the configuration, those of one node; ``pinned`` is the identity key chosen live, or
    "auto"."""

    rule: tuple[Rule, ...] = ()
    pinned: str = AUTO
    dwell_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source that could play. ``id`` is the stay's own; ``since`` is when it became ready, seconds; ``snapped``:
    a person put it there; ``by_id`` is udev's name for it."""

    id: int
    kind: str
    identity: str
    port: str
    port_name: str
    since: float
    snapped: bool = True
    by_id: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """``order``: who should play, best first, down to the one that plays now; empty: the card. The next best is for
    when the best cannot. ``again_at``: when to ask again, because dwell times then have passed."""

    order: tuple[int, ...] = ()
    again_at: float | None = None

    @property
    def source(self) -> int | None:
        """The best."""
        return self.order[0] if self.order else None


def state_of(session: Session) -> SourceState:
    """An identified session as the policy sees it."""
    assert session.identity is not None
    port, visitor = session.port, session.visitor
    return SourceState(
        session.id,
        visitor.kind,
        session.identity.key,
        port.path,
        port.name,
        session.ready_at,
        visitor.snapped,
        visitor.by_id,
    )


def _matches(rule: Rule, source: SourceState) -> bool:
    return (
        (rule.kind is None or rule.kind == source.kind)
        and (rule.identity is None or fits(source.identity, rule.identity))
        and (rule.port is None or fits(source.port, rule.port) or fits(source.port_name, rule.port))
        and (rule.by_id is None or fits(source.by_id, rule.by_id))
    )


def for_node(rules: Sequence[Rule], node: str) -> tuple[Rule, ...]:
    """The rules that hold on a node."""
    return tuple(rule for rule in rules if rule.node is None or rule.node == node)


def node_of(source: SourceState, rules: Sequence[Rule], choices: Mapping[str, str]) -> str:
    """Whose source it is, for it can play on one node only: the one where a person chose it, else the one that a rule
    for this node alone names, else the first. ``choices``: identity key or "auto" by node."""
    for node, chosen in choices.items():
        if chosen == source.identity:
            return node
    for rule in rules:
        if rule.node is not None and rule.node in choices and rule.use != "never" and _matches(rule, source):
            return rule.node
    return next(iter(choices))


def _place(rules: Rules, source: SourceState) -> int | None:
    """Place of a source in the order of preference, from ``PINNED``; None: never. What no rule names comes
    last: what was snapped on or plugged in, then what is built in."""
    for place, rule in enumerate(rules.rule):
        if _matches(rule, source):
            return {"never": None, "pin": PINNED}.get(rule.use, place)
    return len(rules.rule) + (not source.snapped)


def is_barred(rules: Rules, source: SourceState) -> bool:
    """Whether a source never plays, unless a person chooses it."""
    return _place(rules, source) is None and source.identity != rules.pinned


def choose(rules: Rules, seen: Sequence[SourceState], playing: int | None, now: float) -> Choice:
    """Who plays now, and who if that one cannot.

    The pinned source when it is there; else the best place in the rules, and of equals the one that came last: what a
    person has just snapped on is what they want to see. A source displaces a *playing* one only after it has been
    there for the dwell time, so that a loose contact does not flicker; an empty stage it takes at once.
    """
    places = {s.id: place for s in seen if (place := _place(rules, s)) is not None}
    candidates = [s for s in seen if s.id in places or s.identity == rules.pinned]

    def order(source: SourceState) -> tuple[bool, int, float, int]:
        pinned = source.identity == rules.pinned
        return (not pinned, places.get(source.id, 0), -source.since, -source.id)

    ranked = sorted(candidates, key=order)
    current = next((s for s in ranked if s.id == playing), None)
    if current is None:
        return Choice(tuple(s.id for s in ranked))
    above = ranked[: ranked.index(current)]
    at_once = {s.id for s in above if s.identity == rules.pinned or places.get(s.id) == PINNED}
    ripe_at = {s.id: now if s.id in at_once else s.since + rules.dwell_s for s in above}
    ripe = tuple(s.id for s in above if ripe_at[s.id] <= now)
    return Choice((*ripe, current.id), min((at for at in ripe_at.values() if at > now), default=None))
