# SPDX-License-Identifier: GPL-2.0-or-later
"""The real OBS Studio and ffmpeg read on through attach, swap, detach and the daemon's death.

python -m tests.vm run --extra obs --scenario tests/vm/apps
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maglens_driver.names import SERVICE_UNIT
from tests.demo import recording
from tests.demo.guest import hold, node_status
from tests.vm.conftest import Record, Sim
from tests.vm.guest import acts
from tests.vm.guest.devices import succeed
from tests.vm.guest.obs import SIZE, Obs

FRAMES = 30


@pytest.mark.timeout(900)
def test_obs_reads_on_through_everything(sim: Sim, ffmpeg_recorder: Record, out: Path) -> None:
    wide, portrait = sim("35mm"), sim("73mm")
    succeed("systemctl", "start", SERVICE_UNIT)
    device = str(node_status()["path"])
    with Obs(device, out) as obs, ffmpeg_recorder(device) as ffmpeg:
        ffmpeg.wait_frames(1)
        happened = acts.play(wide, portrait, lambda n: hold(ffmpeg, n), FRAMES, obs.photograph)
        hold(ffmpeg, FRAMES)
    figures = {}
    for app, path in (("obs", obs.recording), ("ffmpeg", ffmpeg.path)):
        seen = recording.read(path)
        assert (seen.width, seen.height) == SIZE, app
        figures[app] = acts.check(seen.shots, happened)
    (out / "figures.json").write_text(json.dumps(figures, indent=1))
    assert obs.problems() == []
    assert ffmpeg.errors() == []
    ffmpeg.path.unlink()
