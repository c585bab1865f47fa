# SPDX-License-Identifier: GPL-2.0-or-later
"""The conformance kit against modules that lie: it judges them, and does nothing as they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from maglens_daemon.cli.conform import parse_offers
from maglens_daemon.errors import Usage
from maglens_driver.conform import port_watch, tap
from maglens_driver.conform.check import Check, Result, Verdict
from maglens_driver.conform.port_watch import PortWatch
from maglens_driver.conform.run import Run, failed
from maglens_driver.conform.specimen import Specimen
from maglens_driver.conform.suite import chosen
from maglens_driver.errors import Deadline, Gone
from maglens_driver.link import wire
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo
from maglens_driver.link.wire import ModuleState, Op
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.discovery import DeviceEvent, DeviceEventKind
from maglens_driver.usb.fake import DEVICE, FakeModule
from tests.unit.test_conform import FACTS, quick
from tests.unit.usb_rig import DESCRIPTOR, FakeRig

U32 = 0xFFFFFFFF


def judged(bend: Callable[[FakeModule], None], *patterns: str) -> dict[str, str]:
    """Why a bent module's checks failed, by name."""
    rig = FakeRig(descriptor=quick(DESCRIPTOR), interval_s=0.01)
    bend(rig.module)
    specimen = Specimen(FACTS, rig.device, rig.transport)
    results = Run(specimen).make(chosen(patterns))
    specimen.close()
    return {r.check.name: r.why for r in results if r.verdict is not Verdict.PASS}


def configured(**wrong: int) -> Callable[[FakeModule], None]:
    """CONFIGURE is answered with that."""

    def bend(module: FakeModule) -> None:
        def reply(op: int, raw: bytes) -> bytes:
            if op != Op.RESULT or len(raw) != wire.Header.SIZE + wire.Configured.SIZE:
                return raw
            head, body = wire.open_payload(raw)
            return wire.pack_reply(
                wire.Status(head.code), head.tag, replace(wire.Configured.unpack(body), **wrong).pack()
            )

        module.reply = reply

    return bend


@pytest.mark.parametrize(
    "wrong",
    [
        {"payload_bytes": U32},
        {"interval_numerator": U32, "interval_denominator": 1},
        {"interval_denominator": 0},
        {"interval_numerator": 0},
    ],
    ids="-".join,
)
def test_neither_memory_nor_time_are_taken_as_a_module_says(wrong: dict[str, int]) -> None:
    why = judged(configured(**wrong), "stream.frames_come", "stream.rate", "flush.in_time")
    assert why.keys() == {"stream.frames_come", "stream.rate", "flush.in_time"}
    assert all("CONFIGURE of mode" in text for text in why.values()), why


def without_a_control(module: FakeModule) -> None:
    def reply(op: int, raw: bytes) -> bytes:
        if op != Op.CONTROLS:
            return raw
        told = wire.open_control_values(wire.open_payload(raw)[1])
        return wire.pack_reply(wire.Status.OK, 0, wire.pack_controls(told[1:]))

    module.reply = reply


def short_events(module: FakeModule) -> None:
    module.send_event(b"\1")


def asks_for_the_seventh(module: FakeModule) -> None:
    request = PdMessage(PdType.REQUEST, 0, (Rdo(7, 100, 100, give_back=True).pack(),))

    def reply(op: int, raw: bytes) -> bytes:
        waits = op == Op.POWER_RECEIVE and len(raw) > wire.Header.SIZE + 2
        return wire.pack_reply(wire.Status.OK, 0, request.pack(source=False)) if waits else raw

    module.reply = reply


@pytest.mark.parametrize(
    ("bend", "check", "told"),
    [
        (without_a_control, "controls.set_and_read", "CONTROLS does not tell of Focus"),
        (short_events, "events.times", "none can be read"),
        (asks_for_the_seventh, "power.covers_modes", "it asks for offer 7 of 2"),
        (asks_for_the_seventh, "power.goto_min", "it asks for offer 7 of 1"),
    ],
    ids=["no-control", "short-events", "modes", "goto-min"],
)
def test_what_is_wrong_is_named(bend: Callable[[FakeModule], None], check: str, told: str) -> None:
    assert told in judged(bend, check)[check]


def test_an_interval_of_the_largest_numbers_is_none_of_the_kit_s_troubles() -> None:
    odd = Fraction(U32 - 4, U32)
    modes = tuple(replace(mode, interval=odd) for mode in quick(DESCRIPTOR).modes)
    rig = FakeRig(descriptor=replace(quick(DESCRIPTOR), modes=modes))
    specimen = Specimen(FACTS, rig.device, rig.transport)
    results = Run(specimen).make(chosen(["configure.*"]))
    specimen.close()
    assert failed(results) == []


def test_a_defect_of_the_kit_s_own_ends_no_run() -> None:
    def broken(_s: Specimen) -> None:
        raise KeyError(5)

    rig = FakeRig(descriptor=quick(DESCRIPTOR))
    specimen = Specimen(FACTS, rig.device, rig.transport)
    results = Run(specimen).make([Check("a.broken", "it breaks", broken), *chosen(["info.state"])])
    specimen.close()
    assert [r.verdict for r in results] == [Verdict.FAIL, Verdict.PASS]
    assert results[0].why == "the kit itself failed: KeyError: 5"


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.NOTE, Verdict.SKIP])
def test_a_module_cannot_write_into_the_terminal(verdict: Verdict) -> None:
    result = Result(Check("a.key", "keys", lambda _s: None), verdict, "\x1b[2J\nok 9 - all is \x9bwell", 0.0)
    printed = tap.lines(1, result)
    assert all(line.isprintable() for line in printed), printed
    assert not any(line.startswith("ok 9") for line in printed)


@pytest.mark.parametrize("word", ["9000", "49:100", "51200:100", "5000:10240", "\u00b2:1", "1e9:3", "-5:5"])
def test_an_offer_that_no_port_can_make_is_refused_at_once(word: str) -> None:
    with pytest.raises(Usage, match="is no offer"):
        parse_offers([word])


def test_offers_are_at_most_seven() -> None:
    assert parse_offers(["5000:900", "9000:3000"]) == (FixedPdo(5000, 900), FixedPdo(9000, 3000))
    with pytest.raises(Usage, match="8 offers"):
        parse_offers(["5000:900"] * 8)


def test_who_calls_a_run_off_leaves_no_module_streaming() -> None:
    def interrupted(s: Specimen) -> None:
        s.started(s.small())
        raise KeyboardInterrupt

    rig = FakeRig(descriptor=quick(DESCRIPTOR))
    specimen = Specimen(FACTS, rig.device, rig.transport)
    with pytest.raises(KeyboardInterrupt):
        Run(specimen).make([Check("a.long", "it takes long", interrupted)])
    specimen.close()
    assert rig.module.responder.state is ModuleState.CONFIGURED


def test_a_module_that_has_left_or_hangs_is_closed_all_the_same() -> None:
    for why in (Gone("unplugged"), Deadline("no answer")):
        rig = FakeRig(descriptor=quick(DESCRIPTOR))
        specimen = Specimen(FACTS, rig.device, rig.transport)

        def silent(_op: int, _raw: bytes, why: Exception = why) -> bytes:
            raise why

        rig.module.reply = silent
        specimen.close()
        assert all(stream.closed for stream in rig.transport.streams)


class Bouncing:
    """A port whose module comes and goes, without end or so many times."""

    def __init__(self, times: int | None) -> None:
        self._times = times
        self._told = 0

    def present(self) -> list[UsbDevice]:
        return []

    async def events(self) -> AsyncIterator[DeviceEvent]:
        self._told += 1
        if self._times is None:
            await asyncio.sleep(0)  # so that somebody can lose patience
        elif self._told > 1 + 2 * self._times:
            await asyncio.Event().wait()
        kind = DeviceEventKind.ADDED if self._told % 2 else DeviceEventKind.REMOVED
        yield DeviceEvent(kind, DEVICE, DEVICE.port)


async def steady(times: int | None, limit_s: float) -> int:
    """How often it went."""
    watch: Any = PortWatch.__new__(PortWatch)
    watch._port, watch._discovery = DEVICE.port, Bouncing(times)
    async with asyncio.timeout(10):
        return int((await watch.steady(limit_s))[1])


def test_a_module_that_comes_and_goes_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_watch, "STEADY_S", 3600.0)
    with pytest.raises(Deadline, match=r"went \d+ times within 0.05 s"):
        asyncio.run(steady(None, 0.05))


def test_a_module_that_comes_and_goes_twice_is_there_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_watch, "STEADY_S", 0.02)
    assert asyncio.run(steady(2, 60.0)) == 2
