# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody watches for a minute: the module rests, and the service costs next to nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from maglens_driver.names import SERVICE_UNIT
from tests.demo.guest import hold, hold_until, node_status, streaming
from tests.vm.conftest import JournalOf, Record, Sim
from tests.vm.guest import idle
from tests.vm.guest.devices import succeed
from tests.vm.guest.studio import studio

SECONDS = 60.0
WATCHED_FRAMES = 20
STANDBY_S = 60.0
OPTIONS = ("-input_format", "nv12", "-video_size", "640x480", "-framerate", "15")


@pytest.mark.long
def test_nobody_watches(sim: Sim, journal: JournalOf, ffmpeg_recorder: Record, out: Path) -> None:
    succeed("systemctl", "start", SERVICE_UNIT)
    device = str(node_status()["path"])
    pid = int(succeed("systemctl", "show", "-P", "MainPID", SERVICE_UNIT))
    module = sim("35mm")
    with ffmpeg_recorder(device, options=OPTIONS) as app:
        module.attach()  # stays leave their traces
        hold_until(app, lambda: streaming(module, WATCHED_FRAMES))
        module.detach()
        hold(app, WATCHED_FRAMES)
        log = journal(SERVICE_UNIT)
        module.attach()
        hold_until(app, lambda: streaming(module, WATCHED_FRAMES))
    log.wait_for("rests", STANDBY_S)
    found = idle.measure(pid, SECONDS)
    module.detach()
    app.path.unlink()
    (out / "figures.json").write_text(json.dumps(asdict(found), indent=1))
    assert found.over() == []


@pytest.mark.long
def test_nobody_watches_a_service_without_systemd(out: Path) -> None:
    """The same at native speed, in User Mode Linux."""
    with studio() as made:
        for _ in range(2):
            with made.watched():
                made.until(lambda: streaming(made.troupe.sim, WATCHED_FRAMES), "no frames")
            made.snap_off()
            made.snap_on()
        made.troupe.log.wait_for("rests")
        found = idle.measure(made.troupe.daemon.pid, SECONDS)
    (out / "figures.json").write_text(json.dumps(asdict(found), indent=1))
    assert found.over() == []
