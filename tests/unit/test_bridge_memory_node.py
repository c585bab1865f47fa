# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory node: conformance, and what only it has."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest

from maglens_driver.control import Cid, ControlInfo, ControlType
from maglens_driver.errors import Gone, WrongState
from maglens_driver.mode import NV12, YUYV, make_mode
from maglens_v4l2.memory_node import MemoryNode, MemoryReader
from maglens_v4l2.node import ControlChange, ControlSet, FormatChosen, InputChosen, NodeEvent
from tests.unit.node_conformance import CHECKS, App, Check, Picture

SMALL = make_mode(NV12, 128, 96, Fraction(1, 30))
WIDE = make_mode(YUYV, 192, 96, Fraction(1, 30))
FOCUS = ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus", ControlType.INTEGER, 0, 1000, 1, 0)


class MemoryApp:
    def __init__(self, reader: MemoryReader) -> None:
        self.reader = reader
        self.start, self.stop, self.close = reader.start, reader.stop, reader.close

    def next(self, timeout: float) -> Picture | None:
        got = self.reader.copy(timeout)
        return None if got is None else Picture(got[1], got[0].timestamp_ns, got[0].sequence)


class MemoryRig:
    def __init__(self) -> None:
        self.node = MemoryNode([SMALL])

    def open(self) -> App:
        return MemoryApp(self.node.open())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Check) -> None:
    asyncio.run(check(MemoryRig()))


async def first(node: MemoryNode, count: int) -> list[NodeEvent]:
    events: list[NodeEvent] = []
    async with asyncio.timeout(5):
        async for event in node.events():
            events.append(event)
            if len(events) == count:
                return events
    raise AssertionError("events ended")


def test_latest_wins_per_control() -> None:
    async def run() -> None:
        node = MemoryNode([SMALL], [FOCUS])
        reader = node.open()
        for value in range(100):
            reader.set_control(FOCUS.id, value)
        reader.choose_input(2)
        reader.choose_input(1)
        events = await first(node, 3)
        assert ControlSet(0, FOCUS.id, 99) in events
        assert InputChosen(0, 1) in events
        assert node.state().values == {FOCUS.id: 99}
        assert node.state().input == 1

    asyncio.run(run())


def test_format_is_locked_while_someone_streams() -> None:
    node = MemoryNode([SMALL, WIDE])
    reader = node.open()
    reader.start()
    with pytest.raises(WrongState):
        reader.choose_format(WIDE)
    reader.stop()
    reader.choose_format(WIDE)
    assert node.state().format == WIDE
    assert FormatChosen(0, WIDE) in asyncio.run(first(node, 2))
    with pytest.raises(WrongState):
        reader.choose_format(make_mode(NV12, 64, 64, Fraction(1, 30)))


def test_pushed_controls_reach_readers_of_this_generation_only() -> None:
    node = MemoryNode([SMALL], [FOCUS])
    reader = node.open()
    generation = node.adopt()
    node.push(generation, FOCUS.id, ControlChange(value=7))
    node.push(generation - 1, FOCUS.id, ControlChange(value=8))
    assert list(reader.changes) == [(FOCUS.id, ControlChange(value=7))]
    assert node.state().values[FOCUS.id] == 7


def test_a_second_listener_is_refused() -> None:
    async def run() -> None:
        node = MemoryNode([SMALL])
        node.open()
        events = node.events()
        await anext(events)
        with pytest.raises(WrongState):
            await anext(node.events())

    asyncio.run(run())


def test_reading_a_closed_node_is_gone() -> None:
    node = MemoryNode([SMALL])
    reader = node.open()
    reader.start()
    node.close()
    with pytest.raises(Gone):
        reader.read(1)
    with pytest.raises(Gone):
        node.repeat(1, 0)
