# SPDX-License-Identifier: GPL-2.0-or-later
"""System bus: the one connection that parts of the service share, made whenever there is a bus."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final, Protocol

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, DBusError, InvalidAddressError

log = logging.getLogger(__name__)

RETRY_S: Final = 5.0  # where there is no bus: nobody would tell of one
# What connecting raises where there is none for us.
NO_BUS: Final = (OSError, EOFError, AuthError, InvalidAddressError)


class Part(Protocol):
    """Who needs the bus."""

    async def serve(self, bus: MessageBus) -> None:
        """Do its work on a bus that has come, until cancelled. What it raises ends the service, but for ``OSError``:
        the bus has gone."""
        ...

    async def lost(self, why: str) -> None:
        """There is none, or none any more."""
        ...


async def connect(address: str | None = None) -> MessageBus:
    """The system bus, or that of a test. Raises one of :data:`NO_BUS`."""
    return await MessageBus(address, BusType.SYSTEM, negotiate_unix_fd=True).connect()


class SystemBus:
    """``address``: another bus."""

    def __init__(self, *parts: Part, address: str | None = None) -> None:
        self._parts = parts
        self._address = address

    async def run(self) -> None:
        """Until cancelled, or until a part fails."""
        told = False
        while True:
            try:
                bus = await connect(self._address)
                told = False
                await self._serve(bus)
                why = "it has gone"
            except (*NO_BUS, DBusError) as error:
                why = str(error)
            if not told:
                log.warning("no system bus: %s; `maglens status` cannot reach this service", why)
            told = True
            for part in self._parts:
                await part.lost(why)
            await asyncio.sleep(RETRY_S)

    async def _serve(self, bus: MessageBus) -> None:
        """While it is there."""
        bus.add_message_handler(
            _close_descriptors
        )  # before the parts': those may keep what they answer to themselves
        tasks = [asyncio.ensure_future(part.serve(bus)) for part in self._parts]
        tasks.append(asyncio.ensure_future(bus.wait_for_disconnect()))  # type: ignore[no-untyped-call]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            bus.disconnect()


def _close_descriptors(message: Message) -> None:
    """Any user may send us descriptors; none but those in the answers to our own calls are for anybody."""
    if message.message_type in (MessageType.SIGNAL, MessageType.METHOD_CALL):
        for descriptor in message.unix_fds:
            os.close(descriptor)
