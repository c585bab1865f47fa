# SPDX-License-Identifier: GPL-2.0-or-later
"""Visitor: what a session needs of what has come to its port; ``visitors.py`` has those there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from maglens_daemon.contract import Contract
from maglens_daemon.power_feed import Begin
from maglens_daemon.seat import Seat
from maglens_driver.source import Source

if TYPE_CHECKING:
    from maglens_daemon.session import Session


class Visitor(Protocol):
    """What has come to a port, before it is opened; one implementation per kind of source."""

    @property
    def kind(self) -> str:
        """``module``, ``v4l2`` or ``libcamera``."""
        ...

    @property
    def added_ns(self) -> int:
        """CLOCK_MONOTONIC when it was detected."""
        ...

    @property
    def snapped(self) -> bool:
        """Whether a person put it there, as modules are: such a one is preferred to what is built in."""
        ...

    @property
    def by_id(self) -> str:
        """udev's name for it under /dev/v4l/by-id; empty for what has none."""
        ...

    @property
    def needs_power(self) -> bool:
        """Whether a contract has to be made: False for what the port feeds anyway."""
        ...

    @property
    def seat(self) -> Seat | None:
        """None where USB's connect is the detect, and nobody but USB feeds it."""
        ...

    @property
    def patience(self) -> int:
        """How many times longer than a module's its calls may take."""
        ...

    def admit(self) -> None:
        """Raises ``BadModule`` when it may not even be talked to (it draws too much without a contract)."""
        ...

    async def open(self) -> Source:
        """Identify it."""
        ...

    def tell_apart(self, source: Source, place: str) -> bool:
        """Another one has its identity: add to it the ``place`` where it sits. False where an identity is the maker's
        word, and two of one are a fault."""
        ...

    async def converse(self, source: Source, begin: Begin) -> Contract | None:
        """Carry on a conversation about power; only where :attr:`needs_power`."""
        ...

    async def attend(self, source: Source, session: Session) -> None:
        """Pass on what the source tells by itself, until it is cancelled or gone."""
        ...

    async def standby(self, source: Source) -> bool:
        """Save power while nobody watches; False where the kind cannot."""
        ...
