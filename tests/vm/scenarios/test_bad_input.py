# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input while a module plays for an app: each is told by name, and neither the service nor the module nor the app
suffers. One app records through all of it, and its recording is judged at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from maglens_driver.gadget import client as sims
from maglens_driver.gadget.client import SimClient
from tests.demo import judge
from tests.demo.guest import hold
from tests.demo.stage import UNITS, allow_for_emulation
from tests.vm.conftest import JournalOf, Sim
from tests.vm.guest.acts import hold_until_sent, sent
from tests.vm.guest.devices import succeed
from tests.vm.guest.journal import Journal
from tests.vm.guest.limits import EVENT_S, emulated
from tests.vm.guest.one_stay import one_stay
from tests.vm.guest.recorder import Recording
from tests.vm.scenarios import test_daemon
from tests.vm.scenarios.test_daemon import ATTACH_S, DROPIN, UNIT, shown, status, systemctl
from tests.vm.scenarios.test_module_source import DESCRIPTOR_FAULTS

pytestmark = pytest.mark.long

LENS = "35mm"
SERIAL = f"SIM-{LENS}"
RATE = 5  # an emulated processor has other things to do
OPTIONS = ("-input_format", "nv12", "-video_size", "640x480", "-framerate", str(RATE))
FEW = 2  # frames more, after which a picture goes on
PLAYING = ("ready", "standby", "streaming")

FRAMES = ("leader-crc", "payload-short", "trailer-missing")


@dataclass(frozen=True, slots=True)
class Show:
    """``module`` plays for the app that makes ``recording``, by the service whose process is ``pid``."""

    module: SimClient
    recording: Recording
    pid: str

    def goes_on(self) -> None:
        """The app gets more pictures, the module sends them, and it is the same service that brings them."""
        hold_until_sent(self.module, sent(self.module) + 1, lambda count: hold(self.recording, count))
        self.recording.wait_more(FEW)
        now = status()
        assert now["playing"].endswith(f"/{SERIAL}")
        assert [m["state"] for m in now["modules"] if m["serial"] == SERIAL] == ["streaming"]
        assert shown("MainPID") == self.pid, "the service is another one"


@pytest.fixture(scope="module")
def show(modules: dict[str, SimClient]) -> Iterator[Show]:
    """From before the first test to behind the last; then the recording has to show one stay of one module."""
    allow_for_emulation()
    systemctl("restart", UNIT)
    sims.start(LENS)
    for dropin in UNITS.glob("maglens*.d/90-demo.conf"):  # whoever starts after this has the usual limits
        dropin.unlink()
    systemctl("daemon-reload")
    module = modules[LENS] = SimClient(LENS)
    node = str(status()["node"]["path"])
    with tempfile.TemporaryDirectory(dir=os.environ.get("OUT", "/out")) as folder, Journal(UNIT) as log:
        with Recording(node, Path(folder) / "app.nut", OPTIONS) as recording:
            recording.wait_frames(FEW)
            module.attach()
            log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL=SERIAL)
            succeed("maglens", "use", SERIAL)  # what comes later and is sound does not take its place
            yield Show(module, recording, shown("MainPID"))
            succeed("maglens", "use", "auto")
            module.detach()
            log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL=SERIAL)
            recording.wait_more(RATE)  # the last picture stays for half a second
        shots, stay = one_stay(recording, int(module.status()["mark"]))
    between = shots[stay.first.index : stay.last.index + 1]
    cards = sum(shot.mark is None for shot in between)
    print(f"{cards} of {len(between)} pictures between are cards")
    assert cards == 0 or emulated()  # where starting a program can keep the module from sending for half a second
    widest = max(judge.gaps(shots, 1_000_000_000 // RATE))
    print(f"widest gap {widest:.2f} intervals")
    assert widest <= (4 if emulated() else 2)


@pytest.fixture(autouse=True)
def nobody_else_suffers(show: Show) -> Iterator[None]:
    yield
    DROPIN.unlink(missing_ok=True)
    show.goes_on()


@pytest.mark.parametrize("fault", DESCRIPTOR_FAULTS)
def test_a_broken_descriptor_is_refused(fault: str, sim: Sim, journal: JournalOf) -> None:
    bad = sim("73mm")
    log = journal(UNIT)
    bad.fault(fault)
    bad.attach()
    refused = log.wait_for("refused: ", ATTACH_S)
    assert refused.fields["MAGLENS_CAUSE"] == DESCRIPTOR_FAULTS[fault]
    states = {m["serial"] or m["reason"]: m["state"] for m in status()["modules"]}
    assert states.pop(SERIAL) in PLAYING
    assert list(states.values()) == ["quarantined"]
    bad.detach()
    log.wait_for("removed", ATTACH_S)


def test_a_module_that_was_refused_is_welcome_once_it_is_sound(sim: Sim, journal: JournalOf) -> None:
    bad = sim("73mm")
    log = journal(UNIT)
    bad.fault("descriptor-crc")
    udc = bad.attach()["udc"]
    log.wait_for("refused: ", ATTACH_S)
    bad.detach()
    log.wait_for("removed", ATTACH_S)
    bad.clear()
    bad.attach(udc)
    log.wait_for("ready", ATTACH_S, MAGLENS_SERIAL="SIM-73mm")
    bad.detach()
    log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="SIM-73mm")


def test_a_stranger_with_our_class_is_left_alone(sim: Sim, journal: JournalOf) -> None:
    module = sim("73mm")
    log = journal(UNIT)
    module.fault("stranger")
    module.attach()
    log.wait_for("left alone: .*stranger", ATTACH_S)
    assert [m["serial"] for m in status()["modules"]] == [SERIAL]
    assert module.status()["stays"][-1]["vendor_requests"] == 0, "not a word was said to it"


@pytest.mark.parametrize("fault", FRAMES)
def test_a_damaged_frame_is_dropped_and_counted(fault: str, show: Show) -> None:
    """By its cause and no other, and none that is damaged is shown."""

    def losses() -> dict[str, int]:
        (entry,) = status()["modules"]
        return {name: count for name, count in entry["counters"].items() if name in causes}

    causes = {name.replace("-", "_") for name in FRAMES}
    before = losses()
    show.module.fault(fault)
    cause = fault.replace("-", "_")
    for _ in range(int(EVENT_S) * RATE):
        show.recording.wait_more(1)
        if losses() != before:
            break
    assert losses() == {**before, cause: before.get(cause, 0) + 1}


def test_a_broken_configuration(journal: JournalOf) -> None:
    test_daemon.test_a_broken_configuration_is_named_and_the_old_one_stays(journal)


def test_a_second_daemon() -> None:
    test_daemon.test_a_second_daemon_says_so_in_one_line()


def test_without_permission() -> None:
    test_daemon.test_without_permission_it_says_so_in_one_line()
