# SPDX-License-Identifier: GPL-2.0-or-later
"""Budget: shares out the power of the board among its ports. Pure functions, mW throughout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """``total_mw`` for all ports together, None where only the ports limit; ``port_mw`` by port."""

    total_mw: int | None
    port_mw: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """What one port wants: at least ``least_mw`` (below that it is no use), up to ``most_mw``. A larger ``priority``
    is served first; within one, in the order of asking."""

    port: str
    least_mw: int
    most_mw: int
    priority: int = 0


def allot(limits: Limits, asks: Sequence[Ask]) -> Mapping[str, int]:
    """mW for every port that asks; 0 where not even the least fits.

    First everyone's least in order of priority, so that a newcomer does not starve behind one who wants much; then
    what is left, in the same order, up to the most. The sum never exceeds the total nor a share its port's limit.
    """
    order = sorted(asks, key=lambda ask: -ask.priority)  # stable: equals stay in the order of asking
    left = limits.total_mw
    shares: dict[str, int] = {ask.port: 0 for ask in order}
    for ask in order:
        ceiling = limits.port_mw.get(ask.port, ask.most_mw)
        if ask.least_mw <= ceiling and (left is None or ask.least_mw <= left):
            shares[ask.port] = ask.least_mw
            left = None if left is None else left - ask.least_mw
    for ask in order:
        if shares[ask.port] < ask.least_mw:
            continue
        ceiling = min(ask.most_mw, limits.port_mw.get(ask.port, ask.most_mw))
        more = max(0, ceiling - shares[ask.port])
        if left is not None:
            more = min(more, left)
            left -= more
        shares[ask.port] += more
    return shares


def granted(contracts: Iterable[int]) -> int:
    """Sum of what is promised."""
    return sum(contracts)
