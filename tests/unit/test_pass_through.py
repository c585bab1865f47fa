# SPDX-License-Identifier: GPL-2.0-or-later
"""Where module and app agree, a transfer's memory is the node's slot: nothing is copied on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from maglens_driver.frame import Lease
from maglens_driver.mode import NV12, SRGGB10P, YUYV, Mode, make_mode
from maglens_driver.usb.fake import FakeTransfer
from maglens_v4l2.memory_node import MemoryNode
from tests.tools.screen import Screen
from tests.unit.usb_rig import DESCRIPTOR, FakeRig

RATE = Fraction(1, 100)
WAIT_S = 10.0
SIZE = (128, 96)


def address(view: memoryview) -> int:
    """Where a buffer lies."""
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


def slots_of(node: MemoryNode, nbytes: int) -> list[range]:
    """Where the node's slots lie: all are borrowed for a moment."""
    loans: list[Lease] = []
    while (loan := node.lease(nbytes)) is not None:
        loans.append(loan)
    found = [range(address(loan.view), address(loan.view) + len(loan.view)) for loan in loans]
    for loan in loans:
        loan.release()
    return found


def received_into(
    mode: Mode, shown: Mode, monkeypatch: pytest.MonkeyPatch
) -> tuple[Sequence[range], Sequence[range], Sequence[bytes]]:
    """The node's slots, the memory that payloads were received into, and the pictures that an app saw."""
    received: list[range] = []
    submit = FakeTransfer.submit

    def noted(self: FakeTransfer, view: memoryview) -> None:
        if len(view) > 1024:  # no leader, trailer or tail
            received.append(range(address(view), address(view) + len(view)))
        submit(self, view)

    monkeypatch.setattr(FakeTransfer, "submit", noted)

    async def run() -> tuple[list[range], list[bytes]]:
        rig = FakeRig(descriptor=replace(DESCRIPTOR, modes=(mode,)), interval_s=0.005)
        source = await rig.open()
        screen = Screen(shown)
        slots = slots_of(screen.node, shown.nbytes)
        async with screen:
            configured = await source.configure(mode)
            await source.start(screen.pipeline.begin(1, configured), 1)
            pictures: list[bytes] = []
            while screen.pipeline.stats().submitted < 20:
                seen = await asyncio.to_thread(screen.reader.copy, WAIT_S)
                assert seen is not None
                pictures.append(seen[1])
            await source.close()
        return slots, pictures

    slots, pictures = asyncio.run(run())
    return slots, received, pictures


@pytest.mark.parametrize("code", [NV12, YUYV])
def test_transfers_land_in_the_nodes_slots(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = make_mode(code, *SIZE, RATE, mbit_s=1, mw=100)
    slots, received, pictures = received_into(mode, make_mode(code, *SIZE, RATE), monkeypatch)
    assert len(received) >= 20
    for memory in received:
        assert any(memory.start in slot and memory[-1] in slot for slot in slots)
    assert any(picture[0] != picture[1] == (picture[0] + 1) & 0xFF for picture in pictures)  # the module's pattern


def test_what_is_converted_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    mode = make_mode(SRGGB10P, *SIZE, RATE, mbit_s=1, mw=100)
    slots, received, _ = received_into(mode, make_mode(NV12, *SIZE, RATE), monkeypatch)
    assert len(received) >= 10
    assert not any(memory.start in slot for memory in received for slot in slots)
