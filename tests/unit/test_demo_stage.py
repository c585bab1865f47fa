# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo on a machine of one's own: what it wants there is told, what it changes is changed back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from maglens_driver.gadget import client
from maglens_driver.names import ENV_LENS_PATH, SERVICE_UNIT
from tests.demo import automatics, needs, stage
from tests.demo.needs import Need
from tests.demo.story import RAW_LENS
from tests.tools import raw_lens


class Machine:
    """What was done to it, in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.folder = folder
        monkeypatch.setattr(stage, "succeed", self._command)
        monkeypatch.setattr(stage, "emulated", lambda: True)
        monkeypatch.setattr(stage, "_active", lambda: True)
        monkeypatch.setattr(stage, "UNITS", folder / "units")
        monkeypatch.setattr(stage, "CONFIG", folder / "conf.d" / "90-demo.toml")
        for verb in ("start", "stop"):
            monkeypatch.setattr(client, verb, lambda lens, verb=verb: self.done.append(f"{verb} {lens}"))

    def _command(self, *words: str) -> str:
        self.done.append(" ".join(words))
        return ""

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_all_is_changed_back_where_the_film_fails(machine: Machine) -> None:
    with pytest.raises(ZeroDivisionError), stage.stage(("35mm", "73mm"), "640x480"):
        assert machine.files == ["90-demo.conf", "90-demo.conf", "90-demo.toml"]
        assert machine.done[-1] == f"systemctl start {SERVICE_UNIT}"
        machine.done.clear()
        raise ZeroDivisionError
    assert machine.files == []
    assert machine.done == [
        "stop 73mm",
        "stop 35mm",
        "systemctl daemon-reload",
        f"systemctl stop {SERVICE_UNIT}",
        f"systemctl start --no-block {SERVICE_UNIT}",
    ]


def test_a_service_that_did_not_run_is_left_stopped(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_active", lambda: False)
    with stage.stage((), None):
        pass
    assert machine.done[-1] == f"systemctl stop {SERVICE_UNIT}"


def test_a_module_that_does_not_start_leaves_nothing_behind(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lens: str) -> None:
        raise RuntimeError(lens)

    monkeypatch.setattr(client, "start", refuse)
    with pytest.raises(RuntimeError), stage.stage(("35mm",), "640x480"):
        pass
    assert machine.files == []


def test_the_service_is_unmasked_where_the_c_reader_fails(machine: Machine) -> None:
    with pytest.raises(ZeroDivisionError), stage.service_away():
        assert machine.done == [f"systemctl mask --runtime --now {SERVICE_UNIT}"]
        raise ZeroDivisionError
    assert machine.done[1:] == [f"systemctl unmask --runtime {SERVICE_UNIT}"]


@pytest.mark.parametrize("emulated", [True, False])
def test_the_raw_lens_is_put_away(machine: Machine, monkeypatch: pytest.MonkeyPatch, emulated: bool) -> None:
    monkeypatch.setattr(automatics, "FOLDER", machine.folder / "lenses")
    monkeypatch.setattr(raw_lens, "_change", lambda name: machine.folder / f"{name}.conf")
    monkeypatch.setattr(subprocess, "run", lambda words, **_: machine.done.append(" ".join(words)))
    monkeypatch.setattr(automatics, "emulated", lambda: emulated)
    made = machine.folder / f"{RAW_LENS}.conf"
    with pytest.raises(ZeroDivisionError), stage.stage((), None) as undo:
        automatics.dress(undo)
        assert machine.folder.joinpath("lenses", f"{RAW_LENS}.toml").exists()
        lines = made.read_text().splitlines()
        assert lines[:2] == ["[Service]", f"Environment={ENV_LENS_PATH}={machine.folder / 'lenses'}"]
        assert lines[2:] == [*automatics.EMULATED_SETTINGS] * emulated
        assert machine.done[-1] == f"start {RAW_LENS}"
        machine.done.clear()
        raise ZeroDivisionError
    assert machine.files == []
    assert machine.done[:2] == [f"stop {RAW_LENS}", "systemctl daemon-reload"]


def test_what_is_missing_is_told_with_what_mends_it() -> None:
    wanted = (Need("salt", lambda: False, "buy salt"), Need("bread", lambda: True, "bake"))
    assert needs.missing(wanted) == ["demo: missing: salt; try: buy salt"]


def test_every_need_of_a_bare_machine_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(client, "running", lambda: ["35mm"])
    told = "\n".join(needs.missing())
    for mend in ("make demo HOST=1", "make install", "maglens-sim@", "v4l-utils", "gcc", "libusb-1.0-0-dev"):
        assert mend in told
