# SPDX-License-Identifier: GPL-2.0-or-later
"""The conformance kit over the fake transport: a sound module passes, and every fault has a check that names it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest

from maglens_driver.conform import stream_checks, tap
from maglens_driver.conform.check import Check, Failed, Result, Skipped, Verdict
from maglens_driver.conform.run import SILENT_AFTER, Run, failed
from maglens_driver.conform.specimen import Specimen
from maglens_driver.conform.suite import GROUPS, SUITE, chosen
from maglens_driver.conform.usb_facts import EndpointFacts, UsbFacts, read_facts
from maglens_driver.control import Cid
from maglens_driver.errors import Deadline
from maglens_driver.gadget.faults import Fault
from maglens_driver.gadget.functionfs import descriptor_block
from maglens_driver.link import limits, wire
from maglens_driver.link.descriptor import Descriptor, PowerNeeds
from maglens_driver.link.wire import EventKind
from maglens_driver.mode import MJPG
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.fake import FakeModule, FakeTransport, trailer_for
from maglens_driver.usb.transport import Transport
from maglens_driver.virtual.lens import load_lens
from tests.unit.bent_module import bend
from tests.unit.conform_faults import CAUGHT
from tests.unit.usb_rig import DESCRIPTOR, FakeRig

LEAST_CHECKS = 100
NOT_BENT = (Fault.BOUNCE, Fault.STRANGER, Fault.HALF_SEATED)  # these have tests of their own
INTERVAL = Fraction(1, 100)
FACTS = UsbFacts(
    "1-1", 5000, "T1", 1, 0, "maglens", (EndpointFacts(0x81, 2, 1024, 0), EndpointFacts(0x82, 3, 64, 7)), 500
)


def quick(descriptor: Descriptor) -> Descriptor:
    """The same module at a rate that a test can wait for; its first mode draws more than a port gives unasked."""
    modes = tuple(replace(m, interval=INTERVAL, mbit_s=8, mw=2600 - 100 * i) for i, m in enumerate(descriptor.modes))
    return replace(descriptor, modes=modes, power=PowerNeeds(150, 3000))


def as_jpeg(_frame_id: int, writes: list[bytes]) -> list[bytes]:
    """Frames of a compressed mode that begin and end as such ones do."""
    leader = wire.Leader.unpack(writes[0])
    if leader.fourcc != MJPG:
        return writes
    payload = b"\xff\xd8" + writes[1][2:-2] + b"\xff\xd9"
    return [writes[0], payload, wire.seal(trailer_for(leader, payload))]


class FakeHand:
    """Pulls the fake module off, and puts another one of the same kind on; it may bounce."""

    def __init__(self, rig: FakeRig, bounces: int = 0) -> None:
        self.rig = rig
        self._bounces = bounces

    def pull(self) -> None:
        self.rig.module.unplug()

    def plug(self) -> tuple[UsbFacts, UsbDevice, Transport, int]:
        module = FakeModule(self.rig.module.descriptor, interval_s=float(INTERVAL), frame=as_jpeg)
        return FACTS, replace(self.rig.device, devnum=9), FakeTransport(module), self._bounces

    def turn(self, ring: str) -> bool:
        module = self.rig.module
        module.values[Cid.FOCUS_ABSOLUTE] = 100
        event = wire.Event(wire.EVENT_MAGIC, 1, EventKind.CONTROL, 1, Cid.FOCUS_ABSOLUTE, 100, module.clock())
        module.send_event(event.pack())
        return ring == "focus"


@dataclass
class Bench:
    rig: FakeRig
    specimen: Specimen
    results: Sequence[Result] = ()

    def run(self, *patterns: str) -> list[str]:
        """Make checks; names of those that failed."""
        self.results = Run(self.specimen).make(chosen(patterns))
        return failed(self.results)

    def why(self, name: str) -> str:
        return next(r.why for r in self.results if r.check.name == name)


@pytest.fixture
def bench() -> Iterator[Bench]:
    rig = FakeRig(descriptor=quick(DESCRIPTOR), interval_s=float(INTERVAL), frame=as_jpeg)
    specimen = Specimen(FACTS, rig.device, rig.transport)
    yield Bench(rig, specimen)
    specimen.close()


def test_there_are_enough_checks_and_each_has_its_name() -> None:
    assert len(SUITE) >= LEAST_CHECKS
    names = [check.name for check in SUITE]
    assert len(names) == len(set(names))
    for check in SUITE:
        assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", check.name)
        assert check.text
    assert {name.partition(".")[0] for name in names} == {group.name for group in GROUPS}


def test_a_sound_module_passes_every_check(bench: Bench) -> None:
    bench.specimen.hand = FakeHand(bench.rig)
    assert bench.run() == []
    notes = {r.check.name: r.why for r in bench.results if r.verdict is Verdict.NOTE}
    assert not notes
    skipped = {r.check.name for r in bench.results if r.verdict is Verdict.SKIP}
    assert skipped == {"stream.jpeg", "controls.read_only", "events.power_message"}


def test_a_bare_lens_passes_what_it_can_be_asked() -> None:
    """Optics only: no mode, no control, no stream."""
    rig = FakeRig(descriptor=load_lens("m-mount-50mm").with_serial("T1").descriptor)
    specimen = Specimen(FACTS, rig.device, rig.transport)
    results = Run(specimen).make(SUITE)
    specimen.close()
    assert {r.check.name: r.why for r in results if r.verdict is Verdict.FAIL} == {}
    assert sum(r.verdict is Verdict.PASS for r in results) >= LEAST_CHECKS


def test_every_fault_is_in_the_table() -> None:
    assert set(CAUGHT) == set(Fault)
    assert set(CAUGHT.values()) <= {check.name for check in SUITE}


@pytest.mark.parametrize("fault", [f for f in Fault if f not in NOT_BENT], ids=lambda f: f.value)
def test_every_fault_is_caught_by_its_check(fault: Fault, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_FRAME_S", 0.2)  # what a module that sends nothing is waited for
    monkeypatch.setattr(stream_checks, "RATE_S", 0.0)
    bend(bench.rig.module, fault)
    group = f"{CAUGHT[fault].partition('.')[0]}.*"
    caught = bench.run("info.*", "descriptor.*", group)
    caught += [r.check.name for r in bench.results if r.verdict is Verdict.NOTE]
    assert CAUGHT[fault] in caught, f"caught by {caught}"
    assert bench.why(CAUGHT[fault])


def test_a_module_that_is_half_seated_is_noted() -> None:
    """It comes up too slow for some of its modes: no fault of its own, perhaps, and told all the same."""
    modes = tuple(replace(m, mbit_s=700) for m in DESCRIPTOR.modes)
    rig = FakeRig(descriptor=replace(DESCRIPTOR, modes=modes))
    specimen = Specimen(replace(FACTS, speed_mbit=480), rig.device, rig.transport)
    results = Run(specimen).make(chosen(["usb.*"]))
    specimen.close()
    noted = [r.check.name for r in results if r.verdict is Verdict.NOTE]
    assert CAUGHT[Fault.HALF_SEATED] in noted


def test_one_damaged_frame_fails_nothing_else(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fault is named after, it is named by alone."""
    monkeypatch.setattr(stream_checks, "RATE_S", 0.0)
    bend(bench.rig.module, Fault.PAYLOAD_CRC)
    wrong = set(bench.run("info.*", "descriptor.*", "stream.*")) - {"stream.payload_crc"}
    assert {name: bench.why(name) for name in wrong} == {}


def test_leaders_that_cannot_be_read_end_no_run(bench: Bench) -> None:
    def short(frame_id: int, writes: list[bytes]) -> list[bytes]:
        return [writes[0][:12], *writes[1:]]

    bench.rig.module.frame = short
    assert "flush.ids_go_on" in bench.run("flush.*")


def test_a_bouncing_contact(bench: Bench) -> None:
    bench.specimen.hand = FakeHand(bench.rig, bounces=2)
    assert bench.run("replug.*") == [CAUGHT[Fault.BOUNCE]]


def test_a_stranger_is_sent_no_request() -> None:
    specimen = Specimen(replace(FACTS, text="other"), None, None)
    results = Run(specimen).make(SUITE)
    assert failed(results) == [CAUGHT[Fault.STRANGER]]
    assert {r.verdict for r in results if not r.check.name.startswith("usb.")} == {Verdict.SKIP}
    specimen.close()


def test_a_module_that_leaves_ends_the_run(bench: Bench) -> None:
    bench.run("info.*")
    bench.rig.module.unplug()
    results = Run(bench.specimen).make(chosen(["clock.*", "odd.*"]))
    assert results[0].verdict is Verdict.FAIL
    assert {r.verdict for r in results[1:]} == {Verdict.SKIP}
    assert {r.why for r in results[1:]} == {"the module is gone"}


def test_a_silent_module_is_not_asked_for_ever(bench: Bench) -> None:
    asked: list[int] = []

    def silent(op: int, _raw: bytes) -> bytes:
        asked.append(op)
        raise Deadline("no answer")

    bench.rig.module.reply = silent
    bench.run()
    assert 0 < len(asked) <= 4 * SILENT_AFTER


def test_a_should_is_a_note() -> None:
    def refuse(_s: Specimen) -> None:
        raise Failed("no")

    def skip(_s: Specimen) -> None:
        raise Skipped("not here")

    checks = (
        Check("a.should", "it should", refuse, should=True),
        Check("a.must", "it must # always", refuse),
        Check("a.skip", "it may", skip),
        Check("a.pass", "it does", lambda _s: None),
    )
    rig = FakeRig()
    specimen = Specimen(FACTS, rig.device, rig.transport)
    results = Run(specimen).make(checks)
    specimen.close()
    assert [r.verdict for r in results] == [Verdict.NOTE, Verdict.FAIL, Verdict.SKIP, Verdict.PASS]
    printed = [*tap.head(4), *(line for n, r in enumerate(results, 1) for line in tap.lines(n, r))]
    assert printed == [
        "TAP version 14",
        "1..4",
        "ok 1 - a.should: it should",
        "# should, and does not: no",
        "not ok 2 - a.must: it must \\# always",
        "  ---",
        '  why: "no"',
        "  ...",
        "ok 3 - a.skip: it may # SKIP not here",
        "ok 4 - a.pass: it does",
    ]
    said = tap.verdict(results, "Acme One")
    assert said.startswith("Acme One DOES NOT CONFORM: 1 failed: a.must")
    document = json.loads(json.dumps(tap.document(results, "Acme One")))
    assert (document["conforms"], document["failed"]) == (False, ["a.must"])
    assert document["counts"] == {"pass": 1, "fail": 1, "note": 1, "skip": 1}


def test_facts_are_read_from_sysfs(tmp_path: Path) -> None:
    """The descriptors are those that the gadget gives to the kernel for super speed."""
    device = bytes([18, 1, 0, 3, 0, 0, 0, 9, 9, 18, 1, 0, 0, 1, 1, 2, 3, 1])
    interface = descriptor_block()[-9 - 7 - 6 - 7 - 6 :]
    config = bytes([9, 2, 9 + len(interface), 0, 1, 1, 0, 0x80, 62])
    root = tmp_path / "2-1"
    (root / "2-1:1.0").mkdir(parents=True)
    (root / "descriptors").write_bytes(device + config + interface)
    for name, text in (("speed", "5000\n"), ("serial", "T1\n")):
        (root / name).write_text(text)
    (root / "2-1:1.0" / "interface").write_text("maglens\n")
    facts = read_facts(root)
    assert (facts.port, facts.speed_mbit, facts.serial, facts.text) == ("2-1", 5000, "T1", "maglens")
    assert (facts.interfaces, facts.number, facts.max_power_ma) == (1, 0, 62 * 8)
    bulk, interrupt = facts.bulk(), facts.interrupt()
    assert bulk is not None
    assert interrupt is not None
    assert (bulk.packet, interrupt.packet) == (1024, 64)
