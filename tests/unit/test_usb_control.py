# SPDX-License-Identifier: GPL-2.0-or-later
"""Control requests: what a module may answer, what it may not, and what is made of errors on the bus."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import struct
import threading
from array import array
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import usb.core

from maglens_driver.control import Cid
from maglens_driver.errors import BadModule, Deadline, Gone, MaglensError, Refused, WrongState
from maglens_driver.gadget.power import SinkContract
from maglens_driver.link import limits, wire
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo, source_capabilities
from maglens_driver.link.wire import Op, Status
from maglens_driver.usb import libusb
from maglens_driver.usb.control import ModuleControl
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.fake import DEVICE
from maglens_driver.usb.libusb import PyusbControl
from maglens_driver.usb.requests import Requests, _unpack_descriptor
from tests.unit.usb_rig import DESCRIPTOR, FakeRig

T = TypeVar("T")
Reply = Callable[[int, bytes], bytes]
WAIT_S = 10.0


def run(rig: FakeRig, body: Callable[[ModuleControl], Awaitable[T]]) -> T:
    async def whole() -> T:
        control = await ModuleControl.open(DEVICE, rig.transport)
        try:
            return await body(control)
        finally:
            await control.close()

    return asyncio.run(whole())


def only(op: Op, change: Callable[[bytes], bytes]) -> Reply:
    return lambda got, raw: change(raw) if got == op else raw


def rebuilt(raw: bytes, body: Callable[[bytes], bytes]) -> bytes:
    head, old = wire.open_payload(raw)
    return wire.pack_reply(Status(head.code), head.tag, body(old))


def info_with(**changes: int) -> Reply:
    return only(
        Op.INFO, lambda raw: rebuilt(raw, lambda b: dataclasses.replace(wire.Info.unpack(b), **changes).pack())
    )


class TestAnswers:
    def test_identify(self) -> None:
        async def body(control: ModuleControl) -> None:
            info = await control.info()
            assert info.boot_id == rig.module.responder.boot_id and info.state == wire.ModuleState.IDLE
            assert await control.descriptor() == DESCRIPTOR
            assert rig.module.requests == [Op.INFO, Op.DESCRIPTOR]

        rig = FakeRig()
        run(rig, body)

    def test_a_descriptor_of_several_blocks(self) -> None:
        modes = tuple(dataclasses.replace(DESCRIPTOR.modes[0], mw=i) for i in range(limits.MAX_MODES))
        long = dataclasses.replace(DESCRIPTOR, modes=modes)
        blocks = -(-len(long.pack()) // limits.DESCRIPTOR_BLOCK_BYTES)
        assert blocks > 1

        async def body(control: ModuleControl) -> None:
            assert await control.descriptor() == long
            assert rig.module.requests.count(Op.DESCRIPTOR) == blocks

        rig = FakeRig(descriptor=long)
        run(rig, body)

    def test_clock(self) -> None:
        async def body(control: ModuleControl) -> None:
            before, module, after = await control.clock_sample()
            assert module == 123 and before <= after

        run(FakeRig(clock=lambda: 123), body)

    def test_controls(self) -> None:
        async def body(control: ModuleControl) -> None:
            assert await control.set_controls({Cid.IRIS_ABSOLUTE: 9999, Cid.FOCUS_ABSOLUTE: 7}) == {
                Cid.IRIS_ABSOLUTE: 600,
                Cid.FOCUS_ABSOLUTE: 7,
            }
            assert (await control.controls())[Cid.FOCUS_ABSOLUTE] == 7
            with pytest.raises(Refused) as error:
                await control.set_controls({5: 1})
            assert error.value.status == "INVALID"

        run(FakeRig(), body)

    def test_power(self) -> None:
        async def body(control: ModuleControl) -> None:
            assert await control.power_receive() is None
            await control.power_send(source_capabilities([FixedPdo(5000, 900)], 0))
            request = await control.power_receive()
            assert request is not None and request.type is PdType.REQUEST
            assert Rdo.unpack(request.objects[0]).operating_ma == 100
            await control.power_send(PdMessage(PdType.ACCEPT, 1))
            await control.power_send(PdMessage(PdType.PS_RDY, 2))
            assert rig.module.sink.allowed_mw == 500
            with pytest.raises(WrongState):
                await control.power_send(PdMessage(PdType.ACCEPT, 3))

        rig = FakeRig()
        run(rig, body)

    def test_refusals_have_their_own_errors(self) -> None:
        async def body(control: ModuleControl) -> None:
            with pytest.raises(WrongState):
                await control.start(1)
            with pytest.raises(Refused) as error:
                await control.configure(wire.Configure(99, 0, 0, 0, 0, 1, 1))
            assert error.value.status == "INVALID"
            rig.module.sink.contract = SinkContract(5000, 50)
            with pytest.raises(Refused) as error:
                await control.configure(wire.Configure(0, 0, 0, 0, 0, 1, 1))
            assert error.value.status == "NO_CONTRACT" and "budget" in error.value.hint

        rig = FakeRig()
        run(rig, body)

    def test_a_longer_body_of_a_newer_minor_version_is_read(self) -> None:
        async def body(control: ModuleControl) -> None:
            assert (await control.info()).boot_id == rig.module.responder.boot_id

        rig = FakeRig(reply=only(Op.INFO, lambda raw: rebuilt(raw, lambda b: b + bytes(40))))
        run(rig, body)


BAD_REPLIES: dict[str, tuple[str, Reply]] = {
    "empty": ("control_length", only(Op.INFO, lambda raw: b"")),
    "short": ("control_length", only(Op.INFO, lambda raw: raw[:-4])),
    "long": ("control_length", only(Op.INFO, lambda raw: raw + bytes(16))),
    "short body": ("control_length", only(Op.INFO, lambda raw: rebuilt(raw, lambda b: b[:20]))),
    "magic": ("control_magic", only(Op.INFO, lambda raw: b"XX" + raw[2:])),
    "major": ("control_version", only(Op.INFO, lambda raw: raw[:2] + b"\2" + raw[3:])),
    "tag": ("control_tag", only(Op.INFO, lambda raw: raw[:6] + b"\5\0" + raw[8:])),
    "status": ("control_status", only(Op.INFO, lambda raw: raw[:3] + b"\x77" + raw[4:])),
    "state": ("info_state", info_with(state=9)),
    "no descriptor": ("descriptor_length", info_with(descriptor_bytes=0)),
    "huge descriptor": ("descriptor_length", info_with(descriptor_bytes=limits.MAX_DESCRIPTOR_BYTES + 1)),
    "descriptor's crc": ("descriptor_crc", info_with(descriptor_crc32c=1)),
    "truncated block": (
        "descriptor_truncated",
        only(Op.DESCRIPTOR, lambda raw: rebuilt(raw, lambda b: b[:-1])),
    ),
    "empty block": ("descriptor_truncated", only(Op.DESCRIPTOR, lambda raw: rebuilt(raw, lambda b: b""))),
    "long block": ("descriptor_length", only(Op.DESCRIPTOR, lambda raw: rebuilt(raw, lambda b: b + b"\0"))),
}


@pytest.mark.parametrize("name", BAD_REPLIES)
def test_a_bad_reply_has_its_cause(name: str) -> None:
    cause, reply = BAD_REPLIES[name]

    async def body(control: ModuleControl) -> None:
        with pytest.raises(BadModule) as error:
            await control.descriptor()
        assert error.value.cause == cause
        rig.module.reply = lambda op, raw: raw  # nothing of it stays behind
        control._info = None
        assert await control.descriptor() == DESCRIPTOR

    rig = FakeRig(reply=reply)
    run(rig, body)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda b: b[:-1], "length"),
        (lambda b: b"\x41\0" + b[2:], "controls_count"),
        (lambda b: wire.ControlCount(0).pack(), "controls_ids"),
        (lambda b: b[:4] + b"\1" + b[5:], "controls_ids"),
        (lambda b: b[:12] + struct.pack("<q", 1 << 31), "controls_value"),
        (lambda b: b[:12] + struct.pack("<q", -(1 << 31) - 1), "controls_value"),
    ],
)
def test_a_bad_list_of_controls(change: Callable[[bytes], bytes], cause: str) -> None:
    async def body(control: ModuleControl) -> None:
        with pytest.raises(BadModule) as error:
            await control.set_controls({Cid.FOCUS_ABSOLUTE: 7})
        assert error.value.cause == cause

    run(FakeRig(reply=only(Op.RESULT, lambda raw: rebuilt(raw, change))), body)


def test_a_bad_power_message() -> None:
    async def body(control: ModuleControl) -> None:
        with pytest.raises(BadModule) as error:
            await control.power_receive()
        assert error.value.cause == "pd_length"

    run(FakeRig(reply=only(Op.POWER_RECEIVE, lambda raw: wire.pack_reply(Status.OK, 0, b"\1"))), body)


def test_the_result_of_another_request_is_refused() -> None:
    async def body(control: ModuleControl) -> None:
        with pytest.raises(BadModule) as error:
            await control.stop()
        assert error.value.cause == "control_tag"

    run(FakeRig(reply=only(Op.RESULT, lambda raw: raw[:6] + b"\xff\0" + raw[8:])), body)


def test_tags_are_never_0_and_never_twice_in_a_row() -> None:
    tags = []

    def reply(op: int, raw: bytes) -> bytes:
        if op == Op.RESULT:
            tags.append(wire.open_payload(raw)[0].tag)
        return raw

    async def body(control: ModuleControl) -> None:
        await control.run(lambda r: setattr(r, "_tag", 0xFFFD))
        for _ in range(5):
            await control.stop()

    run(FakeRig(reply=reply), body)
    assert tags == [0xFFFE, 0xFFFF, 1, 2, 3]


def test_after_close_everything_is_gone() -> None:
    async def whole() -> None:
        control = await ModuleControl.open(DEVICE, FakeRig().transport)
        await control.close()
        await control.close()
        with pytest.raises(Gone):
            await control.info()

    asyncio.run(whole())


def test_a_thread_that_the_kernel_holds_is_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maglens_driver.link.limits.REPLY_S", 0.05)
    monkeypatch.setattr("maglens_driver.usb.control._GRACE_S", 0.05)

    async def body(control: ModuleControl) -> None:
        release = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(_: object) -> None:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result()

        with pytest.raises(Deadline):
            await control.run(hold)
        release.set()
        assert await control.info()

    run(FakeRig(), body)


class StubDevice:
    """pyusb's device, with a script of what ``ctrl_transfer`` does."""

    def __init__(self, *script: Exception | int) -> None:
        self.script = list(script)
        self.calls: list[tuple[Any, ...]] = []

    def ctrl_transfer(self, *call: Any) -> int:
        self.calls.append(call)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


def usb_error(number: int) -> usb.core.USBError:
    return usb.core.USBError("text", -1, number)


class TestBus:
    """PyusbControl: what is made of libusb's errors."""

    def pipe(self, monkeypatch: pytest.MonkeyPatch, *script: Exception | int) -> tuple[PyusbControl, StubDevice]:
        stub = StubDevice(*script)
        monkeypatch.setattr("maglens_driver.usb.libusb._find", lambda device: stub)
        return PyusbControl(DEVICE), stub

    @pytest.mark.parametrize(
        ("script", "kind", "cause"),
        [
            ([usb_error(errno.ENODEV)], Gone, ""),
            ([usb_error(errno.EACCES)], Refused, "ACCESS"),
            ([usb_error(errno.ETIMEDOUT)], Deadline, ""),
            ([usb_error(errno.EPIPE)], BadModule, "control_stall"),
            ([usb_error(errno.EIO), 2], BadModule, "control_io"),
            ([usb_error(errno.EIO), usb_error(errno.EIO)], Gone, ""),
            ([usb_error(errno.EIO), usb_error(errno.ENODEV)], Gone, ""),
            ([usb_error(errno.EOVERFLOW), 2], BadModule, "control_io"),
        ],
    )
    def test_errors(
        self, script: list[Exception | int], kind: type[MaglensError], cause: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipe, stub = self.pipe(monkeypatch, *script)
        with pytest.raises(kind) as error:
            pipe.read(Op.INFO, 0, 0.5)
        assert cause in (getattr(error.value, "cause", ""), getattr(error.value, "status", ""), "")
        assert DEVICE.port in str(error.value)
        assert not stub.script

    def test_calls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipe, stub = self.pipe(monkeypatch, 5, 3)
        assert pipe.read(Op.DESCRIPTOR, 7, 0.5) == bytes(5)
        pipe.write(Op.STOP, 0, b"abc", 0.25)
        (kind, request, value, index, buffer, timeout), write = stub.calls
        assert (kind, request, value, index, timeout) == (0xC1, Op.DESCRIPTOR, 7, DEVICE.interface_number, 500)
        assert len(buffer) == limits.MAX_CONTROL_BYTES
        assert write == (0x41, Op.STOP, 0, DEVICE.interface_number, array("B", b"abc"), 250)


class LateLibusb:
    """A backend that lists the device at the ``nth`` call of ``enumerate_devices``; ``on_list`` hears of each."""

    def __init__(self, device: UsbDevice, nth: int, on_list: Callable[[], None] = lambda: None) -> None:
        self.calls = 0
        self._nth, self._on_list = nth, on_list
        self.lib = SimpleNamespace(
            libusb_get_device_address=lambda devid: device.devnum if devid == "ours" else 0,
            libusb_get_bus_number=lambda devid: device.busnum,
        )

    def enumerate_devices(self) -> Iterator[Any]:
        self.calls += 1
        self._on_list()
        yield SimpleNamespace(devid="another")
        if self.calls >= self._nth:
            yield SimpleNamespace(devid="ours")


class TestListing:
    """libusb learns of a device by itself, maybe after we do."""

    @pytest.fixture
    def device(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UsbDevice:
        node = tmp_path / "node"
        node.touch()
        monkeypatch.setattr("usb.core.Device", lambda candidate, backend: candidate)
        monkeypatch.setattr(libusb, "LISTED_S", 0.1)
        return dataclasses.replace(DEVICE, devnode=str(node))

    def use(self, backend: LateLibusb, monkeypatch: pytest.MonkeyPatch) -> LateLibusb:
        monkeypatch.setattr(libusb, "libusb_backend", lambda: backend)
        return backend

    def test_a_device_that_is_listed_late(
        self, device: UsbDevice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(libusb, "LISTED_S", 60.0)
        backend = self.use(LateLibusb(device, 3), monkeypatch)
        with caplog.at_level("DEBUG"):
            assert libusb._find(device).devid == "ours"
        assert backend.calls == 3 and "late" in caplog.text

    def test_one_that_is_there_and_never_listed(self, device: UsbDevice, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = self.use(LateLibusb(device, 1_000_000), monkeypatch)
        with pytest.raises(Deadline, match="has not listed"):
            libusb._find(device)
        assert backend.calls > 1

    def test_one_that_goes_meanwhile(self, device: UsbDevice, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = LateLibusb(device, 4, lambda: Path(device.devnode).unlink() if backend.calls == 2 else None)
        self.use(backend, monkeypatch)
        with pytest.raises(Gone):
            libusb._find(device)
        assert backend.calls == 2


def test_descriptors_are_decoded_once() -> None:
    """The same module comes back again and again."""
    _unpack_descriptor.cache_clear()
    for _ in range(3):
        run(FakeRig(), ModuleControl.descriptor)
    assert _unpack_descriptor.cache_info().misses == 1


def test_a_device_is_closed_though_nobody_waits_for_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that a module leaves unanswered holds the thread; meanwhile the stay ends, and its deadline, too."""

    async def body() -> None:
        rig = FakeRig()
        control = await ModuleControl.open(DEVICE, rig.transport)
        begun, answered, closed = threading.Event(), threading.Event(), threading.Event()
        monkeypatch.setattr(control._opening.result(), "close", closed.set)

        def hang(_: Requests) -> None:
            begun.set()
            answered.wait(WAIT_S)

        hung = control.submit(hang)
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        closing = asyncio.create_task(control.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        answered.set()
        hung.result(WAIT_S)
        assert await asyncio.to_thread(closed.wait, WAIT_S), "the device is open for ever"

    asyncio.run(body())
