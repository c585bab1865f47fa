# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody watches: the module rests, and the service costs next to nothing. The soak looks on for a minute."""

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

SECONDS = 8.0
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
