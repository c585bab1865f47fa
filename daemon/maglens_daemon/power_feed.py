# SPDX-License-Identifier: GPL-2.0-or-later
"""Power feed: one stay's power at run time: its supply, and one conversation about it at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from maglens_daemon import conversation
from maglens_daemon.contract import Contract
from maglens_daemon.conversation import Clock, PowerLink, Talk
from maglens_daemon.port import offers
from maglens_daemon.supply import Supply
from maglens_driver.errors import Deadline
from maglens_driver.link.pd import FixedPdo

TRIES: Final = 2  # the second one begins with a Soft_Reset
TALK_S: Final = 5.0  # a whole conversation, each answer within its own limit

Begin = Callable[[PowerLink, Clock], Talk]
"""Makes a conversation over a link, by the clock of whoever pauses in it."""

Late = Callable[[Exception], None]


class PowerFeed:
    """All calls in the event loop's thread. ``carry`` carries a conversation on in the thread of the module's
    requests.

    Every coroutine raises ``Deadline`` when the module does not answer even after a Soft_Reset, ``Refused("POWER")``
    when there is no contract, ``BadModule`` (``pd_*``) and what the link raises.
    """

    def __init__(self, carry: Callable[[Begin], Awaitable[Contract | None]], declared_mw: int | None) -> None:
        self.supply = Supply(declared_mw)
        self._carry = carry
        self._lock = asyncio.Lock()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way, and both ends know where they stand."""
        return self.supply.is_settled and not self._lock.locked()

    async def agree(self, offered: Sequence[FixedPdo], late: Late) -> Contract | None:
        """A contract about ``offered``, tried :data:`TRIES` times; ``late`` hears of a try that got no answer."""
        async with self._lock:
            return await self._talk(self._about(offered), offered, late)

    async def squeeze(self, late: Late) -> Contract | None:
        """GotoMin; where that gets no answer, a contract about the least. Raises ``WrongState`` where the contract
        leaves nothing to squeeze."""

        def begin(link: PowerLink, clock: Clock) -> Talk:
            return conversation.converse(link, self.supply, self.supply.squeeze(), clock=clock)

        async with self._lock:
            contract = self.supply.contract
            return await self._talk(begin, offers(contract.least_mw) if contract is not None else (), late)

    async def hear(self, late: Late) -> Contract | None:
        """The module says that a power message waits: fetch it and answer. Where that fails in time, a contract about
        what it was offered last."""

        def begin(link: PowerLink, clock: Clock) -> Talk:
            return conversation.hear(link, self.supply, clock=clock)

        async with self._lock:
            return await self._talk(begin, self.supply.offered, late)

    def _about(self, offered: Sequence[FixedPdo]) -> Begin:
        return lambda link, clock: conversation.agree(link, self.supply, offered, clock=clock)

    async def _talk(self, begin: Begin, offered: Sequence[FixedPdo], late: Late) -> Contract | None:
        """``begin``, and after no answer an agreement about ``offered``, with the lock held."""
        for left in reversed(range(TRIES)):
            try:
                return await self._within(begin)
            except Deadline as why:
                if left == 0:
                    raise Deadline(
                        f"no power contract after {TRIES} tries: {why}", hint="lift it off and snap it on again"
                    ) from why
                self.supply.fail()  # an agreement begins with a Soft_Reset then
                begin = self._about(offered)
                late(why)
        raise AssertionError("the last try returns or raises")

    async def _within(self, begin: Begin) -> Contract | None:
        try:
            async with asyncio.timeout(TALK_S):
                return await self._carry(begin)
        except TimeoutError as why:
            self.supply.fail()
            raise Deadline("it takes too long") from why
