# SPDX-License-Identifier: GPL-2.0-or-later
"""Automatics end to end: a module with raw modes only, flown by the service, and an app that writes what it saved."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglens_driver import names
from maglens_driver.control import Cid
from maglens_driver.virtual import lens
from maglens_v4l2.replays import BURST_S
from tests.vm.guest.app_process import AppProcess
from tests.vm.guest.studio import Studio, studio
from tests.vm.guest.troupe import LENS

FOCUS = Cid.FOCUS_ABSOLUTE
HAND_S = 10 * BURST_S  # no hand is as fast as a program
RAW_MODE = '[[modes]]\nsize = [640, 480]\nformats = ["pRAA"]\nrates = [30, 15]\nmw = [1100, 900]\n\n'


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """The module has raw modes only: the service does its automatics."""
    head, *modes = Path(lens.__file__).with_name("lenses").joinpath(f"{LENS}.toml").read_text().split("[[modes]]")
    tail = "# Units" + modes[-1].split("# Units")[1]
    (tmp_path / f"{LENS}.toml").write_text(head + RAW_MODE + tail)
    monkeypatch.setenv(names.ENV_LENS_PATH, str(tmp_path))
    with studio() as made:
        yield made


@pytest.mark.long
def test_obs_writing_what_it_saved_leaves_automatics_on(stage: Studio) -> None:
    switch = Cid.FOCUS_AUTO
    with stage.watched(), AppProcess(stage.node, "obs") as obs:
        stage.until(lambda: stage.active(switch), "no autofocus")
        assert stage.value(switch) == 1
        factory = lens.load_lens(LENS).descriptor.controls
        saved = {c.id: c.default for c in factory if c.id != Cid.FOCUS_FINE} | {switch: 1}
        obs.write([*saved.items()])  # its properties are opened; the automatics have moved most of it meanwhile
        time.sleep(HAND_S)
        assert stage.value(switch) == 1
        obs.write([(FOCUS, 100)])  # a slider is moved
        stage.until_shown({switch: 0, FOCUS: 100})
        stage.until_module({FOCUS: 100})
        stage.set(focus_automatic_continuous=1)
        stage.until_shown({switch: 1})
        obs.write([*(saved | {FOCUS: 100}).items()])  # its box for the automatic is still ticked
        time.sleep(HAND_S)
        obs.write([(Cid.POWER_LINE_FREQUENCY, 2)])  # comes after all of it
        stage.until_shown({Cid.POWER_LINE_FREQUENCY: 2})
        assert stage.value(switch) == 1
