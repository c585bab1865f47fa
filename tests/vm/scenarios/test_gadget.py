# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual module on a real kernel: udev sees it, and a reader that shares no code with the
product's host side gets its descriptor and its frames.
"""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pyudev
import usb1
from crc32c import crc32c

from maglens_driver.errors import BadModule, MaglensError
from maglens_driver.gadget.client import SimClient
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import NV12
from maglens_driver.names import CONFIGFS_GADGETS, SIM_RUNTIME_DIR, UDEV_INTERFACE_GLOB, USB_INTERFACE_STRING
from maglens_driver.virtual.mark import Mark, read
from tests.vm.conftest import WatchUdev, put_away

pytestmark = pytest.mark.usefixtures("without_daemon")

LENSES = ("35mm", "73mm", "234mm", "24-70mm")
INFO, DESCRIPTOR, RESULT, CONTROLS, POWER_RECEIVE = 0x01, 0x02, 0x04, 0x05, 0x06
CONFIGURE, START, STOP, FLUSH, SET_CONTROLS, POWER_SEND = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
OK, ADJUSTED, NO_CONTRACT, WRONG_STATE = 0, 1, 0x15, 0x14
TIMEOUT_MS = 3000
READY_S = 120.0
FRAMES = 8


class Reader:
    """The protocol in the plainest way: one request, one transfer at a time."""

    def __init__(self, context: usb1.USBContext, serial: str) -> None:
        for device in context.getDeviceList(skip_on_error=True):
            with contextlib.suppress(usb1.USBError):
                if device.getSerialNumber() == serial:
                    self.device = device
                    break
        else:
            raise LookupError(f"no USB device with serial {serial}")
        self.handle = self.device.open()
        self.handle.claimInterface(0)
        endpoints = [e for s in self.device.iterSettings() for e in s]
        self.bulk = next(e.getAddress() for e in endpoints if e.getAttributes() & 3 == 2)
        self.interrupt = next(e.getAddress() for e in endpoints if e.getAttributes() & 3 == 3)
        self.tag = 0
        self.numbers = itertools.count()

    def get(self, op: int, value: int = 0) -> tuple[int, bytes]:
        raw = bytes(self.handle.controlRead(0xC1, op, value, 0, 4096, TIMEOUT_MS))
        magic, major, code, length, _ = struct.unpack_from("<HBBHH", raw)
        assert (magic, major, length) == (0x4C4D, 1, len(raw))
        return code, raw[8:]

    def put(self, op: int, body: bytes = b"") -> tuple[int, bytes]:
        self.tag += 1
        payload = struct.pack("<HBBHH", 0x4C4D, 1, op, 8 + len(body), self.tag) + body
        self.handle.controlWrite(0x41, op, 0, 0, payload, TIMEOUT_MS)
        return self.get(RESULT, self.tag)

    def descriptor(self) -> Descriptor:
        code, info = self.get(INFO)
        assert code == OK
        size, crc = struct.unpack_from("<4xII", info)
        raw = b""
        while len(raw) < size:
            raw += self.get(DESCRIPTOR, len(raw) // 4088)[1]
        assert crc32c(raw) == crc
        return Descriptor.unpack(raw)

    def configure(self, descriptor: Descriptor, index: int) -> tuple[int, bytes]:
        mode = descriptor.modes[index]
        over, under = mode.interval.numerator, mode.interval.denominator
        body = struct.pack("<HHIIIIII", index, 0, mode.fourcc, mode.width, mode.height, over, under, 0)
        return self.put(CONFIGURE, body)

    def contract(self, mv: int = 5000, ma: int = 900) -> None:
        """Offer one supply and grant what is asked."""
        offer = struct.pack("<HI", 1 << 12 | self.number() << 9 | 1 << 8 | 2 << 6 | 1, mv // 50 << 10 | ma // 10)
        assert self.put(POWER_SEND, offer)[0] == OK
        code, request = self.get(POWER_RECEIVE)
        assert code == OK
        assert request[0] & 0x1F == 2
        for kind in (3, 6):  # Accept, PS_RDY
            assert self.put(POWER_SEND, struct.pack("<H", self.number() << 9 | 1 << 8 | 2 << 6 | kind))[0] == OK

    def number(self) -> int:
        """Of the next power message."""
        return next(self.numbers) % 8

    def frame(self, room: int) -> tuple[tuple[int, ...], bytes, bytes]:
        """Leader's epoch, id, width, height, payload length; payload; trailer."""
        leader = bytes(self.handle.bulkRead(self.bulk, 1024, TIMEOUT_MS))
        assert leader[:4] == b"MLLD"
        assert crc32c(leader[:8] + bytes(4) + leader[12:]) == struct.unpack_from("<I", leader, 8)[0]
        epoch, frame_id, _, _, width, height, _, nbytes = struct.unpack_from("<IQQIIIII", leader, 12)
        payload = bytes(self.handle.bulkRead(self.bulk, (room // 1024 + 1) * 1024, TIMEOUT_MS))
        trailer = bytes(self.handle.bulkRead(self.bulk, 1024, TIMEOUT_MS))
        return (epoch, frame_id, width, height, nbytes), payload, trailer

    def close(self) -> None:
        self.handle.close()


@contextlib.contextmanager
def simulator(name: str) -> Iterator[SimClient]:
    """A virtual module in a process of its own, detached."""
    process = subprocess.Popen(
        [sys.executable, "-m", "maglens_driver.gadget.sim", name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready"), line
        with SimClient(name) as client:
            yield client
    finally:
        process.terminate()
        assert process.wait(READY_S) == 0


@pytest.fixture(scope="module", autouse=True)
def kernel_modules() -> None:
    subprocess.run(["modprobe", "-a", "libcomposite", "dummy_hcd"], check=True)


@pytest.fixture
def usb() -> Iterator[usb1.USBContext]:
    with usb1.USBContext() as context:
        yield context


def is_module(device: pyudev.Device) -> bool:
    return fnmatch.fnmatch(device.properties.get("ID_USB_INTERFACES", ""), UDEV_INTERFACE_GLOB)


def interface_string(device: pyudev.Device) -> str:
    """As the kernel shows it; it is there by the time that udev has run its rules."""
    interface = Path(device.sys_path) / f"{Path(device.sys_path).name}:1.0"
    return (interface / "interface").read_text().strip()


def index_of(descriptor: Descriptor, code: int, width: int, rate: int) -> int:
    return next(
        i
        for i, m in enumerate(descriptor.modes)
        if (m.fourcc, m.width, m.interval.denominator) == (code, width, rate)
    )


def luma(payload: bytes, width: int, height: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(payload, np.uint8, width * height).reshape(height, width)


@pytest.mark.parametrize("name", LENSES)
def test_each_lens_is_seen_and_streams(name: str, usb: usb1.USBContext, wait_for_udev: WatchUdev) -> None:
    watch = wait_for_udev("usb", "usb_device")
    with simulator(name) as sim:
        stay = sim.attach()["stay"]
        added = watch.next("add", is_module, READY_S)
        assert interface_string(added) == USB_INTERFACE_STRING
        assert added.properties["ID_SERIAL_SHORT"] == sim.status()["identity"]["serial"]
        assert sim.status()["stays"][-1]["vendor_requests"] == 0

        reader = Reader(usb, f"SIM-{name}")
        descriptor = reader.descriptor()
        assert descriptor.identity.serial == f"SIM-{name}"
        reader.contract()
        assert sim.status()["power_state"] == "contract"
        index = index_of(descriptor, NV12, 640, 15)
        mode = descriptor.modes[index]
        assert reader.configure(descriptor, index)[0] == OK
        assert reader.put(START, struct.pack("<I", 1))[0] == OK
        marks = []
        for _ in range(FRAMES):
            (epoch, _, width, height, nbytes), payload, trailer = reader.frame(mode.nbytes)
            assert (epoch, width, height, nbytes) == (1, 640, 480, mode.nbytes)
            assert crc32c(payload) == struct.unpack_from("<I", trailer, 28)[0]
            marks.append(read(luma(payload, width, height)))
        numbers = [m.number for m in marks if isinstance(m, Mark)]
        assert len(numbers) == FRAMES
        assert numbers == sorted(set(numbers))
        status = sim.status()
        assert {(m.source, m.generation) for m in marks if isinstance(m, Mark)} == {(status["mark"], 1)}

        assert reader.put(FLUSH, struct.pack("<I", 2))[0] == OK
        assert reader.frame(mode.nbytes)[0][0] == 2
        assert reader.put(STOP)[0] == OK
        reader.close()

        told = sim.detach()["stay"]
        removed = watch.next("remove", lambda d: d.sys_path == added.sys_path)
        assert removed.sys_path == added.sys_path
        sent = {number for first, last in told["runs"] for number in range(first, last + 1)}
        assert set(numbers) <= sent
        assert told["frames_sent"] >= FRAMES
        assert stay["attach_ns"] < told["enabled_ns"] < told["first_frame_ns"] < told["detach_ns"]


@pytest.fixture(scope="module")
def lasting_sim() -> Iterator[SimClient]:
    """One process for most tests: on an emulated processor it takes its time to start."""
    with simulator("35mm:a") as client:
        yield client


@pytest.fixture
def sim(lasting_sim: SimClient) -> Iterator[SimClient]:
    """A module that is detached and well, before and after."""
    yield lasting_sim
    put_away(lasting_sim)


@pytest.fixture
def attached(sim: SimClient, usb: usb1.USBContext, wait_for_udev: WatchUdev) -> Iterator[tuple[SimClient, Reader]]:
    watch = wait_for_udev("usb", "usb_device")
    sim.attach()
    watch.next("add", is_module, READY_S)
    reader = Reader(usb, sim.status()["identity"]["serial"])
    yield sim, reader
    reader.close()


def test_states_controls_and_power_over_usb(attached: tuple[SimClient, Reader]) -> None:
    sim, reader = attached
    descriptor = reader.descriptor()
    assert reader.put(START, struct.pack("<I", 1))[0] == WRONG_STATE
    reader.contract(5000, 300)
    dear = index_of(descriptor, NV12, 1920, 30)
    assert reader.configure(descriptor, dear)[0] == NO_CONTRACT
    reader.contract(5000, 900)
    assert reader.configure(descriptor, dear)[0] == OK
    code, body = reader.put(SET_CONTROLS, struct.pack("<HHIIq", 1, 0, 0x009A090A, 0, 99999))
    assert (code, struct.unpack("<HHIIq", body)) == (OK, (1, 0, 0x009A090A, ADJUSTED, 400))
    assert sim.status()["controls"][str(0x009A090A)] == 400

    sim.ring("focus", 123)
    event = bytes(reader.handle.interruptRead(reader.interrupt, 64, TIMEOUT_MS))
    while event[3] != 1:  # the contract's events come first
        event = bytes(reader.handle.interruptRead(reader.interrupt, 64, TIMEOUT_MS))
    assert struct.unpack_from("<Ii", event, 8) == (0x009A090A, 123)
    code, body = reader.get(CONTROLS)
    values = dict(struct.unpack_from("<I4xq", body, 4 + 16 * i) for i in range(len(body) // 16))
    assert values[0x009A090A] == 123
    sim.detach()
    assert sim.status()["controls"][str(0x009A090A)] == 50  # without power it forgets


def test_every_damaged_frame_is_followed_by_a_good_one(attached: tuple[SimClient, Reader]) -> None:
    """Payload faults change lengths or sums, and the frame after is whole."""
    sim, reader = attached
    descriptor = reader.descriptor()
    reader.contract()
    index = index_of(descriptor, NV12, 640, 15)
    nbytes = descriptor.modes[index].nbytes
    assert reader.configure(descriptor, index)[0] == OK
    assert reader.put(START, struct.pack("<I", 1))[0] == OK
    expected = {"payload-short": nbytes - 10_000, "payload-long": nbytes + 10_000, "payload-crc": nbytes}
    for fault, length in expected.items():
        sim.fault(fault)
        for _ in range(FRAMES):
            _, payload, trailer = reader.frame(nbytes + 16_384)
            good = len(payload) == nbytes and crc32c(payload) == struct.unpack_from("<I", trailer, 28)[0]
            if not good:
                break
        assert not good
        assert len(payload) == length
        assert len(reader.frame(nbytes)[1]) == nbytes
    sim.fault("halt")
    with pytest.raises(usb1.USBErrorPipe):
        for _ in range(FRAMES):
            reader.frame(nbytes)
    reader.handle.clearHalt(reader.bulk)
    assert reader.put(FLUSH, struct.pack("<I", 2))[0] == OK
    assert reader.frame(nbytes)[0][0] == 2
    sim.fault("stall")
    with pytest.raises(usb1.USBErrorTimeout):
        for _ in range(FRAMES):
            reader.frame(nbytes)
    assert reader.get(INFO)[0] == OK
    sim.clear()
    assert reader.put(FLUSH, struct.pack("<I", 3))[0] == OK
    assert reader.frame(nbytes)[0][0] == 3
    committed = sim.status()["committed"]
    assert {committed[f] for f in (*expected, "halt")} == {1}


def test_replies_go_wrong_as_asked(attached: tuple[SimClient, Reader]) -> None:
    sim, reader = attached
    sim.fault("reply-short")
    assert len(reader.handle.controlRead(0xC1, INFO, 0, 0, 4096, TIMEOUT_MS)) == 28
    sim.fault("reply-long")
    assert len(reader.handle.controlRead(0xC1, INFO, 0, 0, 4096, TIMEOUT_MS)) == 48
    sim.fault("reply-magic")
    assert bytes(reader.handle.controlRead(0xC1, INFO, 0, 0, 4096, TIMEOUT_MS))[:2] == b"XX"
    sim.fault("reply-never")
    with pytest.raises(usb1.USBErrorTimeout):
        reader.handle.controlRead(0xC1, INFO, 0, 0, 4096, 500)
    sim.fault("reply-late", value=1500)
    with pytest.raises(usb1.USBErrorTimeout):
        reader.handle.controlRead(0xC1, INFO, 0, 0, 4096, 500)
    sim.fault("hang")
    with pytest.raises(usb1.USBErrorTimeout):
        reader.handle.controlRead(0xC1, INFO, 0, 0, 4096, 500)
    sim.clear()
    assert reader.descriptor().identity.serial == "SIM-35mm:a"
    sim.fault("descriptor-huge")
    with pytest.raises(BadModule, match="width"):
        reader.descriptor()
    sim.clear("descriptor-huge")
    assert reader.descriptor().lens.focal_um == (35_000, 35_000)


def test_a_stranger_is_counted_and_never_answers(
    sim: SimClient, usb: usb1.USBContext, wait_for_udev: WatchUdev
) -> None:
    watch = wait_for_udev("usb", "usb_device")
    sim.fault("stranger")
    sim.attach()
    added = watch.next("add", is_module, READY_S)
    assert interface_string(added) != USB_INTERFACE_STRING
    assert sim.status()["stays"][-1]["vendor_requests"] == 0
    reader = Reader(usb, "SIM-35mm:a")
    with pytest.raises(usb1.USBErrorPipe):
        reader.get(INFO)
    reader.close()
    assert sim.detach()["stay"]["vendor_requests"] == 1
    sim.clear()
    sim.attach()
    assert interface_string(watch.next("add", is_module, READY_S)) == USB_INTERFACE_STRING


def test_contact_bounce_makes_stays_of_its_own(sim: SimClient, wait_for_udev: WatchUdev) -> None:
    watch = wait_for_udev("usb", "usb_device")
    sim.fault("bounce", count=3, value=5)
    last = sim.attach()["stay"]["generation"]
    watch.next("add", is_module, READY_S)
    stays = sim.status()["stays"][-4:]
    assert [s["generation"] for s in stays] == [last - 3, last - 2, last - 1, last]
    assert [bool(s["detached_ns"]) for s in stays] == [True, True, True, False]


def test_pulled_while_a_frame_is_under_way(attached: tuple[SimClient, Reader]) -> None:
    sim, reader = attached
    descriptor = reader.descriptor()
    reader.contract()
    assert reader.configure(descriptor, index_of(descriptor, NV12, 1280, 15))[0] == OK
    assert reader.put(START, struct.pack("<I", 1))[0] == OK
    reader.handle.bulkRead(reader.bulk, 1024, TIMEOUT_MS)
    reader.handle.bulkRead(reader.bulk, 65_536, TIMEOUT_MS)
    stay = sim.detach()["stay"]
    assert stay["frames_sent"] == 0
    assert stay["frames_cut"] == 1
    with pytest.raises(usb1.USBError):
        reader.handle.bulkRead(reader.bulk, 1024, TIMEOUT_MS)
    assert sim.attach()["stay"]["generation"] == stay["generation"] + 1


def test_ten_times_on_and_off(sim: SimClient) -> None:
    sim.attach()
    sim.detach()
    before, pid = sim.status(), sim.status()["pid"]
    threads, files = (len(list(Path(f"/proc/{pid}/{kind}").iterdir())) for kind in ("task", "fd"))
    began = time.monotonic()
    for _ in range(10):
        sim.attach()
        sim.detach()
    print(f"ten times on and off: {time.monotonic() - began:.2f} s")
    assert len(sim.status()["stays"]) == len(before["stays"]) + 10
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) <= threads + 1  # the pool of asyncio may grow by one
    assert len(list(Path(f"/proc/{pid}/fd").iterdir())) <= files


def test_two_at_once_and_swapped(sim: SimClient, wait_for_udev: WatchUdev) -> None:
    watch = wait_for_udev("usb", "usb_device")
    with simulator("73mm:spare") as other:
        first = sim.attach()["udc"]
        second = other.attach()["udc"]
        assert first != second
        ports = {watch.next("add", is_module, READY_S).properties["ID_SERIAL_SHORT"] for _ in range(2)}
        assert ports == {"SIM-35mm:a", "SIM-73mm:spare"}
        other.detach()
        off, on = sim.swap(other)
        assert off["udc"] == on["udc"] == first
        other.detach()
        other.set_serial("SIM-35mm:a")
        assert other.attach()["stay"]["generation"] > 1
        assert other.status()["identity"]["serial"] == "SIM-35mm:a"
        with pytest.raises(MaglensError, match="is attached"):
            other.set_serial("x")


def test_nothing_is_left_behind() -> None:
    with simulator("73mm:gone") as sim:
        pid = sim.status()["pid"]
        sim.attach()
        assert Path(SIM_RUNTIME_DIR, "73mm:gone.sock").is_socket()
        process = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        assert select.select([process], [], [], READY_S)[0]
        os.close(process)
        assert not list(Path(SIM_RUNTIME_DIR).glob("*gone*"))
        assert not list(Path(CONFIGFS_GADGETS).glob("*gone*"))
