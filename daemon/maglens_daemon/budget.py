# SPDX-License-Identifier: GPL-2.0-or-later
"""Budget: shares out the power of the board among its ports. Pure functions, mW throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class Ledger:
    """What is promised to each port, mW. No promise is made or raised unless all of them together fit the total.

    The total may shrink below what is promised (a battery sags): then nothing is taken back here, but nobody gets
    more until enough was given back. ``total_mw`` None: only the ports limit.
    """

    def __init__(self, total_mw: int | None = None) -> None:
        self.total_mw = total_mw
        self._promised: dict[str, int] = {}
        self._bursts: dict[str, int] = {}

    @property
    def promised_mw(self) -> int:
        """All promises together, bursts included."""
        return sum(self._promised.values()) + sum(self._bursts.values())

    @property
    def spare_mw(self) -> int | None:
        """What may still be promised; below 0 after the total has shrunk; None: no end."""
        return None if self.total_mw is None else self.total_mw - self.promised_mw

    def of(self, port: str) -> int:
        """What is promised to one port, without its burst."""
        return self._promised.get(port, 0)

    def ceiling(self, port: str, limit_mw: int) -> int:
        """The most that a Request of ``port`` may be granted now, while its limit stands at ``limit_mw``: what is
        promised, unless the total has shrunk since."""
        spare = self.spare_mw
        return self.of(port) if spare is None or spare >= 0 else max(limit_mw, self.of(port) + spare)

    def reserve(self, port: str, least_mw: int, most_mw: int) -> int:
        """Promise ``port`` as much as there is from ``least_mw`` to ``most_mw``; 0, and no promise, where even the
        least is more than there is. What was promised before stays promised until :meth:`settle`."""
        before, spare = self.of(port), self.spare_mw
        share = most_mw if spare is None else min(most_mw, before + max(0, spare))
        if share < least_mw or share <= 0:
            return 0
        self._promised[port] = max(before, share)
        return share

    def settle(self, port: str, mw: int) -> None:
        """``port`` needs no more than ``mw`` of what was promised. ``ValueError`` for more than that."""
        if mw > self.of(port):
            raise ValueError(f"port {port}: {mw} mW were never promised")
        if mw:
            self._promised[port] = mw
        else:
            self._promised.pop(port, None)
            self._bursts.pop(port, None)

    def begin_burst(self, port: str, mw: int) -> bool:
        """Keep ``mw`` on top ready for a moment; False where there is not so much."""
        spare = self.spare_mw
        if spare is not None and mw > spare:
            return False
        self._bursts[port] = self._bursts.get(port, 0) + mw
        return True

    def end_burst(self, port: str, mw: int) -> None:
        """The moment is over."""
        if port in self._bursts:
            self._bursts[port] -= mw
            if self._bursts[port] <= 0:
                del self._bursts[port]
