# SPDX-License-Identifier: GPL-2.0-or-later
"""A module's endpoint 0 where its source fails, on files that are none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from maglens_driver.errors import Gone, MaglensError
from maglens_driver.gadget.drawn import NoPictures
from maglens_driver.gadget.faults import Faults
from maglens_driver.gadget.functionfs import Ep0Event, Ep0EventType, FunctionFs, Setup
from maglens_driver.gadget.module import Link, Module
from maglens_driver.gadget.stay import Stay
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import ModuleState, Op, Status
from tests.unit.usb_rig import DESCRIPTOR


class Files:
    """Of the function; what was replied."""

    bulk = interrupt = -1

    def __init__(self) -> None:
        self.replies: list[bytes] = []

    def halt_bulk(self) -> bool:
        return True

    def reply(self, payload: bytes) -> None:
        self.replies.append(payload)


class Broken(NoPictures):
    """A source that cannot be asked."""

    why: MaglensError

    async def get(self) -> Mapping[int, int]:
        raise self.why


@pytest.mark.parametrize(
    ("why", "ends"), [(Gone("the camera was unplugged"), True), (MaglensError("it is stuck"), False)]
)
def test_a_camera_that_left_while_nothing_was_sent_ends_its_module(why: MaglensError, ends: bool) -> None:
    files, lost = Files(), list[Exception]()

    async def ask() -> None:
        source = Broken(DESCRIPTOR)
        source.why = why
        link = Link(lambda: 5000, 5000)
        module = Module(source, DESCRIPTOR, link, cast(FunctionFs, files), stay=Stay(1), faults=Faults())
        module.streamer.on_lost = lost.append
        request = Setup(wire.REQUEST_IN, Op.CONTROLS, 0, 0, limits.MAX_CONTROL_BYTES)
        await asyncio.to_thread(module._handle, Ep0Event(Ep0EventType.SETUP, request))

    asyncio.run(ask())
    assert wire.open_payload(files.replies[0])[0].code == Status.FAULT, "the host is told"
    assert lost == ([why] if ends else [])


class Stuck(NoPictures):
    """A source whose stream cannot be ended."""

    why: MaglensError

    async def stop(self) -> None:
        raise self.why


@pytest.mark.parametrize("why", [Gone("unplugged"), MaglensError("it is stuck")], ids=["gone", "stuck"])
def test_a_camera_that_cannot_be_stopped_as_the_host_leaves_ends_its_module(why: MaglensError) -> None:
    """In words, and not by a thread that breaks."""
    lost = list[Exception]()

    async def leave() -> None:
        source = Stuck(DESCRIPTOR)
        source.why = why
        link = Link(lambda: 5000, 5000)
        module = Module(source, DESCRIPTOR, link, cast(FunctionFs, Files()), stay=Stay(1), faults=Faults())
        module.streamer.on_lost = lost.append
        module.responder.state = ModuleState.STREAMING
        await asyncio.to_thread(module._handle, Ep0Event(Ep0EventType.DISABLE))
        assert module.responder.state is ModuleState.FAULT

    asyncio.run(leave())
    assert lost == [why]
