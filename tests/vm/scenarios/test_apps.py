# SPDX-License-Identifier: GPL-2.0-or-later
"""Real apps read on through attach, swap, detach and the death of the daemon. For OBS see tests/vm/apps."""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest

from maglens_driver.mode import NV12, make_mode
from tests.demo import judge, recording
from tests.demo.guest import hold, hold_until
from tests.vm.conftest import Record
from tests.vm.guest import acts
from tests.vm.guest.gstreamer import Gstreamer
from tests.vm.guest.house import house

MODE = make_mode(NV12, 640, 480, Fraction(1, 15))  # two apps, a module and the service share two emulated processors
FRAMES = 12  # of each act
OPTIONS = ("-input_format", "nv12", "-video_size", "640x480", "-framerate", "15")


@pytest.mark.long
def test_ffmpeg_and_gstreamer_read_on_through_everything(ffmpeg_recorder: Record, out: Path) -> None:
    with house() as there, tempfile.TemporaryDirectory() as folder:
        device = there.device
        with ffmpeg_recorder(device, options=OPTIONS) as ffmpeg:
            ffmpeg.wait_frames(1)  # it has chosen the format; the other one gets the same
            with Gstreamer(device, Path(folder) / "gstreamer.nv12", MODE) as gstreamer:
                hold_until(ffmpeg, lambda: gstreamer.frames > 0)
                happened = acts.play(
                    there.wide, there.portrait, there.dies, lambda n: hold(ffmpeg, n), FRAMES, lambda text: None
                )
            hold(ffmpeg, 1)
        seen = recording.read(ffmpeg.path)
        figures = {"ffmpeg": acts.check(seen.shots, happened)}
        other = list(gstreamer.shots())
        figures["gstreamer"] = acts.check(other, happened)
    assert ffmpeg.errors() == []
    for app, shots in (("ffmpeg", seen.shots), ("gstreamer", other)):
        figures[app]["widest_gap_intervals"] = max(judge.gaps(shots, MODE.interval_ns))
    (out / "figures.json").write_text(json.dumps(figures, indent=1))
    ffmpeg.path.unlink()  # 460 kB a frame
