# SPDX-License-Identifier: GPL-2.0-or-later
"""Discovery and recognition, on a sysfs of plain files and a monitor on a socket pair."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import itertools
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from maglens_driver.usb.device import Endpoint, NotAModule, NotYet, UsbDevice, Vanished, claims_class, recognise
from maglens_driver.usb.discovery import DeviceEvent, DeviceEventKind, Discovery, Uevent

T = TypeVar("T")
OURS = ":ff5301:"
ADDED, REMOVED, REFUSED = DeviceEventKind.ADDED, DeviceEventKind.REMOVED, DeviceEventKind.REFUSED


def interface(number: int = 0, triple: tuple[int, int, int] = (0xFF, 0x53, 1), alternate: int = 0) -> bytes:
    return struct.pack("<BBBBBBBBB", 9, 4, number, alternate, 2, *triple, 5)


def endpoint(address: int, kind: int, packet: int) -> bytes:
    return struct.pack("<BBBBHB", 7, 5, address, kind, packet, 0)


COMPANION = struct.pack("<BBBBH", 6, 48, 15, 0, 0)
ENDPOINTS = endpoint(0x81, 2, 1024) + COMPANION + endpoint(0x82, 3, 64) + COMPANION


def configuration(body: bytes, power: int = 112, value: int = 1) -> bytes:
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 1, value, 0, 0x80, power) + body


def descriptors(body: bytes, *more: bytes) -> bytes:
    device = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x320, 0, 0, 0, 9, 0x1209, 1, 0x100, 1, 2, 3, 1)
    return device + configuration(body) + b"".join(more)


class Tree:
    """/sys/devices/... of one controller."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devnums = itertools.count(2)

    def plug(
        self,
        port: str = "1-1",
        *,
        raw: bytes | None = None,
        text: str | None = "maglens",
        number: int = 0,
        configured: bool = True,
        speed: str = "5000",
        interfaces: str = OURS,
        active: int = 1,
    ) -> Uevent:
        path = self.root / port
        path.mkdir()
        (path / "descriptors").write_bytes(descriptors(interface(number) + ENDPOINTS) if raw is None else raw)
        (path / "speed").write_text(speed + "\n")
        (path / "bConfigurationValue").mkdir()  # the kernel takes the device's lock for it: not to be read
        if configured:
            self.publish(port, text, number, active)
        return Uevent(
            "add", "usb_device", str(path), interfaces, f"/dev/bus/usb/001/{port}", 1, next(self.devnums), 77
        )

    def publish(self, port: str, text: str | None = "maglens", number: int = 0, active: int = 1) -> Uevent:
        path = self.root / port / f"{port}:{active}.{number}"
        path.mkdir(exist_ok=True)
        if text is not None:
            (path / "interface").write_text(text + "\n")
        return Uevent("add", "usb_interface", str(path), "", "", 0, 0, 78)

    def unplug(self, event: Uevent) -> Uevent:
        for path in sorted(Path(event.syspath).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        Path(event.syspath).rmdir()
        return dataclasses.replace(event, action="remove", interfaces="")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def judge(event: Uevent, final: bool = False) -> UsbDevice:
    return recognise(
        event.syspath,
        devnode=event.devnode,
        busnum=event.busnum,
        devnum=event.devnum,
        added_ns=event.seen_ns,
        final=final,
    )


class TestRecognise:
    def test_a_module(self, tree: Tree) -> None:
        device = judge(tree.plug("2-1.3"))
        assert device.port == "2-1.3" and device.speed_mbit == 5000 and device.interface_number == 0
        assert (device.vendor, device.product, device.max_power_ma) == (0x1209, 1, 896)
        assert device.bulk == Endpoint(0x81, 1024) and device.interrupt == Endpoint(0x82, 64)
        assert device.added_ns == 77

    def test_power_has_other_units_at_other_speeds(self, tree: Tree) -> None:
        assert judge(tree.plug("1-1", speed="480")).max_power_ma == 224
        assert judge(tree.plug("1-2", speed="1.5")).speed_mbit == 1

    def test_its_interface_may_be_any_of_several(self, tree: Tree) -> None:
        other = interface(0, (3, 0, 0)) + endpoint(0x83, 3, 8)
        raw = descriptors(other + interface(1) + ENDPOINTS + interface(2, (8, 6, 80)) + endpoint(0x84, 2, 512))
        device = judge(tree.plug(raw=raw, number=1))
        assert device.interface_number == 1 and device.bulk.address == 0x81

    def test_the_active_configuration_counts(self, tree: Tree) -> None:
        other = interface(3) + endpoint(0x84, 2, 512) + endpoint(0x85, 3, 32)
        raw = descriptors(interface() + ENDPOINTS, configuration(other, power=10, value=7))
        device = judge(tree.plug("1-1", raw=raw, number=3, active=7))
        assert (device.interface_number, device.max_power_ma) == (3, 80)
        assert device.bulk == Endpoint(0x84, 512) and device.interrupt == Endpoint(0x85, 32)
        device = judge(tree.plug("1-2", raw=raw))
        assert (device.interface_number, device.max_power_ma, device.bulk.address) == (0, 896, 0x81)

    def test_of_configurations_with_one_value_the_first_counts(self, tree: Tree) -> None:
        raw = descriptors(interface() + ENDPOINTS, configuration(interface() + ENDPOINTS, power=10))
        assert judge(tree.plug(raw=raw)).max_power_ma == 896

    def test_an_attribute_that_cannot_be_read_any_more(self, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
        event = tree.plug()

        def read_text(path: Path, **_: object) -> str:
            raise OSError(errno.ENODEV, "No such device", str(path))

        monkeypatch.setattr(Path, "read_text", read_text)
        with pytest.raises(NotYet):
            judge(event)

    @pytest.mark.parametrize("text", ["", "Maglens", "maglens2", "acme probe", None])
    def test_a_strangers_string(self, text: str | None, tree: Tree) -> None:
        with pytest.raises(NotAModule, match="stranger"):
            judge(tree.plug(text=text), final=True)

    def test_not_yet_configured_is_not_yet(self, tree: Tree) -> None:
        event = tree.plug(configured=False)
        with pytest.raises(NotYet):
            judge(event)
        with pytest.raises(NotAModule):
            judge(event, final=True)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\x12\x01",
            descriptors(b""),
            descriptors(interface(triple=(0xFF, 0x53, 2)) + ENDPOINTS),
            descriptors(interface(alternate=1) + ENDPOINTS),
            descriptors(interface() + ENDPOINTS)[:-3],
            descriptors(interface() + b"\0\0"),
            descriptors(b"\1\4"),
            descriptors(interface() + endpoint(0x81, 2, 1024)),
            descriptors(interface() + endpoint(0x82, 3, 64)),
            descriptors(interface() + endpoint(0x01, 2, 1024) + endpoint(0x02, 3, 64)),
            descriptors(interface() + endpoint(0x81, 2, 0) + endpoint(0x82, 3, 64)),  # all is cut into whole packets
            descriptors(interface() + endpoint(0x81, 2, 1024) + endpoint(0x82, 3, 0)),
        ],
    )
    def test_broken_or_other_descriptors(self, raw: bytes, tree: Tree) -> None:
        with pytest.raises(NotAModule):
            judge(tree.plug(raw=raw))

    def test_every_truncation_is_refused(self, tree: Tree) -> None:
        event = tree.plug()
        whole = Path(event.syspath, "descriptors").read_bytes()
        for n in range(len(whole) - len(COMPANION)):
            Path(event.syspath, "descriptors").write_bytes(whole[:n])
            with pytest.raises(NotAModule):
                judge(event)

    def test_it_went_away_meanwhile(self, tree: Tree) -> None:
        event = tree.plug()
        tree.unplug(event)
        with pytest.raises(Vanished):
            judge(event)

    @pytest.mark.parametrize(
        ("interfaces", "ours"),
        [(":ff5301:", True), (":080650:ff5301:030101:", True), (":ff5300:", False), ("", False), ("ff5301", False)],
    )
    def test_class_triple(self, interfaces: str, ours: bool) -> None:
        assert claims_class(interfaces) is ours


class FakeMonitor:
    """Uevents by hand."""

    def __init__(self, present: list[Uevent]) -> None:
        self.present = present
        self.waiting: deque[Uevent | OSError] = deque()
        self.ours, self.theirs = socket.socketpair()
        self.closed = False

    def send(self, *events: Uevent | OSError) -> None:
        self.waiting.extend(events)
        self.theirs.send(b"x")

    def fileno(self) -> int:
        return self.ours.fileno()

    def read(self) -> Uevent | None:
        if not self.waiting:
            self.ours.recv(100)
            return None
        event = self.waiting.popleft()
        if isinstance(event, OSError):
            raise event
        return event

    def list(self) -> list[Uevent]:
        return self.present

    def close(self) -> None:
        self.closed = True
        self.ours.close()
        self.theirs.close()


def watch(present: list[Uevent], body: Callable[[Discovery, FakeMonitor], Awaitable[T]]) -> T:
    monitor = FakeMonitor(present)

    async def whole() -> T:
        async with Discovery(lambda: monitor) as discovery:
            return await asyncio.wait_for(body(discovery, monitor), 10)

    result = asyncio.run(whole())
    assert monitor.closed
    return result


async def take(discovery: Discovery, count: int) -> list[DeviceEvent]:
    events = discovery.events()
    return [await anext(events) for _ in range(count)]


async def nothing_more(discovery: Discovery) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(take(discovery, 1), 0.05)


class TestDiscovery:
    def test_what_is_there_at_the_start_is_present_and_no_event(self, tree: Tree) -> None:
        one, two = tree.plug("1-2"), tree.plug("1-1")
        stranger = tree.plug("1-3", text="probe")
        mouse = tree.plug("1-4", interfaces=":030102:")

        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            assert [d.port for d in discovery.present()] == ["1-1", "1-2"]
            await nothing_more(discovery)

        watch([one, two, stranger, mouse], body)

    def test_come_and_go(self, tree: Tree) -> None:
        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            event = tree.plug()
            monitor.send(event, *(dataclasses.replace(event, action=a) for a in ("bind", "change")))
            [added] = await take(discovery, 1)
            assert added.kind is ADDED and added.device == discovery.present()[0] and added.port == "1-1"
            monitor.send(tree.unplug(event))
            [removed] = await take(discovery, 1)
            assert removed.kind is REMOVED and removed.device == added.device
            assert discovery.present() == []
            await nothing_more(discovery)

        watch([], body)

    def test_ten_times_within_a_moment(self, tree: Tree) -> None:
        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            for _ in range(10):
                event = tree.plug()
                discovery.handle(event)
                discovery.handle(tree.unplug(event))
            events = await take(discovery, 20)
            assert [e.kind for e in events] == [ADDED, REMOVED] * 10
            assert len({e.device.devnum for e in events if e.device}) == 10

        watch([], body)

    def test_it_waits_for_the_interface(self, tree: Tree) -> None:
        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            event = tree.plug(configured=False)
            monitor.send(event)
            await nothing_more(discovery)
            monitor.send(tree.publish("1-1"))
            [added] = await take(discovery, 1)
            assert added.kind is ADDED and added.device is not None
            assert added.device.added_ns == event.seen_ns, "the time of the device's own uevent"

        watch([], body)

    def test_another_interfaces_uevent_decides_nothing(self, tree: Tree) -> None:
        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            raw = descriptors(interface(0, (3, 0, 0)) + interface(1) + ENDPOINTS)
            monitor.send(tree.plug(raw=raw, configured=False), tree.publish("1-1", "keys", 0))
            await nothing_more(discovery)
            monitor.send(tree.publish("1-1", "maglens", 1))
            [added] = await take(discovery, 1)
            assert added.kind is ADDED

        watch([], body)

    def test_any_configuration_may_be_the_one_that_comes(self, tree: Tree) -> None:
        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            raw = descriptors(interface() + ENDPOINTS, configuration(interface(1) + ENDPOINTS, value=2))
            monitor.send(tree.plug("1-1", raw=raw, configured=False), tree.publish("1-1", None, 0, active=2))
            await nothing_more(discovery)
            monitor.send(tree.publish("1-1", "probe", 1, active=2))
            [refused] = await take(discovery, 1)
            assert refused.kind is REFUSED

        watch([], body)

    def test_a_stranger_is_refused_with_its_reason(self, tree: Tree) -> None:
        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            monitor.send(tree.plug("1-1", text="probe"))
            monitor.send(tree.plug("1-2", text=None), tree.publish("1-2", None))
            events = await take(discovery, 2)
            assert [(e.kind, e.device) for e in events] == [(REFUSED, None)] * 2
            assert {e.port for e in events} == {"1-1", "1-2"} and all("stranger" in e.reason for e in events)
            assert discovery.present() == []

        watch([], body)

    def test_a_removal_before_the_interface_came_is_no_event(self, tree: Tree) -> None:
        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            event = tree.plug(configured=False)
            monitor.send(event, tree.unplug(event))
            await nothing_more(discovery)
            event = tree.plug(configured=False)
            discovery.handle(event)
            discovery.handle(tree.unplug(event))
            await nothing_more(discovery)

        watch([], body)

    def test_a_missed_removal_shows_with_the_next_device(self, tree: Tree) -> None:
        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            event = tree.plug()
            monitor.send(event, dataclasses.replace(event, devnum=99))
            assert [e.kind for e in await take(discovery, 3)] == [ADDED, REMOVED, ADDED]

        watch([], body)

    def test_lost_uevents_are_made_up_for(self, tree: Tree) -> None:
        one, two = tree.plug("1-1"), tree.plug("1-2")

        async def body(discovery: Discovery, monitor: FakeMonitor) -> None:
            tree.unplug(one)
            monitor.present = [two, tree.plug("1-3")]
            monitor.send(OSError(errno.ENOBUFS, "No buffer space available"))
            events = await take(discovery, 2)
            assert [(e.kind, e.port) for e in events] == [(REMOVED, "1-1"), (ADDED, "1-3")]
            assert [d.port for d in discovery.present()] == ["1-2", "1-3"]

        watch([one, two], body)
