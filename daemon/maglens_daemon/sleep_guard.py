# SPDX-License-Identifier: GPL-2.0-or-later
"""Sleep guard: holds the system's sleep up until the streams are parked (systemd.io/INHIBITOR_LOCKS).

logind hands out a file descriptor: as long as it is open, sleep waits, five seconds at most. It is taken again after
every sleep, and whenever logind comes: the bus tells who owns its name. Any user may send any signal straight to us,
past our match rules: one counts only by its sender, which the bus vouches for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Final

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from maglens_driver.errors import MaglensError

log = logging.getLogger(__name__)

LOGIND: Final = "org.freedesktop.login1"
_PATH: Final = "/org/freedesktop/login1"
_MANAGER: Final = "org.freedesktop.login1.Manager"
_DBUS: Final = "org.freedesktop.DBus"
_DBUS_PATH: Final = "/org/freedesktop/DBus"
_SLEEP: Final = "PrepareForSleep"
_OWNER: Final = "NameOwnerChanged"
_MATCH_SLEEP: Final = f"type='signal',sender='{LOGIND}',interface='{_MANAGER}',member='{_SLEEP}'"
_MATCH_OWNER: Final = f"type='signal',sender='{_DBUS}',interface='{_DBUS}',member='{_OWNER}',arg0='{LOGIND}'"
_INHIBIT: Final = ("sleep", "maglens", "camera streams are parked", "delay")
_AGAIN_S: Final = 5.0  # after a defect of ours


class SleepGuard:
    """A part of the bus (:class:`system_bus.Part`). ``park`` ends the streams, ``unpark`` lets them go on; both are
    awaited."""

    def __init__(self, park: Callable[[], Awaitable[None]], unpark: Callable[[], Awaitable[None]]) -> None:
        self._park = park
        self._unpark = unpark
        self._lock: int | None = None
        self._parked = False
        self._logind: str | None = None  # its connection's name; empty while there is none, None before it is known

    @property
    def holds(self) -> bool:
        """Whether a sleep would wait for us."""
        return self._lock is not None

    async def serve(self, bus: MessageBus) -> None:
        """Guard whenever there is a logind on ``bus``; the rest of the service does not depend on it."""
        while True:
            try:
                await self._guard(bus)
            except OSError:
                raise
            except Exception as error:
                log.exception("the sleep guard failed")
                await self.lost(str(error))
            await asyncio.sleep(_AGAIN_S)

    async def _guard(self, bus: MessageBus) -> None:
        told: asyncio.Queue[Message] = asyncio.Queue()  # by logind and the bus alone, who say little
        self._logind = None

        def hear(message: Message) -> None:
            if self._is_of_bus(message):
                self._logind = message.body[2]
                told.put_nowait(message)
            elif self._is_of_logind(message):
                told.put_nowait(message)

        bus.add_message_handler(hear)
        try:
            await self._match(bus, _MATCH_OWNER)
            await self._look_for_logind(bus)
            await self._match(bus, _MATCH_SLEEP)
            await self._take(bus)
            while True:
                await self._hear(bus, await told.get())
        finally:
            bus.remove_message_handler(hear)
            self._drop()

    async def _match(self, bus: MessageBus, rule: str) -> None:
        try:
            await _call(bus, _DBUS, _DBUS_PATH, _DBUS, "AddMatch", "s", rule)
        except MaglensError as error:
            raise ConnectionResetError(str(error)) from error

    async def _look_for_logind(self, bus: MessageBus) -> None:
        """Who is logind now. What the bus tells meanwhile is newer than its answer."""
        try:
            owner = (await _call(bus, _DBUS, _DBUS_PATH, _DBUS, "GetNameOwner", "s", LOGIND)).body[0]
        except MaglensError:
            owner = ""  # :meth:`_take` tells
        if self._logind is None:
            self._logind = owner

    @staticmethod
    def _is_of_bus(message: Message) -> bool:
        """Whether the bus says who is logind."""
        return (
            message.message_type is MessageType.SIGNAL
            and (message.sender, message.path, message.interface) == (_DBUS, _DBUS_PATH, _DBUS)
            and (message.member, message.signature) == (_OWNER, "sss")
            and message.body[0] == LOGIND
        )

    def _is_of_logind(self, message: Message) -> bool:
        """Whether logind says that the system goes to sleep, or is awake."""
        return (
            message.message_type is MessageType.SIGNAL
            and bool(self._logind)
            and (message.sender, message.path, message.interface) == (self._logind, _PATH, _MANAGER)
            and (message.member, message.signature) == (_SLEEP, "b")
        )

    async def _hear(self, bus: MessageBus, message: Message) -> None:
        if message.member == _OWNER:
            if message.body[2]:
                await self._take(bus)
            else:
                self._drop()
                await self.lost("it has left the bus")
        elif message.body[0]:
            log.info("the system goes to sleep: streams are parked")
            self._parked = True
            await self._park()
            self._drop()
        else:
            log.info("the system is awake")
            await self._go_on()
            await self._take(bus)

    async def lost(self, why: str) -> None:
        """There is no bus, or no logind on it."""
        if self._parked:  # nobody will say now that the system is awake
            log.warning("logind has gone while the streams were parked: %s; they go on", why)
            await self._go_on()

    async def _go_on(self) -> None:
        self._parked = False
        await self._unpark()

    async def _take(self, bus: MessageBus) -> None:
        """A lock in place of the one there was; without a logind there is none until it comes."""
        try:
            reply = await _call(bus, LOGIND, _PATH, _MANAGER, "Inhibit", "ssss", *_INHIBIT)
        except MaglensError as error:
            log.info("no logind: %s; streams are not parked before the system sleeps", error)
            self._drop()
            return
        self._drop()
        self._lock = reply.unix_fds[reply.body[0]]

    def _drop(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


async def _call(
    bus: MessageBus, name: str, path: str, interface: str, member: str, signature: str, *body: str
) -> Message:
    reply = await bus.call(
        Message(destination=name, path=path, interface=interface, member=member, signature=signature, body=list(body))
    )
    if reply is None or reply.message_type is MessageType.ERROR:
        raise MaglensError(f"{member}: {reply.body[0] if reply and reply.body else 'no answer'}")
    return reply
