# SPDX-License-Identifier: GPL-2.0-or-later
"""In process: virtual modules that snap onto the manager without USB, for the preview and for tests.

Everything above the USB line is the real thing: session, contract, policy, pipeline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from maglens_daemon.contract import Contract, negotiate
from maglens_daemon.session import Session
from maglens_driver.errors import Gone
from maglens_driver.gadget.power import Sink
from maglens_driver.link.pd import FixedPdo, PdMessage
from maglens_driver.source import Source
from maglens_driver.virtual.source import VirtualSource

SPEED_MBIT_S: Final = 10_000


class SinkLink:
    """Carries power messages to a module's side in this process."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def power_send(self, message: PdMessage) -> None:
        """From the host. The bytes go along, as on the wire."""
        self.sink.receive(PdMessage.unpack(message.pack(source=True)))

    def power_receive(self) -> PdMessage | None:
        """To the host."""
        message = self.sink.take()
        return None if message is None else PdMessage.unpack(message.pack(source=False))


class VirtualVisitor:
    """A virtual module in this process. :meth:`unplug` pulls it off; the manager is told apart from it."""

    kind = "module"
    needs_power = True
    snapped = True
    by_id = ""
    seat = None
    patience = 1

    def __init__(self, source: VirtualSource) -> None:
        self.source = source
        needs = source.descriptor.power
        self.sink = Sink(needs.peak_mw, needs.standby_mw)
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
        """The real negotiation with the gadget's own sink; nothing of it waits."""
        return negotiate(SinkLink(self.sink), offered)

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
