# SPDX-License-Identifier: GPL-2.0-or-later
"""Bus: the daemon as org.maglens1 on D-Bus.

Below the library's decorators: signatures come from org.maglens1.xml alone, objects come and go with the sessions,
and every property is compared with what was told last, so that whoever changes a state need not know of D-Bus.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dbus_fast import Message, MessageType, NameFlag, RequestNameReply, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusError

from maglens_daemon import bus_schema
from maglens_daemon.authority import Authority
from maglens_daemon.errors import AlreadyRunning, ConfigError, Denied, NotFound
from maglens_daemon.herald import Herald
from maglens_daemon.manager import Manager
from maglens_daemon.object_path import module_path
from maglens_daemon.objects import ManagerObject, ModuleObject, NodeObject
from maglens_daemon.session import Session
from maglens_driver import names
from maglens_driver.errors import Deadline, Gone, MaglensError, Refused, WrongState

log = logging.getLogger(__name__)

RETRY_S: Final = 5.0  # where the bus refuses the name: nobody would tell of a change

_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_ACCESSORS: Final[Mapping[str, str]] = {"Get": "ss", "GetAll": "s", "Set": "ssv"}
_INTROSPECTABLE: Final = "org.freedesktop.DBus.Introspectable"
_PEER: Final = "org.freedesktop.DBus.Peer"
_UNKNOWN_METHOD: Final = "org.freedesktop.DBus.Error.UnknownMethod"
_UNKNOWN_OBJECT: Final = "org.freedesktop.DBus.Error.UnknownObject"
_UNKNOWN_PROPERTY: Final = "org.freedesktop.DBus.Error.UnknownProperty"
_INVALID_ARGS: Final = "org.freedesktop.DBus.Error.InvalidArgs"
_READ_ONLY: Final = "org.freedesktop.DBus.Error.PropertyReadOnly"
_ACCESS_DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"
_LIMITS_EXCEEDED: Final = "org.freedesktop.DBus.Error.LimitsExceeded"
CALLS_OF_ONE: Final = 64  # that wait for their answers at a time; by one connection
CALLS: Final = 8 * CALLS_OF_ONE  # by all together
_ERRORS: Final[tuple[tuple[type[MaglensError], str], ...]] = (
    (NotFound, "NotFound"),
    (Gone, "Gone"),
    (WrongState, "WrongState"),
    (Refused, "Refused"),
    (Deadline, "Deadline"),
    (ConfigError, "BadConfig"),
)
_INTROSPECTION_HEAD: Final = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)

Object = ManagerObject | ModuleObject | NodeObject


@dataclass(frozen=True, slots=True)
class _Fault(Exception):
    """A D-Bus error to answer with."""

    name: str
    text: str


def error_name(error: MaglensError) -> str:
    """The D-Bus error for one of ours."""
    if isinstance(error, Denied):
        return _ACCESS_DENIED
    for kind, name in _ERRORS:
        if isinstance(error, kind):
            return f"{names.BUS_NAME}.Error.{name}"
    return f"{names.BUS_NAME}.Error.Failed"


def _stays(objects: Mapping[str, Object]) -> dict[str, Session]:
    """Whose the modules' objects are."""
    return {path: it.session for path, it in objects.items() if isinstance(it, ModuleObject)}


def _failed(message: Message, error: Exception) -> Message:
    return Message.new_error(message, f"{names.BUS_NAME}.Error.Failed", f"{type(error).__name__}: {error}")


class Bus:
    """The service on a bus (:class:`system_bus.Part`). ``reload`` reads the configuration again and raises
    ``ConfigError``; ``herald`` hears of the manager's changes."""

    def __init__(self, manager: Manager, reload: Callable[[], None], herald: Herald) -> None:
        self._manager = manager
        self._reload = reload
        self._herald = herald
        self._authority = Authority()
        self._schema = bus_schema.load()
        self._bus: MessageBus | None = None
        self._objects: dict[str, Object] = {}  # as they are served
        self._announced: dict[str, Object] = {}  # as it was told last which there are
        self._told: dict[str, dict[str, Any]] = {}
        self._calls: dict[asyncio.Task[None], str] = {}  # under way, with their senders
        self._calls_of: Counter[str] = Counter()

    async def serve(self, bus: MessageBus) -> None:
        """Be on ``bus`` until cancelled. Raises :class:`AlreadyRunning`."""
        told = False
        while True:
            try:
                await self.publish(bus)
                await asyncio.Event().wait()
            except DBusError as refused:
                if not told:
                    log.warning("the system bus refuses the service its name: %s", refused)
                told = True
            finally:
                self.withdraw()
            await asyncio.sleep(RETRY_S)

    async def lost(self, why: str) -> None:
        """The camera does not depend on it."""

    async def publish(self, bus: MessageBus) -> None:
        """Take the name, and tell of changes from now on. Raises :class:`AlreadyRunning`, and ``DBusError`` where the
        bus refuses the name."""
        self._bus = bus
        bus.add_message_handler(self._on_message)
        self._sync()
        self._announced = self._objects
        try:
            reply = await bus.request_name(names.BUS_NAME, NameFlag.DO_NOT_QUEUE)
        except BaseException:
            self.withdraw()
            raise
        if reply not in (RequestNameReply.PRIMARY_OWNER, RequestNameReply.ALREADY_OWNER):
            self.withdraw()
            raise AlreadyRunning()
        self._herald.tellers.append(self._tell)
        self._manager.on_control.append(self._control_changed)

    def withdraw(self) -> None:
        """Tell and answer nothing any more. The name goes with the connection."""
        if self._bus is not None:
            self._bus.remove_message_handler(self._on_message)
        self._bus = None
        if self._tell in self._herald.tellers:
            self._herald.tellers.remove(self._tell)
            self._manager.on_control.remove(self._control_changed)

    # What changes.

    def _tell(self) -> None:
        """Announce new and gone modules and every property that is not as it was told last."""
        self._sync()
        before, now = _stays(self._announced), _stays(self._objects)
        self._announced = self._objects
        for path, gone in before.items():
            if now.get(path) is not gone:
                reason = gone.reason or "unplugged"
                self._signal(names.BUS_PATH, names.BUS_INTERFACE, "ModuleRemoved", [path, reason])
        for path, session in now.items():
            if before.get(path) is not session:
                self._signal(names.BUS_PATH, names.BUS_INTERFACE, "ModuleAdded", [path])
        for path, target in self._objects.items():
            self._tell_properties(path, target)

    def _sync(self) -> None:
        """The objects there should be."""
        objects: dict[str, Object] = {
            names.BUS_PATH: ManagerObject(self._manager, self._reload),
            f"{names.BUS_PATH}/node": NodeObject(self._manager),
        }
        for session in self._manager.sessions:
            if not session.unplugged:
                objects[module_path(session.port.path)] = ModuleObject(self._manager, session)
        self._objects = objects
        for path in [p for p in self._told if p not in objects]:
            del self._told[path]

    def _tell_properties(self, path: str, target: Object) -> None:
        now = target.properties()
        told = self._told.get(path)
        self._told[path] = now
        if told is None:
            return
        schema = self._schema[target.interface].properties
        changed = {
            name: Variant(schema[name].signature, value)
            for name, value in now.items()
            if not schema[name].constant and told.get(name) != value
        }
        if changed:
            self._signal(path, _PROPERTIES, "PropertiesChanged", [target.interface, changed, []], "sa{sv}as")

    def _control_changed(self, session: Session, control: int, value: int) -> None:
        self._signal(module_path(session.port.path), names.BUS_INTERFACE_MODULE, "ControlChanged", [control, value])

    def _signal(self, path: str, interface: str, member: str, body: list[Any], signature: str | None = None) -> None:
        if self._bus is None or not self._bus.connected:
            return
        signature = signature if signature is not None else self._schema[interface].signals[member]
        message = Message(
            message_type=MessageType.SIGNAL,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
        )
        self._bus.send(message)

    # What is asked.

    def _on_message(self, message: Message) -> bool | Message:
        """Whether the message is for us, the answer coming from a task; an error at once where too many wait."""
        if message.message_type is not MessageType.METHOD_CALL or message.interface == _PEER:
            return False
        sender = message.sender or ""
        if self._calls_of[sender] >= CALLS_OF_ONE or len(self._calls) >= CALLS:
            return Message.new_error(message, _LIMITS_EXCEEDED, "too many calls wait for their answers")
        task = asyncio.get_running_loop().create_task(self._answer(message), name=f"dbus-{message.member}")
        self._calls[task] = sender
        self._calls_of[sender] += 1
        task.add_done_callback(self._answered)
        return True

    def _answered(self, task: asyncio.Task[None]) -> None:
        sender = self._calls.pop(task)
        self._calls_of[sender] -= 1
        if not self._calls_of[sender]:
            del self._calls_of[sender]

    async def _answer(self, message: Message) -> None:
        try:
            signature, body = await self._dispatch(message)
            reply = Message.new_method_return(message, signature, body)
        except _Fault as fault:
            reply = Message.new_error(message, fault.name, fault.text)
        except MaglensError as error:
            text = f"{error}\ntry: {error.hint}" if error.hint else str(error)
            reply = Message.new_error(message, error_name(error), text)
        except Exception as error:
            # A defect of ours met by one caller: the caller learns of it, the service goes on.
            log.exception("%s.%s failed", message.interface, message.member)
            reply = _failed(message, error)
        if self._bus is None or not self._bus.connected:
            return
        try:
            sent = self._bus.send(reply)
        except Exception as error:
            # So does this: a value that its signature cannot hold. Nothing was sent yet.
            log.exception("%s.%s has no answer that can be sent", message.interface, message.member)
            sent = self._bus.send(_failed(message, error))
        await sent

    async def _dispatch(self, message: Message) -> tuple[str, list[Any]]:
        self._sync()
        path, interface, member = message.path or "", message.interface or "", message.member or ""
        if interface == _INTROSPECTABLE and member == "Introspect":
            return "s", [self._introspect(path)]
        target = self._objects.get(path)
        if target is None:
            raise _Fault(_UNKNOWN_OBJECT, f"there is no object {path}")
        if interface == _PROPERTIES:
            return self._properties(target, member, message.signature, message.body)
        method = self._schema[target.interface].methods.get(member)
        if method is None or interface not in ("", target.interface):
            raise _Fault(_UNKNOWN_METHOD, f"{path} has no method {interface}.{member}")
        if message.signature != method.takes:
            raise _Fault(_INVALID_ARGS, f"{member} takes ({method.takes}), not ({message.signature})")
        if member in target.changing:
            assert self._bus is not None
            await self._authority.check(self._bus, message)
        handler: Callable[..., Awaitable[list[Any]]] = target.methods()[member]
        return method.gives, await handler(*message.body)

    def _properties(self, target: Object, member: str, signature: str, body: list[Any]) -> tuple[str, list[Any]]:
        takes = _ACCESSORS.get(member)
        if takes is None:
            raise _Fault(_UNKNOWN_METHOD, f"{_PROPERTIES} has no method {member}")
        if signature != takes:
            raise _Fault(_INVALID_ARGS, f"{member} takes ({takes}), not ({signature})")
        interface = body[0]
        schema = self._schema[target.interface].properties
        if interface not in ("", target.interface):
            raise _Fault(_UNKNOWN_PROPERTY, f"no interface {interface} here")
        if member == "GetAll":
            values: Mapping[str, Any] = target.properties()
            return "a{sv}", [{name: Variant(schema[name].signature, value) for name, value in values.items()}]
        name = body[1]
        if name not in schema:
            raise _Fault(_UNKNOWN_PROPERTY, f"{target.interface} has no property {name}")
        if member == "Get":
            return "v", [Variant(schema[name].signature, target.properties()[name])]
        raise _Fault(_READ_ONLY, f"{name} cannot be written")

    def _introspect(self, path: str) -> str:
        target = self._objects.get(path)
        below = path.rstrip("/") + "/"
        children = sorted({p[len(below) :].partition("/")[0] for p in self._objects if p.startswith(below)})
        inside = self._schema[target.interface].xml if target is not None else ""
        nodes = "".join(f'<node name="{child}"/>' for child in children)
        return f"{_INTROSPECTION_HEAD}<node>{inside}{nodes}</node>"
