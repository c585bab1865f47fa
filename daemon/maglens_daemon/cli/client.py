# SPDX-License-Identifier: GPL-2.0-or-later
"""Client: the service as the command line sees it, over D-Bus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from dbus_fast import BusType, Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus

from maglens_daemon.errors import ConfigError, Denied, NotFound, Unavailable
from maglens_daemon.object_path import module_path
from maglens_daemon.system_bus import NO_BUS
from maglens_driver import names
from maglens_driver.errors import Deadline, Gone, MaglensError, WrongState

if TYPE_CHECKING:
    from maglens_daemon.status import Status

START_BUS: Final = "sudo systemctl start dbus.socket"
REPLY_S: Final = 30.0  # the service may have to be started first
_BUS: Final = "org.freedesktop.DBus"
_NOT_THERE: Final = frozenset(
    f"{_BUS}.Error.{name}"
    for name in ("ServiceUnknown", "NameHasNoOwner", "NoReply", "Spawn.ChildExited", "Spawn.Failed")
)
_KINDS: Final[dict[str, Callable[..., MaglensError]]] = {
    f"{names.BUS_NAME}.Error.NotFound": NotFound,
    f"{names.BUS_NAME}.Error.Gone": Gone,
    f"{names.BUS_NAME}.Error.WrongState": WrongState,
    f"{names.BUS_NAME}.Error.Deadline": Deadline,
    f"{names.BUS_NAME}.Error.BadConfig": ConfigError,
    f"{_BUS}.Error.AccessDenied": Denied,
}


def to_error(name: str, text: str) -> MaglensError:
    """The error that the service raised, from its D-Bus form; where it advises nothing, what shows more."""
    message, _, hint = text.partition("\ntry: ")
    if name in _NOT_THERE or name.startswith("org.freedesktop.systemd1."):
        return Unavailable(f"the service does not answer: {message}")
    kind = _KINDS.get(name, MaglensError)
    return kind(message, hint=hint or ("maglens doctor" if kind is Denied else "maglens modules"))


class Client:
    """One connection. Use as ``async with``."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(REPLY_S):
                self._bus = MessageBus(bus_address=self._address, bus_type=BusType.SYSTEM)  # it opens its socket here
                await self._bus.connect()
        except NO_BUS as error:
            raise Unavailable(f"there is no system bus: {error}", hint=START_BUS) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bus.disconnect()

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", *body: Any, to: str = names.BUS_NAME
    ) -> list[Any]:
        """Body of the reply; raises the service's error."""
        message = Message(
            destination=to,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
            flags=MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION,  # there is a person who can be asked
        )
        try:
            async with asyncio.timeout(REPLY_S):
                reply = await self._bus.call(message)
        except TimeoutError as error:
            raise Unavailable(f"the service did not answer within {REPLY_S:g} s") from error
        if reply is None:
            raise Unavailable("the system bus has gone", hint=START_BUS)
        if reply.message_type is MessageType.ERROR:
            raise to_error(reply.error_name or "", str(reply.body[0]) if reply.body else "")
        answer: list[Any] = reply.body
        return answer

    async def manager(self, member: str, signature: str = "", *body: Any) -> list[Any]:
        """A call to the manager."""
        return await self.call(names.BUS_PATH, names.BUS_INTERFACE, member, signature, *body)

    async def module(self, port: str, member: str, signature: str = "", *body: Any) -> list[Any]:
        """A call to the module at ``port``."""
        return await self.call(module_path(port), names.BUS_INTERFACE_MODULE, member, signature, *body)

    async def status(self) -> Status:
        """Everything."""
        (document,) = await self.manager("Status")
        return cast("Status", json.loads(document))

    async def service_runs(self) -> bool:
        """Whether the service is on the bus; any other call would start it."""
        (runs,) = await self.call("/org/freedesktop/DBus", _BUS, "NameHasOwner", "s", names.BUS_NAME, to=_BUS)
        return bool(runs)

    async def changes(self) -> AsyncIterator[Message]:
        """Every signal of the service from now on; ends when it leaves the bus."""
        queue: asyncio.Queue[Message | None] = asyncio.Queue()

        def on_message(message: Message) -> bool:
            if message.message_type is not MessageType.SIGNAL:
                return False
            if message.member == "NameOwnerChanged":
                if message.body[0] == names.BUS_NAME and not message.body[2]:
                    queue.put_nowait(None)
            elif (message.path or "").startswith(names.BUS_PATH):
                queue.put_nowait(message)
            return False

        self._bus.add_message_handler(on_message)
        owner = f"type='signal',sender='{_BUS}',member='NameOwnerChanged',arg0='{names.BUS_NAME}'"
        for rule in (f"type='signal',sender='{names.BUS_NAME}'", owner):
            await self.call("/org/freedesktop/DBus", _BUS, "AddMatch", "s", rule, to=_BUS)
        while (message := await queue.get()) is not None:
            yield message
