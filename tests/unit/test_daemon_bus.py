# SPDX-License-Identifier: GPL-2.0-or-later
"""org.maglens1 on a real dbus-daemon: the XML and the code agree, reading, choosing, setting, and who may."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import BusType, Message, MessageFlag, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.signature import SignatureTree

from maglens_daemon import authority, bus_schema, status
from maglens_daemon.bus import CALLS_OF_ONE, Bus, error_name
from maglens_daemon.cli.client import Client
from maglens_daemon.errors import AlreadyRunning, ConfigError, Denied, NotFound, Unavailable
from maglens_daemon.fake import FOCUS, FakeVisitor
from maglens_daemon.herald import Herald
from maglens_daemon.object_path import module_path
from maglens_daemon.objects import ManagerObject, ModuleObject, NodeObject
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_daemon.system_bus import SystemBus
from maglens_driver import names
from maglens_driver.errors import Gone, MaglensError, Refused
from tests.unit.private_bus import CONFIG, listening, private_bus, published
from tests.unit.test_daemon_manager import Theatre, theatre

KINDS = (ManagerObject, ModuleObject, NodeObject)
PROPERTIES = "org.freedesktop.DBus.Properties"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with private_bus(tmp_path) as made:
        yield made


def on_the_bus(
    address: str, play: Callable[[Theatre, Bus, Client], Awaitable[None]], reload: Callable[[], None] = lambda: None
) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(60),
            theatre() as t,
            published(t.manager, address, reload) as bus,
            Client(address) as client,
        ):
            await play(t, bus, client)

    asyncio.run(run())


# --- the XML ---------------------------------------------------------------------------------------------------


def test_xml_and_code_have_the_same_members() -> None:
    schema = bus_schema.load()
    assert set(schema) == {kind.interface for kind in KINDS}

    async def play() -> None:
        async with theatre() as t:
            session = t.arrive(FakeVisitor())
            for made in (
                ManagerObject(t.manager, lambda: None),
                ModuleObject(t.manager, session),
                NodeObject(t.manager),
            ):
                declared = schema[made.interface]
                assert set(made.properties()) == set(declared.properties)
                assert set(made.methods()) == set(declared.methods)
                assert made.changing <= set(declared.methods)
                for name, value in made.properties().items():
                    SignatureTree(declared.properties[name].signature).types[0].verify(value)

    asyncio.run(play())


def _is_comment(element: ET.Element) -> bool:
    tag: object = element.tag
    return tag is ET.Comment


def test_every_member_and_argument_has_prose() -> None:
    """A comment stands right before each element that people would look up."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    text = resources.files("maglens_daemon").joinpath(bus_schema.XML_FILE).read_text()
    seen = 0
    for parent in ET.fromstring(text, parser).iter():
        before: ET.Element | None = None
        for element in parent:
            if element.tag in ("interface", "property", "method", "signal", "arg"):
                seen += 1
                explained = before is not None and _is_comment(before) and len((before.text or "").split()) >= 2
                assert explained, f"{element.tag} {element.attrib.get('name')} of {parent.attrib.get('name')}"
            before = element
    assert seen > 40


def test_what_changes_something_says_so() -> None:
    text = resources.files("maglens_daemon").joinpath(bus_schema.XML_FILE).read_text()
    for kind in KINDS:
        for member in kind.changing:
            prose = re.search(rf"<!--((?:(?!-->).)*)-->\s*<method name=\"{member}\"", text, re.DOTALL)
            assert prose is not None
            assert "Changes something." in prose[1]


def test_status_keys_are_documented() -> None:
    documented = set(
        re.findall(r"`([a-z_]+)`", (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text())
    )
    for kind in (
        status.Status,
        status.PowerStatus,
        status.PortStatus,
        status.DrawStatus,
        status.OpticsStatus,
        status.NodeStatus,
        status.ModuleStatus,
        status.ContractStatus,
        status.ModeStatus,
    ):
        assert set(kind.__annotations__) <= documented, set(kind.__annotations__) - documented


# --- on the bus ------------------------------------------------------------------------------------------------


def test_status_and_introspection(address: str) -> None:
    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        session = t.arrive(FakeVisitor("7"), "1-2.3")
        await t.until(lambda: session.state is SessionState.READY)
        document = await client.status()
        assert document == json.loads(json.dumps(status.status(t.manager)))
        assert [m["serial"] for m in document["modules"]] == ["7"]
        (top,) = await client.call(names.BUS_PATH, "org.freedesktop.DBus.Introspectable", "Introspect")
        assert {n.attrib["name"] for n in ET.fromstring(top).findall("node")} == {"node", "module"}
        (module,) = await client.call(module_path("1-2.3"), "org.freedesktop.DBus.Introspectable", "Introspect")
        (interface,) = ET.fromstring(module).findall("interface")
        assert interface.attrib["name"] == names.BUS_INTERFACE_MODULE
        (values,) = await client.call(module_path("1-2.3"), PROPERTIES, "GetAll", "s", names.BUS_INTERFACE_MODULE)
        assert values["Serial"].value == "7"
        assert values["Contract"].signature == "(uuub)"
        assert list(values["Contract"].value) == [5000, 900, 900, False]
        (state,) = await client.call(names.BUS_PATH, PROPERTIES, "Get", "ss", names.BUS_INTERFACE, "State")
        assert state.value == "fake camera (7) is ready, nobody watches"
        (counters,) = await client.call(f"{names.BUS_PATH}/node", names.BUS_INTERFACE_NODE, "Counters")
        assert counters["submitted"] == 0

    on_the_bus(address, play)


def test_changes_are_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hears = listening(monkeypatch)

    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        seen: list[tuple[str, str, Any]] = []
        enough, moved = asyncio.Event(), asyncio.Event()

        async def listen() -> None:
            async for message in client.changes():
                seen.append((message.path or "", message.member or "", message.body))
                if {"ModuleAdded", "ControlChanged"} <= {member for _, member, _ in seen}:
                    moved.set()
                modules = message.body[1].get("Modules") if message.member == "PropertiesChanged" else None
                if modules is not None and not modules.value:  # the last that is told of a removal
                    enough.set()

        listener = asyncio.create_task(listen())
        assert await asyncio.to_thread(hears.wait, 10)
        t.watch()
        visitor = FakeVisitor("7")
        session = t.arrive(visitor)
        await t.until_playing(session)
        assert visitor.source.sink is not None
        visitor.source.sink.control(visitor.source.generation, FOCUS.id + 1, 70)  # which it has not
        visitor.source.sink.control(visitor.source.generation, FOCUS.id, 70)
        async with asyncio.timeout(10):
            await moved.wait()
            t.manager.depart("1-1")
            await enough.wait()
        listener.cancel()
        members = [member for _, member, _ in seen]
        assert members.count("ModuleAdded") == 1
        path = module_path("1-1")
        assert (names.BUS_PATH, "ModuleRemoved", [path, "unplugged"]) in seen
        assert [body for where, member, body in seen if member == "ControlChanged"] == [[FOCUS.id, 70]]
        told: dict[str, Any] = {}
        for where, member, body in seen:
            if member == "PropertiesChanged" and where == names.BUS_PATH:
                told.update({name: v.value if isinstance(v, Variant) else v for name, v in body[1].items()})
        assert told["Modules"] == []
        assert told["Granted"] == 0
        assert "Version" not in told, "a constant is never announced"

    on_the_bus(address, play)


def test_a_question_before_a_change_is_told_takes_nothing_from_what_is_told(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maglens_daemon.herald.TELL_AFTER_S", 0.2)
    hears = listening(monkeypatch)

    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        seen: list[str] = []
        news = asyncio.Event()

        async def listen() -> None:
            async for message in client.changes():
                if (message.member or "").startswith("Module"):
                    seen.append(message.member or "")
                    news.set()

        async def told(*members: str) -> None:
            async with asyncio.timeout(10):
                while len(seen) < len(members):
                    news.clear()
                    await news.wait()
            assert seen == [*members]

        listener = asyncio.create_task(listen())
        assert await asyncio.to_thread(hears.wait, 10)
        first = t.arrive(FakeVisitor("7"))
        await client.status()
        await told("ModuleAdded")
        t.manager.depart("1-1")
        await t.until(lambda: first not in t.manager.sessions)
        t.arrive(FakeVisitor("8"))
        await client.status()
        await told("ModuleAdded", "ModuleRemoved", "ModuleAdded")
        t.manager.depart("1-1")
        await client.status()
        await told("ModuleAdded", "ModuleRemoved", "ModuleAdded", "ModuleRemoved")
        listener.cancel()

    on_the_bus(address, play)


def test_controls(address: str) -> None:
    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        session = t.arrive(FakeVisitor())
        await t.until(lambda: session.state is SessionState.READY)
        (controls,) = await client.module("1-1", "ListControls")
        assert [list(c) for c in controls] == [[FOCUS.id, "Focus", 1, 0, 400, 10, 50, int(FOCUS.flags)]]
        (values,) = await client.module("1-1", "GetControls")
        assert values == {FOCUS.id: 50}
        (clamped,) = await client.module("1-1", "SetControls", "a{ui}", {FOCUS.id: 1234})
        assert clamped == {FOCUS.id: 400}
        with pytest.raises(MaglensError, match="no control"):
            await client.module("1-1", "SetControls", "a{ui}", {1: 2})
        assert (await client.module("1-1", "ResetControls", "au", []))[0] == {FOCUS.id: 50}

    on_the_bus(address, play)


def test_who_asks_too_much_holds_up_nobody_else(address: str) -> None:
    """Thousands of calls that wait for a module would keep its stream from being stopped in time."""

    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        visitor = FakeVisitor()
        session = t.arrive(visitor)
        await t.until(lambda: session.state is SessionState.READY)
        while t.manager._controls_of(session) is None:  # noqa: ASYNC110 apps see its controls; that asks as well
            await asyncio.sleep(0)
        before = visitor.steps.passed["get"]
        visitor.steps.hold("get")
        asked = [asyncio.create_task(client.module("1-1", "GetControls")) for _ in range(CALLS_OF_ONE)]
        await asyncio.sleep(0)  # they are sent, and read in this order
        with pytest.raises(MaglensError, match="too many calls"):
            await client.status()
        async with Client(address) as another:
            await another.status()
        visitor.steps.free("get")
        assert [await one for one in asked] == [[{FOCUS.id: FOCUS.default}]] * CALLS_OF_ONE
        assert visitor.steps.passed["get"] == before + 1, "all of them have one answer"
        await client.module("1-1", "GetControls")
        assert visitor.steps.passed["get"] == before + 2

    on_the_bus(address, play)


def test_an_answer_that_cannot_be_sent_is_an_error_to_its_caller(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        session = t.arrive(FakeVisitor())
        await t.until(lambda: session.state is SessionState.READY)

        async def get(session: Session) -> dict[int, int]:
            return {FOCUS.id: 1 << 40}

        with monkeypatch.context() as patched:
            patched.setattr(t.manager, "get_controls", get)
            with pytest.raises(MaglensError, match="Error"):
                await asyncio.wait_for(client.module("1-1", "GetControls"), 5)
        assert await client.module("1-1", "GetControls") == [{FOCUS.id: FOCUS.default}]

    on_the_bus(address, play)


def test_choosing(address: str) -> None:
    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        one = t.arrive(FakeVisitor("1"))
        await t.until(lambda: one.state is SessionState.READY)
        assert await client.manager("Use", "s", "1") == ["fake/camera/1"]
        assert (await client.status())["choice"] == "fake/camera/1"
        with pytest.raises(NotFound, match="no module fit 'x'") as caught:
            await client.manager("Use", "s", "x")
        assert caught.value.hint == "maglens modules"

    on_the_bus(address, play)


@pytest.mark.parametrize("error", [None, ConfigError("/etc/maglens/maglens.toml:2: unknown key", hint="mend it")])
def test_reload(address: str, error: ConfigError | None) -> None:
    def reload() -> None:
        if error is not None:
            raise error

    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        if error is None:
            assert await client.manager("Reload") == []
        else:
            with pytest.raises(ConfigError, match=r"maglens\.toml:2: ") as caught:
                await client.manager("Reload")
            assert caught.value.hint == "mend it"

    on_the_bus(address, play, reload)


STRAY = [
    (names.BUS_PATH, names.BUS_INTERFACE, "Dance", "", (), "UnknownMethod"),
    (names.BUS_PATH, names.BUS_INTERFACE_NODE, "Status", "", (), "UnknownMethod"),
    ("/elsewhere", names.BUS_INTERFACE, "Status", "", (), "UnknownObject"),
    (names.BUS_PATH, names.BUS_INTERFACE, "Use", "u", (3,), "InvalidArgs"),
    (names.BUS_PATH, PROPERTIES, "Get", "ss", (names.BUS_INTERFACE, "Age"), "UnknownProperty"),
    (names.BUS_PATH, PROPERTIES, "Get", "sas", (names.BUS_INTERFACE, ["State"]), "InvalidArgs"),
    (names.BUS_PATH, PROPERTIES, "Get", "s", (names.BUS_INTERFACE,), "InvalidArgs"),
    (names.BUS_PATH, PROPERTIES, "GetAll", "as", ([names.BUS_INTERFACE],), "InvalidArgs"),
    (names.BUS_PATH, PROPERTIES, "Set", "ss", (names.BUS_INTERFACE, "State"), "InvalidArgs"),
    (names.BUS_PATH, PROPERTIES, "Let", "ss", (names.BUS_INTERFACE, "State"), "UnknownMethod"),
    (names.BUS_PATH, PROPERTIES, "Set", "ssv", (names.BUS_INTERFACE, "State", Variant("s", "x")), "PropertyReadOnly"),
]


@pytest.mark.parametrize(("path", "interface", "member", "signature", "body", "error"), STRAY)
def test_stray_calls(
    address: str,
    path: str,
    interface: str,
    member: str,
    signature: str,
    body: Any,
    error: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        message = Message(
            destination=names.BUS_NAME,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        reply = await client._bus.call(message)
        assert reply is not None
        assert reply.error_name == f"org.freedesktop.DBus.Error.{error}"

    on_the_bus(address, play)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], (
        "anybody could fill the journal"
    )


def test_who_may(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root, group or polkit nothing can be changed, and everything be read."""
    monkeypatch.setattr(authority, "is_member", lambda uid: False)

    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        session = t.arrive(FakeVisitor())
        await t.until(lambda: session.state is SessionState.READY)
        for work in (
            client.manager("Use", "s", "auto"),
            client.manager("Reload"),
            client.module("1-1", "SetControls", "a{ui}", {FOCUS.id: 1}),
            client.module("1-1", "ResetControls", "au", []),
        ):
            with pytest.raises(Denied, match="may not control"):
                await work
        assert session.source is not None
        assert await session.source.get() == {FOCUS.id: FOCUS.default}
        await client.status()
        await client.module("1-1", "GetControls")

    on_the_bus(address, play)


@pytest.mark.parametrize("allowed", [True, False])
def test_polkit_asks_for_a_password_only_where_the_caller_allows_it(
    address: str, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setattr(authority, "is_member", lambda uid: False)
    asked: list[Message] = []

    def polkit(message: Message) -> Message | None:
        if message.member != "CheckAuthorization":
            return None
        asked.append(message)
        return Message.new_method_return(message, "(bba{ss})", [[True, False, {}]])

    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        agent = await MessageBus(bus_address=address, bus_type=BusType.SYSTEM).connect()
        agent.add_message_handler(polkit)
        await agent.request_name("org.freedesktop.PolicyKit1")
        call = Message(
            destination=names.BUS_NAME,
            path=names.BUS_PATH,
            interface=names.BUS_INTERFACE,
            member="Use",
            signature="s",
            body=["auto"],
            flags=MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION if allowed else MessageFlag.NONE,
        )
        reply = await client._bus.call(call)
        assert reply is not None and reply.body == ["auto"]
        (message,) = asked
        assert message.body[3] == allowed
        await client.manager("Use", "s", "auto")
        assert asked[1].body[3] == 1, "the command line has a person before it"
        agent.disconnect()

    on_the_bus(address, play)


def test_calls_that_wait_for_a_password_keep_nobody_out(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody may ask for one, and never type it."""
    monkeypatch.setattr(authority, "is_member", lambda uid: False)
    monkeypatch.setattr(authority, "ASK_S", 2.0)
    asked: list[Message] = []
    taken_back: list[str] = []
    agents: list[MessageBus] = []
    enough = asyncio.Event()

    def polkit(message: Message) -> bool | Message:
        if message.member == "CheckAuthorization":
            asked.append(message)
            return (
                Message.new_method_return(message, "(bba{ss})", [[False, True, {}]]) if not message.body[3] else True
            )
        if message.member == "CancelCheckAuthorization":
            taken_back.append(message.body[0])
            call = next(call for call in asked if call.body[4] == message.body[0])
            late = Message.new_error(call, "org.freedesktop.PolicyKit1.Error.Cancelled", "nobody waits for it")
            agents[0].send(late)
            enough.set()
        return False

    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        agent = await MessageBus(bus_address=address, bus_type=BusType.SYSTEM).connect()
        agents.append(agent)
        agent.add_message_handler(polkit)
        await agent.request_name("org.freedesktop.PolicyKit1")
        waiting = [asyncio.create_task(client.manager("Use", "s", "auto")) for _ in range(20)]
        pending = set(waiting)
        while len(pending) > authority.ASKS_OF_ONE:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            assert not taken_back, "they are answered while the others wait"
        assert [bool(message.body[3]) for message in asked].count(True) == authority.ASKS_OF_ONE
        for one in waiting:
            with pytest.raises(Denied, match="may not control"):
                await one
        async with asyncio.timeout(10):
            while len(taken_back) < authority.ASKS_OF_ONE:
                enough.clear()
                await enough.wait()
        assert taken_back == [message.body[4] for message in asked if message.body[3]], "nobody is asked any more"
        await client.status()  # polkit's own answers have come before
        agent.disconnect()

    on_the_bus(address, play)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_slow_user_database_holds_up_nobody_else(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = [], threading.Event()

    def slow(uid: int) -> bool:
        asked.append(uid)
        return answer.wait(60)

    monkeypatch.setattr(authority, "is_member", slow)

    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        waiting = [asyncio.create_task(client.manager("Use", "s", "auto")) for _ in range(5)]
        async with Client(address) as another:
            await another.status()
            assert not any(task.done() for task in waiting)
            answer.set()
            await asyncio.gather(*waiting)
            await another.manager("Use", "s", "auto")
        assert asked == [os.getuid()], "it was asked once, and what it said holds for a while"

    on_the_bus(address, play)


def test_members_of_the_group() -> None:
    assert authority.is_member(0)
    assert not authority.is_member(4_000_000)


def test_a_second_daemon_is_told(address: str) -> None:
    async def play(t: Theatre, bus: Bus, client: Client) -> None:
        with pytest.raises(AlreadyRunning, match="another maglensd is running"):
            async with published(t.manager, address):
                raise AssertionError("two have the name")
        assert (await client.status())["state"] == "no module"

    on_the_bus(address, play)


def test_a_bus_that_refuses_the_name_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maglens_daemon.bus.RETRY_S", 0.0)

    class Tries(Bus):
        async def publish(self, bus: MessageBus) -> None:
            buses.append(bus)
            if len(buses) == 2:
                twice.set()
            await super().publish(bus)

    twice, buses = asyncio.Event(), list[MessageBus]()

    async def run(address: str) -> None:
        async with asyncio.timeout(60), theatre() as t:
            bus = Tries(t.manager, lambda: None, Herald(lambda: False))
            task = asyncio.create_task(SystemBus(bus, address=address).run())
            await twice.wait()
            assert not task.done(), task
            assert buses[0] is buses[1], "the others have their connection meanwhile"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    policy = CONFIG.replace('<allow own="*"/>', '<deny own="*"/>')
    assert policy != CONFIG
    with private_bus(tmp_path, policy) as address:
        asyncio.run(run(address))


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (NotFound("x"), "NotFound"),
        (Gone("x"), "Gone"),
        (Refused("INVALID", "x"), "Refused"),
        (MaglensError("x"), "Failed"),
    ],
)
def test_error_names(error: MaglensError, name: str) -> None:
    assert error_name(error) == f"org.maglens1.Error.{name}"


def test_nobody_there(address: str) -> None:
    async def run() -> None:
        async with Client(address) as client:
            with pytest.raises(Unavailable, match="does not answer") as caught:
                await client.status()
            assert "systemctl start" in caught.value.hint

    asyncio.run(run())
