# SPDX-License-Identifier: GPL-2.0-or-later
"""The conformance kit over a real bus: every virtual lens passes, every injected fault is caught by its check."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from maglens_driver.conform import port_watch
from maglens_driver.conform.check import Result, Verdict
from maglens_driver.conform.run import Run, failed
from maglens_driver.conform.specimen import Specimen
from maglens_driver.conform.suite import chosen
from maglens_driver.conform.usb_facts import SYSFS_USB, read_facts
from maglens_driver.gadget.client import SimClient
from maglens_driver.gadget.faults import ATTACH_FAULTS, FOREVER, LASTING_FAULTS, POWER_FAULTS, REPLY_FAULTS, Fault
from maglens_driver.names import ENV_TIME_FACTOR
from tests.unit.conform_faults import CAUGHT
from tests.vm.guest.devices import succeed
from tests.vm.guest.hand import SimHand, port_of
from tests.vm.guest.limits import TIME_FACTOR, emulated
from tests.vm.scenarios.test_gadget import LENSES, simulator

pytestmark = pytest.mark.usefixtures("without_daemon", "patient")

STEADY_S = 10.0
WHILE_ON = [f for f in Fault if f not in ATTACH_FAULTS | {Fault.BROWN_OUT, Fault.HALF_SEATED, Fault.HEAT}]


@pytest.fixture(scope="module", autouse=True)
def kernel_modules() -> None:
    subprocess.run(["modprobe", "-a", "libcomposite", "dummy_hcd"], check=True)


def attached_port(sim: SimClient) -> str:
    """Put it on once, to learn its port, and off again."""
    udc = sim.attach()["udc"]
    succeed("udevadm", "settle")
    port = port_of(udc)
    sim.detach()
    return port


def told(results: list[Result]) -> str:
    return "\n".join(f"{r.check.name}: {r.why}" for r in results if r.verdict in (Verdict.FAIL, Verdict.NOTE))


@pytest.mark.long
@pytest.mark.parametrize("name", LENSES)
def test_every_lens_conforms(name: str) -> None:
    """By every check there is; on an emulated processor one of them, and the others by what their data can spoil."""
    some = emulated() and name != LENSES[0]
    patterns = ["usb.*", "descriptor.*", "controls.*", "stream.*", "configure.*"] if some else []
    with simulator(name) as sim:
        hand = SimHand(sim, attached_port(sim))
        facts, device, transport, _ = hand.plug()
        specimen = Specimen(facts, device, transport, hand=hand)
        results = Run(specimen).make(chosen(patterns))
        specimen.close()
        assert not failed(results), told(results)
        skipped = {r.check.name for r in results if r.verdict is Verdict.SKIP}
        assert skipped <= {"stream.jpeg", "controls.read_only", "controls.steps", "replug.no_contract"}


@pytest.fixture(scope="module")
def lasting() -> Iterator[tuple[SimClient, SimHand]]:
    """One process for all faults; its module stays on for most of them."""
    with simulator("35mm:conform") as sim:
        hand = SimHand(sim, attached_port(sim))
        hand.plug()
        yield sim, hand


def asked_for(fault: Fault) -> tuple[int, int, int]:
    """Count, value and good occasions before it, so that it is a fault at this machine's speed, too."""
    match fault:
        case Fault.REPLY_LATE | Fault.REPLY_NEVER | Fault.POWER_LATE:
            return 1, 2500, 0
        case Fault.ID_BACK:
            return 1, 5, 3
    if fault in LASTING_FAULTS:
        return FOREVER, 0, 0
    return 1, 0, int(fault not in REPLY_FAULTS | POWER_FAULTS)


@pytest.mark.parametrize("fault", WHILE_ON, ids=lambda f: f.value)
def test_every_fault_is_caught_by_its_check(fault: Fault, lasting: tuple[SimClient, SimHand]) -> None:
    sim, hand = lasting
    facts, device, transport = hand.present()
    specimen = Specimen(facts, device, transport, fresh=False)
    try:
        sim.fault(fault.value, *asked_for(fault))
        results = Run(specimen).make(chosen([CAUGHT[fault]]))
    finally:
        sim.clear()
        specimen.close()
    assert failed(results) == [CAUGHT[fault]], told(results)


@pytest.mark.long
def test_a_bouncing_contact_is_caught(lasting: tuple[SimClient, SimHand], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_watch, "STEADY_S", STEADY_S)
    sim, hand = lasting
    facts, device, transport = hand.present()
    hand.before_plug = lambda: sim.fault("bounce", 1, 2000)
    specimen = Specimen(facts, device, transport, hand=hand, fresh=False)
    results = Run(specimen).make(chosen(["replug.*"]))
    specimen.close()
    hand.before_plug = lambda: None
    assert failed(results) == [CAUGHT[Fault.BOUNCE]], told(results)


def test_the_command_and_a_stranger(lasting: tuple[SimClient, SimHand]) -> None:
    """``maglens conform`` as a person calls it; at the end a device that only looks like a module."""
    sim, hand = lasting
    facts, _, _ = hand.present()
    command = ["maglens", "conform", facts.port, "--only", "info.*", "--only", "usb.*"]
    environment = os.environ | {ENV_TIME_FACTOR: str(TIME_FACTOR)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("TAP version 14\n1..")
    assert done.stdout.rstrip().splitlines()[-1].startswith("# maglens Virtual 35mm F1.4 (SIM-35mm:conform) at port ")
    hand.pull()
    sim.fault("stranger")
    sim.attach()
    succeed("udevadm", "settle")
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert json.loads(done.stdout)["failed"] == [CAUGHT[Fault.STRANGER]]
    assert read_facts(SYSFS_USB / facts.port).text == "other"
    assert sim.status()["stays"][-1]["vendor_requests"] == 0
    sim.detach()
    sim.clear()
