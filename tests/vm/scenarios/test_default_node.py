# SPDX-License-Identifier: GPL-2.0-or-later
"""The service on v4l2loopback, as on a machine where nobody has installed our kernel module: an app keeps its picture
through attach and detach, and gets it back from the next service when one is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from maglens_driver import names
from tests.demo import judge, recording
from tests.vm.conftest import JournalOf, Record, Sim
from tests.vm.scenarios.test_daemon import ATTACH_S, DROPIN, START_S, UNIT, shown, status, systemctl

RATE = 10
CARD_AFTER = 10  # frames: the last picture stays for half a second
PICTURES = 10  # of the module, before and after


@pytest.fixture
def loopback_service() -> Iterator[None]:
    """The service's node is of the other kind meanwhile."""
    DROPIN.write_text(f"[node]\nkind = 'v4l2loopback'\nwidth = 640\nheight = 480\nrate = {RATE}\n")
    systemctl("restart", UNIT)
    yield
    DROPIN.unlink()
    systemctl("restart", UNIT)


@pytest.mark.long
@pytest.mark.usefixtures("loopback_service")
def test_killed_while_an_app_watches_v4l2loopback(sim: Sim, journal: JournalOf, ffmpeg_recorder: Record) -> None:
    module = sim("35mm")
    before = status()["node"]
    assert before["name"] == names.NODE_CARD_NAME
    assert (before["outlives_daemon"], before["controls"]) == (False, False)
    log = journal(UNIT)
    with ffmpeg_recorder(before["path"]) as app:
        app.wait_frames(1)
        module.attach()
        log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        app.wait_more(PICTURES)
        killed = int(shown("MainPID"))
        log = journal(UNIT)
        os.kill(killed, signal.SIGKILL)
        log.wait_for(f"the camera is {before['path']}, ", START_S)
        log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        app.wait_more(PICTURES)
        module.detach()
        log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        app.wait_more(CARD_AFTER)
        assert int(shown("MainPID")) != killed
        assert status()["node"]["path"] == before["path"]

    assert app.errors() == []
    shots = recording.read(app.path).shots
    stays = judge.stays(shots)
    gaps = judge.gaps(shots, 1_000_000_000 // RATE)
    print(f"{len(shots)} pictures; {[len(stay.numbers) for stay in stays]}; widest gap {max(gaps):.1f} intervals")
    assert not any(shot.mixed for shot in shots)
    assert {stay.source for stay in stays} == {module.status()["mark"]}
    assert all(stay.rising for stay in stays)
    assert judge.interleaved(shots) == 0
    assert shots[0].mark is None
    assert shots[-1].mark is None
