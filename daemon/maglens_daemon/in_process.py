# SPDX-License-Identifier: GPL-2.0-or-later
"""In process: virtual modules that snap onto the manager without USB, for the preview and for tests.

Everything above the USB line is the real thing: session, contract, policy, pipeline.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from maglens_daemon.contract import Contract
from maglens_daemon.conversation import pausing
from maglens_daemon.power_feed import Begin
from maglens_daemon.session import Session
from maglens_driver.errors import Gone, WrongState
from maglens_driver.gadget.power import Sink
from maglens_driver.link.pd import PdMessage
from maglens_driver.source import Source
from maglens_driver.virtual.source import VirtualSource

SPEED_MBIT_S: Final = 10_000


class SinkLink:
    """Carries power messages to a module's side in this process."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def power_send(self, message: PdMessage) -> None:
        """From the host. The bytes go along, as on the wire."""
        if not self.sink.receive(PdMessage.unpack(message.pack(source=True))):
            raise WrongState("the module refused POWER_SEND: wrong state")

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
        prices = [mode.mw for mode in source.modes]
        self.sink = Sink(max(prices), min(prices), peak_mw=needs.peak_mw)
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

    def tell_apart(self, source: Source, place: str) -> bool:
        """Never."""
        return False

    async def converse(self, source: Source, begin: Begin) -> Contract | None:
        """The real negotiation with the gadget's own sink."""
        return await pausing(begin(SinkLink(self.sink), asyncio.get_running_loop().time))

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
