# SPDX-License-Identifier: GPL-2.0-or-later
"""The kit as it waits: for the event that it is about, for a module that is busy, and not for one that floods it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from maglens_driver.conform import event_checks, receiver
from maglens_driver.conform.check import Verdict
from maglens_driver.conform.specimen import Specimen
from maglens_driver.control import Cid
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import CapabilityLevel, CapabilityReason, EventKind, Op, Status
from maglens_driver.usb.fake import FakeModule
from tests.unit.test_conform import FACTS, Bench, FakeHand, quick
from tests.unit.usb_rig import DESCRIPTOR, FakeRig

Told = tuple[EventKind, int, int]
WARM: Told = (EventKind.CAPABILITY, CapabilityReason.TEMPERATURE, CapabilityLevel.FULL)
BUSY_S = 0.05


@pytest.fixture
def bench() -> Iterator[Bench]:
    rig = FakeRig(descriptor=quick(DESCRIPTOR))
    specimen = Specimen(FACTS, rig.device, rig.transport)
    yield Bench(rig, specimen)
    specimen.close()


def teller(module: FakeModule) -> Callable[[Told], None]:
    """Has the module send events, numbered from 1."""
    numbers = itertools.count(1)

    def tell(told: Told) -> None:
        kind, number, value = told
        event = wire.Event(wire.EVENT_MAGIC, 1, kind, next(numbers), number, value, module.clock())
        module.send_event(event.pack())

    return tell


def turning(*values: int) -> Told:
    return (EventKind.CONTROL, Cid.FOCUS_ABSOLUTE, values[0])


@pytest.mark.parametrize(
    "told", [(WARM, turning(60)), (turning(50), turning(60))], ids=["something-else-first", "turned-on"]
)
def test_a_ring_is_heard_to_the_end(told: tuple[Told, ...], bench: Bench) -> None:
    class Turner(FakeHand):
        def turn(self, ring: str) -> bool:
            bench.rig.module.values[Cid.FOCUS_ABSOLUTE] = 60
            tell = teller(bench.rig.module)
            for event in told:
                tell(event)
            return True

    bench.specimen.hand = Turner(bench.rig)
    assert bench.run("events.ring") == [], bench.why("events.ring")


def test_a_ring_that_says_nothing_is_caught(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Turner(FakeHand):
        def turn(self, ring: str) -> bool:
            teller(bench.rig.module)(WARM)
            return True

    monkeypatch.setattr(event_checks, "_HAND_S", 0.1)
    bench.specimen.hand = Turner(bench.rig)
    assert bench.run("events.ring") == ["events.ring"]
    assert bench.why("events.ring") == "turning the focus ring sent none"


def test_a_power_event_is_heard_behind_others(bench: Bench) -> None:
    module = bench.rig.module
    tell = teller(module)
    tell((EventKind.POWER, 0, 0))
    bench.specimen.receiver.wait_events(5.0, enough=1)

    def reply(op: int, raw: bytes) -> bytes:
        if op == Op.RESULT and module.requests[-2] == Op.POWER_SEND and module.sink.has_message:
            tell(WARM)
            tell((EventKind.POWER, 0, 0))
        return raw

    module.reply = reply
    bench.run("events.power_message")
    assert bench.results[-1].verdict is Verdict.PASS, bench.results[-1].why


def test_a_flood_of_events_is_noted_and_takes_no_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    most = limits.MAX_EVENTS_PER_S + 50
    monkeypatch.setattr(receiver, "MAX_EVENTS", most)
    tell = teller(bench.rig.module)
    for _ in range(2 * most):
        tell(WARM)
    bench.run("events.no_flood")
    (result,) = bench.results
    assert result.verdict is Verdict.NOTE
    assert result.why.startswith("201 are of ")
    bench.specimen.receiver.wait_events(0.05)
    assert len(bench.specimen.receiver.events) == most


def test_a_module_that_is_busy_for_a_moment_is_asked_again(bench: Bench) -> None:
    module = bench.rig.module
    began: list[float] = []

    def reply(op: int, raw: bytes) -> bytes:
        if op != Op.RESULT or module.requests[-2] != Op.CONFIGURE:
            return raw
        began.append(time.monotonic())
        if began[-1] - began[0] > BUSY_S:
            return raw
        return wire.pack_reply(Status.BUSY, wire.open_payload(raw)[0].tag)

    module.reply = reply
    assert bench.run("configure.test_only_every_mode") == [], bench.why("configure.test_only_every_mode")
    assert len(began) > 1
