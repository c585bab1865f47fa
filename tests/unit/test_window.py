# SPDX-License-Identifier: GPL-2.0-or-later
"""The preview's window, by a player that plays for ever."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from maglens_daemon.cli import main, terminal, window
from maglens_daemon.errors import Unavailable
from maglens_daemon.exits import Exit
from maglens_daemon.status import Status
from tests.unit.test_cli import everything, module

OVERLAY = "words=$(echo \"$@\" | sed 's/.*textfile=\\([^:]*\\):.*/\\1/')"  # of a player: its file


class Service:
    """A service whose camera is there."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def status(self) -> Status:
        return everything(module())

    async def service_runs(self) -> bool:
        return True


def player(folder: Path, does: str) -> None:
    made = folder / "ffplay"
    made.write_text(f"#!/bin/sh\necho $$ >{folder}/pid\n{does}\n")
    made.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(window, "Client", Service)
    monkeypatch.setattr(window, "in_terminal", lambda _wanted: False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_it_closes_after_its_seconds(folder: Path) -> None:
    player(folder, "exec sleep 60")
    assert main.main(["preview", "--seconds", "3"]) == Exit.OK
    pid = int((folder / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_wrong_lens_begins_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.y4m"
    assert main.main(["preview", "--in-process", "--lens", "35", "--out", str(out)]) == Exit.NOT_FOUND
    assert "there is no lens '35'" in capsys.readouterr().err
    assert not out.exists()


def test_a_player_that_fails_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    player(folder, "exit 3")
    assert main.main(["preview", "--seconds", "20"]) == Exit.FAILED
    said = capsys.readouterr().err
    assert "ffplay ended with 3" in said
    assert "try: maglens preview --terminal" in said


def test_a_camera_that_goes_ends_the_window(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ffplay would show its last picture for ever."""
    camera = folder / "video9"
    camera.touch()

    async def status(self: Service) -> Status:
        there = everything(module())
        there["nodes"][0]["path"] = str(camera)
        return there

    monkeypatch.setattr(Service, "status", status)
    monkeypatch.setattr(window, "REFRESH_S", 0.02)
    player(folder, f"rm {camera}; exec sleep 60")
    assert main.main(["preview", "--seconds", "20"]) == Exit.FAILED
    assert f"{camera} has gone" in capsys.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


def written(words: Path) -> str:
    """What ffmpeg complains of when it writes these words over a picture."""
    words.write_text("lens    %{pts} it's \\ 1:2")
    picture = ("-f", "lavfi", "-i", "color=black:s=64x48", "-frames:v", "1", "-vf", window.filter_text(words))
    command = ("ffmpeg", "-loglevel", "error", *picture, "-f", "null", "-")
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="asks ffmpeg itself: apt install ffmpeg")
def test_the_words_are_found_in_a_folder_of_any_name(tmp_path: Path) -> None:
    if complaint := written(tmp_path / "overlay"):
        pytest.skip(f"this ffmpeg writes no words: {complaint}")
    for name in ("a:b", "it's", "x,y;[z]", "back\\slash", "100 %{pts}"):
        (tmp_path / name).mkdir()
        assert written(tmp_path / name / "overlay") == "", name


def two_cameras() -> Status:
    """A module plays on the first camera, and another, which came before it, on ``[node.front]``."""
    there = everything(module(identity="a/front/1", model="front"), module(identity="a/back/2", model="back"))
    node = there["node"]
    there["node"] = {**node, "playing": "a/back/2"}
    there["nodes"] = [there["node"], {**node, "group": "front", "playing": "a/front/1", "path": "/dev/video1"}]
    there["optics"] = {"identity": "lens/1", "lens": "50 mm", "focal_mm": (50.0, 50.0), "fnumber": (2.0, 16.0)}
    return there


def test_with_several_cameras_the_one_that_is_shown_is_named() -> None:
    there = two_cameras()
    assert "back" in window.overlay(there).splitlines()[0]
    assert "50 mm before" in window.overlay(there)
    assert "front" in window.overlay(there, "front").splitlines()[0]
    assert "50 mm before" not in window.overlay(there, "front"), "that is before what plays on the first"
    there["nodes"][1]["playing"] = ""
    assert window.overlay(there, "front") == "nothing plays"


def test_another_camera_is_shown_and_one_that_is_none_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def status(self: Service) -> Status:
        return two_cameras()

    monkeypatch.setattr(Service, "status", status)
    player(folder, f'echo "$@" >{folder}/command')
    assert main.main(["preview", "--node", "front", "--seconds", "20"]) == Exit.OK
    assert (folder / "command").read_text().endswith("-i /dev/video1\n")
    assert main.main(["preview", "--node", "side"]) == Exit.NOT_FOUND
    assert "there is no [node.side]" in capsys.readouterr().err
    assert main.main(["preview", "--in-process", "--node", "front"]) != Exit.OK
    assert "a camera of their own" in capsys.readouterr().err


def test_a_disk_that_is_full_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "full.y4m"
    out.symlink_to("/dev/full")
    words = ["preview", "--in-process", "--out", str(out), "--seconds", "0.1", "--size", "320x240"]
    assert main.main(words) == Exit.FAILED
    assert f"{out}: No space left on device" in capsys.readouterr().err


@pytest.fixture
def ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The service does not answer any more once the picture is there."""
    asked: list[None] = []

    async def status(self: Service) -> Status:
        asked.append(None)
        if len(asked) > 1:
            raise Unavailable("the service does not answer")
        return everything(module())

    monkeypatch.setattr(Service, "status", status)
    monkeypatch.setattr(window, "REFRESH_S", 0.02)
    return folder


def test_the_window_outlives_the_service_and_says_so(ends: Path) -> None:
    player(ends, f'{OVERLAY}\nuntil grep -q "does not answer" "$words"; do sleep 0.02; done')
    assert main.main(["preview", "--seconds", "20"]) == Exit.OK


def test_a_service_that_was_stopped_is_not_started_by_the_window(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []

    async def status(self: Service) -> Status:
        asked.append(None)
        return everything(module())

    async def runs(_self: Service) -> bool:
        return False

    monkeypatch.setattr(Service, "status", status)
    monkeypatch.setattr(Service, "service_runs", runs)
    monkeypatch.setattr(window, "REFRESH_S", 0.02)
    player(folder, f"{OVERLAY}\nuntil grep -q 'does not run' \"$words\"; do sleep 0.02; done")
    assert main.main(["preview", "--seconds", "20"]) == Exit.OK
    assert len(asked) == 1, "before the window opened"


def test_so_does_the_terminal(ends: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(_node: str, words: Callable[[], str], _seconds: float) -> None:
        said = asyncio.Event()

        def look() -> None:
            if "does not answer" in words():
                said.set()
            else:
                asyncio.get_running_loop().call_later(0.01, look)

        look()
        async with asyncio.timeout(10):
            await said.wait()

    monkeypatch.setattr(terminal, "play", play)
    monkeypatch.setattr(window, "in_terminal", lambda _wanted: True)
    assert main.main(["preview"]) == Exit.OK
