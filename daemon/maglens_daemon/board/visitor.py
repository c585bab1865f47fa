# SPDX-License-Identifier: GPL-2.0-or-later
"""BoardVisitor: a module on a port that a keeper watches: it can reset, lose its power and come back in one stay."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from maglens_daemon.contract import Contract
from maglens_daemon.power_feed import Begin
from maglens_driver.errors import WrongState
from maglens_driver.source import Source

if TYPE_CHECKING:
    from maglens_daemon.board.keeper import Keeper
    from maglens_daemon.session import Session
    from maglens_daemon.visitor import Visitor


class BoardVisitor:
    """Hands on to the visitor that USB has made, once there is one."""

    kind = "module"
    needs_power = True
    snapped = True
    by_id = ""
    patience = 1

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._module: Visitor | None = None
        self._added_ns = time.monotonic_ns()

    @property
    def added_ns(self) -> int:
        """When it was seated, or was last seen on USB."""
        return self._module.added_ns if self._module is not None else self._added_ns

    @property
    def module(self) -> Visitor:
        """What is on USB; ``WrongState`` before :meth:`taken`."""
        if self._module is None:
            raise WrongState(f"nothing was on USB at port {self._keeper.label} yet")
        return self._module

    @property
    def seat(self) -> Self:
        """It is its own."""
        return self

    async def taken(self) -> None:
        """Power, USB, and all that may go wrong meanwhile."""
        self._module = await self._keeper.seat()

    def again(self, why: Exception) -> bool:
        """The board decides."""
        return self._keeper.again(why)

    def reopen(self) -> None:
        """If it is still on USB then."""
        self._keeper.reopen()

    def refused(self) -> None:
        """Power goes."""
        self._keeper.refused()

    def admit(self) -> None:
        """See :class:`maglens_daemon.visitor.Visitor`."""
        self.module.admit()

    async def open(self) -> Source:
        """See :class:`maglens_daemon.visitor.Visitor`."""
        return await self.module.open()

    def tell_apart(self, source: Source, place: str) -> bool:
        """See :class:`maglens_daemon.visitor.Visitor`."""
        return self.module.tell_apart(source, place)

    async def converse(self, source: Source, begin: Begin) -> Contract | None:
        """See :class:`maglens_daemon.visitor.Visitor`."""
        return await self.module.converse(source, begin)

    async def attend(self, source: Source, session: Session) -> None:
        """See :class:`maglens_daemon.visitor.Visitor`."""
        await self.module.attend(source, session)

    async def standby(self, source: Source) -> bool:
        """See :class:`maglens_daemon.visitor.Visitor`."""
        return await self.module.standby(source)
