# SPDX-License-Identifier: GPL-2.0-or-later
"""Allotment: shares the board's power out among the stays, and keeps to it when the board can spare less.

Whatever changes (a stay comes or goes, the battery sags, the configuration is another) only wakes :meth:`run`. It
works out everyone's share (:func:`budget.allot`), takes from those who have more, each once its stream has stepped
down to a mode that the share carries, and gives to those who have less once there is enough for them. Each talk with
a module is a task of its own. What is promised at any time is in the :class:`budget.Ledger`, which lets nobody have
more than there is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from maglens_daemon import budget
from maglens_daemon.background import Background
from maglens_daemon.power_policy import Condition, Level
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_daemon.supply import DEFAULT_MW
from maglens_driver.errors import Gone, Refused
from maglens_driver.link import limits

log = logging.getLogger(__name__)

STEP_DOWN_S: Final = 2.0  # for a stream to give way to a cheaper one; then the contract shrinks all the same
BURST_WAIT_S: Final = 2.0  # for another module's motors to come to rest
_STEP_MW: Final = 50  # an offer's 10 mA at 5 V


@dataclass(frozen=True, slots=True)
class Needs:
    """mW: the cheapest mode, the most the module ever draws (never over its port's limit), and its standby, which is
    no less than an offer can say."""

    least_mw: int
    most_mw: int
    standby_mw: int


@dataclass(slots=True)
class _Stay:
    """What is kept of one. ``offered_mw``: last; ``squeezed``: its contract is the least of what it asked for;
    ``movers``: how many writes are telling its motors to move."""

    needs: Needs
    offered_mw: int = 0
    squeezed: bool = False
    burst_mw: int = 0
    movers: int = 0
    burst_end: asyncio.TimerHandle | None = None


def needs_of(session: Session) -> Needs:
    """What an identified session needs; a source that says nothing gets what its port allows."""
    source, limit = session.source, session.port.limit_mw
    prices = [mode.mw for mode in source.modes] if source is not None else []
    descriptor = getattr(source, "descriptor", None)
    most = max(descriptor.power.peak_mw, *prices, 0) if descriptor is not None else limit
    standby = max(descriptor.power.standby_mw, _STEP_MW) if descriptor is not None else limit
    return Needs(_up(min(prices, default=standby)), min(_up(most), limit), standby)


class Allotment:
    """One per daemon, in the event loop's thread. ``condition`` gives what the board can spare now, ``reconsider``
    has the directors look again."""

    def __init__(self, condition: Callable[[], Condition], reconsider: Callable[[], None]) -> None:
        self.ledger = budget.Ledger()
        self._condition = condition
        self._reconsider = reconsider
        self._stays: dict[Session, _Stay] = {}
        self._turn = asyncio.Event()
        self._stepped = asyncio.Event()
        self._rested = asyncio.Event()  # a burst has ended, or there may be power for one for another reason
        self._background = Background()
        self._talking: set[Session] = set()  # those whose power is being changed, one talk at a time
        self._lowering: set[Session] = set()  # of those the ones that are to give back ...
        self._missed: set[Session] = set()  # ... for which there was a turn meanwhile
        self._late: set[Session] = set()  # ... for which others have given something back meanwhile

    @property
    def granted_mw(self) -> int:
        """Power promised to all modules together, mW."""
        return self.ledger.promised_mw

    @property
    def count(self) -> int:
        """Stays that something was asked for."""
        return len(self._stays)

    def limit_mw(self, session: Session) -> int:
        """What its port lets through now: the contract, motors at work on top; at standby what it then may draw."""
        stay, feed = self._stays.get(session), session.feed
        if feed is None:
            return min(session.port.limit_mw, DEFAULT_MW)
        if stay is not None and session.state is SessionState.STANDBY:
            return min(feed.supply.limit_mw, stay.needs.standby_mw) + stay.burst_mw
        return feed.supply.limit_mw + (stay.burst_mw if stay is not None else 0)

    # For the sessions (host.Host).

    def reserve(self, session: Session) -> int:
        """See :class:`host.Host`."""
        stay = self._stays[session] = _Stay(needs_of(session))
        self.ledger.total_mw = self._condition().budget_mw
        share = self._shares()[_key(session)]
        stay.offered_mw = self._promise(session, share)
        if not stay.offered_mw:
            self._note(session, 0)
        if stay.offered_mw < share:
            self.wake()  # others have to give way first
        return stay.offered_mw

    def changed(self, session: Session) -> None:
        """Its state or contract changed: what stands is its contract, and nothing after its end."""
        self._stepped.set()
        if session.state.is_end or session.state is SessionState.ATTACH:
            self.forget(session)
        elif session in self._stays and session.feed is not None and session.feed.is_settled:
            before, now = self.ledger.of(_key(session)), session.contract.mw if session.contract is not None else 0
            if now < before:
                self.ledger.settle(_key(session), now)
                # At once, lest it asks for what it had before :meth:`run` gets to it: that is promised no more.
                supply = session.feed.supply
                supply.ceiling_mw = self.ledger.ceiling(_key(session), supply.limit_mw)
                self._rested.set()
                self.wake()  # there is more for the others

    def forget(self, session: Session) -> None:
        """Its stay has ended."""
        if self._stays.pop(session, None) is not None:
            self.ledger.settle(_key(session), 0)
            self._rested.set()
            self.wake()

    @asynccontextmanager
    async def burst(self, session: Session) -> AsyncIterator[None]:
        """Have power ready while motors move: before they are told to, and ``limits.BURST_S`` after they were.
        Raises ``Refused("POWER")`` where there is none for them within ``BURST_WAIT_S``, and ``Gone``."""
        stay, contract = self._stays.get(session), session.contract
        if stay is None or contract is None or not contract.burst_mw:
            yield  # nothing more to be had
            return
        if not stay.burst_mw:
            await self._begin_burst(session, stay, contract.burst_mw)
        stay.movers += 1
        try:
            yield
        finally:
            stay.movers -= 1
            if stay.burst_end is not None:
                stay.burst_end.cancel()  # this movement ends later than the one before
            stay.burst_end = asyncio.get_running_loop().call_later(limits.BURST_S, self._end_burst, session, stay)

    async def _begin_burst(self, session: Session, stay: _Stay, mw: int) -> None:
        try:
            async with asyncio.timeout(BURST_WAIT_S):
                while not stay.burst_mw and not self.ledger.begin_burst(_key(session), mw):
                    self._rested.clear()
                    await self._rested.wait()
                    if self._stays.get(session) is not stay:
                        raise Gone(f"{session.label} left before its motors were moved")
        except TimeoutError:
            raise Refused("POWER", "there is no power for its motors now", hint="maglens status") from None
        stay.burst_mw = mw

    def _end_burst(self, session: Session, stay: _Stay) -> None:
        stay.burst_end = None
        if stay.movers:
            return  # one more is being told to move; its end is the burst's
        if self._stays.get(session) is stay:
            self.ledger.end_burst(_key(session), stay.burst_mw)
        stay.burst_mw = 0
        self._rested.set()
        self.wake()

    # The work.

    def wake(self) -> None:
        """Something changed."""
        self._turn.set()

    async def run(self) -> None:
        """Keep everyone to their share; runs until cancelled."""
        try:
            while True:
                await self._turn.wait()
                self._turn.clear()
                self._plan()
        finally:
            for task in self._background.tasks:
                task.cancel()
            await asyncio.gather(*self._background.tasks, return_exceptions=True)

    def _plan(self) -> None:
        """Begin what each stay needs; one that is slow to answer holds up nobody else."""
        self.ledger.total_mw = self._condition().budget_mw
        self._rested.set()
        for session, stay in self._stays.items():
            stay.needs = needs_of(session)  # its port may give more or less than before
            if session.feed is not None:
                supply = session.feed.supply
                supply.ceiling_mw = self.ledger.ceiling(_key(session), supply.limit_mw)
        shares = self._shares()
        for session in self._present():
            share = shares[_key(session)]
            if session in self._talking:
                self._missed.add(session)
            elif self._has_more(session, share):
                self._lowering.add(session)
                self._begin(session, partial(self._lower, session, share))
        self._plan_raises()

    def _plan_raises(self) -> None:
        """What those who have more are still to give back is waited for, rather than given in two helpings."""
        shares = self._shares()
        for session in self._present():
            if session in self._talking:
                self._late.add(session)
            else:
                self._consider(session, shares[_key(session)])

    def _begin(self, session: Session, talk: Callable[[], Awaitable[None]]) -> None:
        self._talking.add(session)
        self._background.begin(self._talk(session, talk), f"power-{session.port.path}")

    async def _talk(self, session: Session, talk: Callable[[], Awaitable[None]]) -> None:
        try:
            await talk()
        except Exception:
            # A defect of ours met by one module: the others' shares do not depend on it.
            log.exception("%s: %s: unexpected error", session.label, "power", extra=session.log_fields())
        missed, late, lowering = session in self._missed, session in self._late, session in self._lowering
        for group in (self._talking, self._lowering, self._missed, self._late):
            group.discard(session)
        if missed:
            self.wake()
        elif lowering:
            self._plan_raises()
        elif late and session in self._present():
            self._consider(session, self._shares()[_key(session)])

    def _present(self) -> list[Session]:
        return [s for s in self._stays if s.is_playable and s.feed is not None]

    def _shares(self) -> dict[str, int]:
        condition, asks = self._condition(), []
        for session, stay in self._stays.items():
            needs = stay.needs
            most = needs.most_mw if condition.level is Level.NORMAL else needs.least_mw
            if condition.level is not Level.CRITICAL:
                asks.append(budget.Ask(_key(session), needs.least_mw, most, session.port.priority))
        ports = {_key(session): session.port.limit_mw for session in self._stays}
        shares = dict.fromkeys(ports, 0)
        shares.update(budget.allot(budget.Limits(condition.budget_mw, ports), asks))
        return shares

    def _target(self, session: Session, share: int) -> int:
        """Standby power where its share is nothing."""
        return share or min(self._stays[session].needs.standby_mw, limits.MAX_STANDBY_MW)

    def _has_more(self, session: Session, share: int) -> bool:
        return session.contract is not None and session.contract.mw > max(self._target(session, share), _STEP_MW)

    async def _lower(self, session: Session, share: int) -> None:
        """Down to ``share``; to standby power where that is nothing."""
        stay, contract = self._stays.get(session), session.contract
        if stay is None or contract is None:
            return  # it has left since the shares were worked out
        target = self._target(session, share)
        session.restraint.mw = target
        self._note(session, share)
        log.warning(
            "%s: squeezed from %d to %d mW: %s",
            session.label,
            contract.mw,
            target,
            session.restraint.power_note,
            extra=session.log_fields(),
        )
        self._reconsider()
        await self._wait_for_step(session, target)
        if not share:
            await session.rest()  # it is to live on standby power
        if share and contract.least_mw < contract.operating_mw and contract.least_mw >= share - _STEP_MW:
            stay.squeezed = True
            await session.squeeze()
        else:
            stay.offered_mw = _up(target)
            await session.offer_power(stay.offered_mw)

    async def _wait_for_step(self, session: Session, target: int) -> None:
        """Until its stream, if there is one, draws no more than ``target``."""
        try:
            async with asyncio.timeout(STEP_DOWN_S):
                while session.state is SessionState.STREAMING and session.mode and session.mode.mw > target:
                    self._stepped.clear()
                    await self._stepped.wait()
        except TimeoutError:
            log.warning("%s: its stream did not step down in time", session.label, extra=session.log_fields())

    def _consider(self, session: Session, share: int) -> None:
        """Up to ``share``, where it has less than it wants."""
        stay, contract, feed = self._stays[session], session.contract, session.feed
        if feed is None or not share:
            return
        declared = feed.supply.declared_mw or 0
        unmet = contract is None or contract.mismatch or stay.squeezed
        unmet = unmet or (contract is not None and not contract.burst_mw and contract.mw < declared <= share)
        if not unmet or (share <= stay.offered_mw and not stay.squeezed and contract is not None):
            self._free(session, share)
            return
        if stay.squeezed and contract is not None and share <= contract.mw + _STEP_MW:
            return  # the least is all there is
        spare = self.ledger.spare_mw
        if self._lowering and spare is not None and share > self.ledger.of(_key(session)) + spare:
            return
        got = self._promise(session, share)
        if not got or (contract is not None and got <= contract.mw):
            return
        stay.offered_mw, stay.squeezed = got, False
        supply = feed.supply
        supply.ceiling_mw = self.ledger.ceiling(_key(session), supply.limit_mw)
        self._begin(session, partial(self._raise, session, got, share))

    async def _raise(self, session: Session, mw: int, share: int) -> None:
        await session.offer_power(mw)
        self._free(session, share)

    def _free(self, session: Session, share: int) -> None:
        """Its contract alone says what it may have, unless it is less than it could use, or more than its share."""
        if self._has_more(session, share):
            return  # it was asked to give back, and has not
        if session.restraint.mw is None and not session.restraint.power_note:
            return
        session.restraint.mw = None
        contract = session.contract
        if contract is not None and not contract.mismatch:
            session.restraint.power_note = ""
        self._reconsider()

    def _promise(self, session: Session, share: int) -> int:
        """No less than can be offered."""
        least = max(min(self._stays[session].needs.least_mw, share), _STEP_MW)
        return self.ledger.reserve(_key(session), least, share)

    def _note(self, session: Session, share: int) -> None:
        condition = self._condition()
        why = condition.reason or "the budget is promised to others"
        what = "it gets less power" if share else "it gets standby power only"
        if session.contract is None:
            what = "no power is left for it"
        session.restraint.power_note = f"{what}: {why}"


def _key(session: Session) -> str:
    return str(session.id)


def _up(mw: int) -> int:
    """Rounded up to what an offer can say."""
    return -(-mw // _STEP_MW) * _STEP_MW
