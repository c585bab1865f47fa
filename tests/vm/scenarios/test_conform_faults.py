# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole conformance kit against a module that has one fault all the time: the verdict names that fault by its
check, whatever else comes of it. One run of the kit for every fault, so it wants a processor that is not emulated.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglens_driver.conform import port_watch
from maglens_driver.conform.check import Result, Verdict
from maglens_driver.conform.run import Run
from maglens_driver.conform.specimen import Specimen
from maglens_driver.conform.suite import SUITE
from maglens_driver.conform.usb_facts import SYSFS_USB, read_facts
from maglens_driver.gadget.client import SimClient
from maglens_driver.gadget.faults import FOREVER, Fault
from maglens_driver.link import limits
from tests.unit.conform_faults import CAUGHT
from tests.vm.conftest import put_away
from tests.vm.guest.devices import succeed
from tests.vm.guest.hand import SimHand, port_of
from tests.vm.guest.limits import emulated
from tests.vm.guest.udev_watch import UdevWatch
from tests.vm.scenarios.test_gadget import simulator

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(emulated(), reason="the whole kit for every fault takes hours on an emulated processor"),
    pytest.mark.usefixtures("without_daemon"),
]

REPLY_S = 2.0  # the kit, the module and the kernel share one processor
LATE_MS = 2500
VALUES = dict.fromkeys((Fault.REPLY_LATE, Fault.REPLY_NEVER, Fault.POWER_LATE), LATE_MS)
VALUES |= {Fault.BOUNCE: 2000, Fault.HEAT: 5000}  # ms; heat stays until every check has listened
STEADY_S = 4.0  # a contact that opens after two seconds is to be seen, on a machine that does other things as well
FIRST_TO_STREAM = {Fault.BROWN_OUT: "power.shrink_stops_stream"}  # what is gone by then is asked nothing more

FAULTS = sorted(Fault, key=lambda fault: fault is Fault.BROWN_OUT)  # the last: it snaps itself on again later

Table = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimClient]:
    """One process for all of them."""
    succeed("modprobe", "-a", "libcomposite", "dummy_hcd")
    with simulator("35mm:faults") as made:
        yield made


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """What was found of every fault, brought out of the guest."""
    found: Table = {}
    yield found
    (Path(os.environ.get("OUT", "/out")) / "conform-faults.json").write_text(json.dumps(found, indent=1))


def examined(sim: SimClient, fault: Fault) -> list[Result]:
    """By every check there is; the fault is there from before the module is snapped on."""
    value = VALUES.get(fault, 0)
    if fault not in (Fault.BOUNCE, Fault.HEAT):
        sim.fault(fault.value, FOREVER, value)
    with UdevWatch("usb", "usb_interface") as watch:
        port = port_of(sim.attach()["udc"])
        watch.next("add", lambda device: device.sys_name == f"{port}:1.0")
    facts = read_facts(SYSFS_USB / port)
    if fault is Fault.STRANGER:
        return Run(Specimen(facts, None, None)).make(SUITE)
    hand = SimHand(sim, port)
    if fault is Fault.BOUNCE:
        hand.before_plug = lambda: sim.fault(fault.value, 1, value)
    specimen = Specimen(*hand.present(), hand=hand)
    if fault is Fault.HEAT:
        sim.fault(fault.value, 1, value)
    try:
        return Run(specimen).make(SUITE)
    finally:
        specimen.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.value)
def test_the_verdict_names_it(fault: Fault, sim: SimClient, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_watch, "STEADY_S", STEADY_S)
    monkeypatch.setattr(limits, "REPLY_S", REPLY_S)
    began = time.monotonic()
    try:
        results = examined(sim, fault)
    finally:
        put_away(sim)
    told = {r.check.name: f"{r.verdict.value}: {r.why}" for r in results if r.verdict in (Verdict.FAIL, Verdict.NOTE)}
    passed = sum(r.verdict is Verdict.PASS for r in results)
    table[fault.value] = {
        "its_check": FIRST_TO_STREAM.get(fault, CAUGHT[fault]),
        "told": told,
        "passed": passed,
        "skipped": len(results) - passed - len(told),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(f"{fault.value}: {json.dumps(table[fault.value], indent=1)}")
    assert FIRST_TO_STREAM.get(fault, CAUGHT[fault]) in told, told
