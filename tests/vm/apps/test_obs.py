# SPDX-License-Identifier: GPL-2.0-or-later
"""The real OBS Studio and ffmpeg read on through attach, swap, detach and the daemon's death.

python -m tests.vm run --extra obs --scenario tests/vm/apps
python -m tests.kernel.uml_guest --extra obs -- python3 -m pytest tests/vm/apps
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.demo import recording
from tests.demo.guest import hold
from tests.vm.conftest import Record
from tests.vm.guest import acts
from tests.vm.guest.house import house
from tests.vm.guest.obs import SIZE, Obs

FRAMES = 30


@pytest.mark.timeout(900)
def test_obs_reads_on_through_everything(ffmpeg_recorder: Record, out: Path) -> None:
    with house() as there, Obs(there.device, out) as obs, ffmpeg_recorder(there.device) as ffmpeg:
        ffmpeg.wait_frames(1)
        happened = acts.play(
            there.wide, there.portrait, there.dies, lambda n: hold(ffmpeg, n), FRAMES, obs.photograph
        )
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
