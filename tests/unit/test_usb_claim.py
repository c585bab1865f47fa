# SPDX-License-Identifier: GPL-2.0-or-later
"""Claiming a module's interface and queueing transfers: whatever goes wrong there, who waits hears of it."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest
import usb1

from maglens_driver.errors import Refused
from maglens_driver.link.wire import Op
from maglens_driver.source import FrameSink
from maglens_driver.usb import libusb
from maglens_driver.usb.slots import Ring
from tests.unit.source_conformance import RecordingSink
from tests.unit.usb_rig import FakeRig


def test_another_program_has_it() -> None:
    async def whole() -> None:
        rig = FakeRig(claim_error=Refused("CLAIMED", "another program uses it"))
        source = await rig.open()
        with pytest.raises(Refused):
            await source.configure(source.modes[0])
        rig.transport.claim_error = None  # it has ended
        await source.configure(source.modes[0])
        await source.close()

    asyncio.run(whole())


def test_an_error_that_nobody_declared_reaches_who_waits() -> None:
    async def whole() -> None:
        rig = FakeRig(claim_error=OSError(errno.EMFILE, "too many open files"))
        source = await rig.open()
        with pytest.raises(OSError, match="too many open files"):
            await asyncio.wait_for(source.configure(source.modes[0]), 5)
        with pytest.raises(OSError, match="too many open files"):
            await asyncio.wait_for(anext(aiter(source.events())), 5)
        rig.transport.claim_error = None
        await source.configure(source.modes[0])
        await source.close()

    asyncio.run(whole())


def test_a_defect_while_transfers_are_queued_reaches_who_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Ring, sink: FrameSink) -> None:
        raise ZeroDivisionError

    async def whole() -> None:
        rig = FakeRig()
        source = await rig.open()
        await source.configure(source.modes[0])
        monkeypatch.setattr(Ring, "fill", broken)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(source.start(RecordingSink(), 1), 5)
        await source.close()

    asyncio.run(whole())


def test_libusb_that_does_not_begin_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open("/dev/null", os.O_RDONLY)
    monkeypatch.setattr(libusb, "_open_node", lambda device: opened)

    def fails(context: usb1.USBContext) -> usb1.USBContext:
        raise usb1.USBErrorOther

    monkeypatch.setattr(usb1.USBContext, "open", fails)
    with pytest.raises(Refused, match="libusb does not begin"):
        libusb.Usb1Stream(FakeRig().device)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened)


def test_identifying_claims_nothing() -> None:
    async def whole() -> None:
        rig = FakeRig()
        source = await rig.open()
        assert rig.module.requests == [Op.INFO, Op.DESCRIPTOR] and not rig.transport.streams
        await source.close()

    asyncio.run(whole())
