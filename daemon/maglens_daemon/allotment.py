# SPDX-License-Identifier: GPL-2.0-or-later
"""Allotment: what is promised to which session, and what may be offered to a newcomer."""

from __future__ import annotations

from collections.abc import Callable

from maglens_daemon import budget
from maglens_daemon.config import PowerConfig
from maglens_daemon.port import SUPPLY_MV, UNCONFIGURED_MA
from maglens_daemon.session import Session, SessionState


class Allotment:
    """One per daemon, in the event loop's thread. ``power`` gives the configuration as it is now."""

    def __init__(self, power: Callable[[], PowerConfig]) -> None:
        self._power = power
        self._reserved: dict[Session, int] = {}  # mW

    @property
    def granted_mw(self) -> int:
        """Power promised to all modules together, mW."""
        return budget.granted(self._reserved.values())

    def promised_mw(self, session: Session) -> int:
        """What one session was offered or holds, mW; 0 before."""
        return self._reserved.get(session, 0)

    def reserve(self, session: Session) -> int:
        """See :class:`session.Host`."""
        standing = [
            budget.Ask(other.port.path, mw, mw, other.port.priority)
            for other, mw in self._reserved.items()
            if other is not session and mw
        ]
        limit = session.port.limit_mw
        least = min(limit, SUPPLY_MV * UNCONFIGURED_MA // 1000)
        spare = self._power().budget_mw
        if spare is not None:  # what stands is promised; a newcomer shares what is left
            spare = max(0, spare - sum(ask.most_mw for ask in standing))
        limits = budget.Limits(spare, {session.port.path: limit})
        share = budget.allot(limits, [budget.Ask(session.port.path, least, limit, session.port.priority)])
        self._reserved[session] = share[session.port.path]
        return share[session.port.path]

    def changed(self, session: Session) -> None:
        """Its state changed: what stands is its contract, and nothing after its end."""
        if session.contract is not None:
            self._reserved[session] = session.contract.mw
        elif session.state.is_end or session.state is SessionState.ATTACH:
            self.forget(session)

    def forget(self, session: Session) -> None:
        """Its stay has ended."""
        self._reserved.pop(session, None)
