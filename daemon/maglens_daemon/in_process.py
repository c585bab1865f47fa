# SPDX-License-Identifier: GPL-2.0-or-later
"""In process: virtual modules that snap onto the manager without USB, for the preview and for tests.

Everything above the USB line is the real thing: session, contract, policy, pipeline.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from maglens_daemon.contract import Contract, negotiate
from maglens_daemon.session import Session
from maglens_driver.errors import Gone
from maglens_driver.link.descriptor import PowerNeeds
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo
from maglens_driver.source import Source
from maglens_driver.virtual.source import VirtualSource

SPEED_MBIT_S: Final = 10_000


class VirtualSink:
    """The module's part of a power contract: takes the largest offer, as much of it as it needs."""

    def __init__(self, needs: PowerNeeds) -> None:
        self._needs = needs
        self._answers: deque[PdMessage] = deque()
        self.contract: Rdo | None = None
        self.is_powered = False

    def power_send(self, message: PdMessage) -> None:
        """From the host."""
        if message.type is PdType.SOURCE_CAPABILITIES:
            offers = [FixedPdo.unpack(raw) for raw in message.objects]
            best = max(range(len(offers)), key=lambda i: offers[i].mw)
            wanted_ma = -(-self._needs.peak_mw * 1000 // offers[best].mv // 10) * 10
            current = min(wanted_ma, offers[best].ma)
            self.contract = Rdo(best + 1, current, current, capability_mismatch=current < wanted_ma)
            self._answers.append(PdMessage(PdType.REQUEST, 0, (self.contract.pack(),)))
        elif message.type is PdType.PS_RDY:
            self.is_powered = True

    def power_receive(self) -> PdMessage | None:
        """To the host."""
        return self._answers.popleft() if self._answers else None


class VirtualVisitor:
    """A virtual module in this process. :meth:`unplug` pulls it off; the manager is told apart from it."""

    kind = "module"

    def __init__(self, source: VirtualSource) -> None:
        self.source = source
        self.sink = VirtualSink(source.descriptor.power)
        self._added_ns = time.monotonic_ns()
        self._gone = asyncio.Event()

    @property
    def added_ns(self) -> int:
        """When it was made."""
        return self._added_ns

    def admit(self) -> None:
        """It draws nothing."""

    async def open(self) -> Source:
        """It is already there."""
        return self.source

    async def agree(self, source: Source, offered: Sequence[FixedPdo]) -> Contract | None:
        """The real negotiation with :class:`VirtualSink`; nothing of it waits."""
        return negotiate(self.sink, offered)

    async def attend(self, source: Source, session: Session) -> None:
        """Nothing to tell but the end."""
        await self._gone.wait()
        raise Gone(f"{session.label} was unplugged")

    async def standby(self, source: Source) -> bool:
        """It has nothing to switch off."""
        return False

    def unplug(self) -> None:
        """Pull it off, as a hand does."""
        self.source.unplug()
        self._gone.set()
