# SPDX-License-Identifier: GPL-2.0-or-later
"""A rehearsed focus is played, not drawn: through the module's socket as `maglens sim rehearse` does it, and from the
command line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from maglens_daemon import exits
from maglens_daemon.cli import main
from maglens_driver.control import Cid
from maglens_driver.errors import MaglensError
from maglens_driver.gadget import sim
from maglens_driver.gadget.client import SimClient
from maglens_driver.gadget.sim import Simulator
from maglens_driver.mode import SRGGB10P, Mode, make_mode
from maglens_driver.virtual import raw_picture
from maglens_driver.virtual.camera import VirtualCamera
from maglens_driver.virtual.lens import load_lens
from maglens_driver.virtual.mark import Mark
from maglens_driver.virtual.raw_picture import RawRenderer
from maglens_driver.virtual.sensor import SensorModel
from maglens_driver.virtual.stack import Stack

LENS = load_lens("35mm")
SMALL = LENS.descriptor.with_facts(make_mode(SRGGB10P, 96, 64, Fraction(1, 30)))
SETTLE_S = 30.0
FOCUS = Cid.FOCUS_ABSOLUTE


@pytest.fixture
def camera(tmp_path: Path) -> VirtualCamera:
    return VirtualCamera(LENS, tmp_path)


def not_now(*_: object) -> bool:
    raise AssertionError("it was drawn, not played")


def played(camera: VirtualCamera, mode: Mode, number: int) -> bytes:
    view = memoryview(bytearray(mode.nbytes))
    camera.compose(view, Mark(LENS.mark, 1, number))
    return bytes(view)


def test_a_rehearsed_focus_is_played_and_not_drawn(camera: VirtualCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    positions, nbytes = camera.rehearsal(SMALL)
    assert nbytes == positions * raw_picture.takes_of(SMALL) * SMALL.nbytes
    for position in range(positions):
        camera.rehearse(SMALL, position)
    camera.select(SMALL)
    camera.begin()
    assert camera.settled(SETTLE_S)
    monkeypatch.setattr(SensorModel, "expose", not_now)
    monkeypatch.setattr(RawRenderer, "light", not_now)
    try:
        seen = set()
        for focus in (0, 40, 150, 400):
            camera.set({FOCUS: focus})
            assert camera.settled(SETTLE_S), focus
            seen.add(played(camera, SMALL, 1))
            assert played(camera, SMALL, 1) != played(camera, SMALL, 2), "takes have noise of their own"
        assert len(seen) == 4
    finally:
        camera.close()


def test_what_is_played_is_what_would_be_drawn(tmp_path: Path) -> None:
    assert LENS.descriptor.sensor is not None
    with_stack = VirtualCamera(LENS, tmp_path)
    settings = with_stack._optics()
    drawn = RawRenderer(LENS.descriptor.sensor, SMALL).render(settings, lambda: False)
    kept = RawRenderer(LENS.descriptor.sensor, SMALL, Stack(tmp_path))
    kept.rehearse(settings, lambda: False)
    again = RawRenderer(LENS.descriptor.sensor, SMALL, Stack(tmp_path)).render(settings, not_now)
    np.testing.assert_array_equal(np.stack(again.takes), np.stack(drawn.takes))
    assert again.meta == drawn.meta
    assert len(list(tmp_path.iterdir())) == 1, "light that is only played is not kept"


def test_another_exposure_is_not_what_was_rehearsed(camera: VirtualCamera, tmp_path: Path) -> None:
    assert LENS.descriptor.sensor is not None
    renderer = RawRenderer(LENS.descriptor.sensor, SMALL, Stack(tmp_path))
    renderer.rehearse(camera._optics(), lambda: False)
    assert renderer._rehearsed(camera._optics()) is not None
    camera.set({Cid.EXPOSURE_ABSOLUTE: 40})
    assert renderer._rehearsed(camera._optics()) is None
    camera.set({Cid.EXPOSURE_ABSOLUTE: 80})
    camera.shine(5600, 2.0)
    assert renderer._rehearsed(camera._optics()) is None


def test_what_cannot_be_kept_is_said(camera: VirtualCamera, tmp_path: Path) -> None:
    with pytest.raises(MaglensError, match="nowhere to keep"):
        VirtualCamera(LENS).rehearsal(SMALL)
    camera._stack = Stack(tmp_path, max_bytes=SMALL.nbytes)
    with pytest.raises(MaglensError, match="more than the") as caught:
        camera.rehearsal(SMALL)
    assert "iris" in caught.value.hint
    for wrong in (-1, 10_000):
        with pytest.raises(IndexError):
            camera.rehearse(SMALL, wrong)


def over_socket(tmp_path: Path, talk: Callable[[SimClient], object]) -> None:
    """Talk to a module that has no kernel under it."""

    async def serve() -> None:
        simulator = Simulator("35mm", tmp_path)
        server = await asyncio.start_unix_server(partial(sim.serve, simulator), tmp_path / "35mm.sock")
        try:
            with SimClient("35mm", tmp_path) as one:
                await asyncio.to_thread(talk, one)
        finally:
            server.close()
            await simulator.source.close()

    asyncio.run(serve())


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three positions are all that a mode has, kept below ``tmp_path``."""
    whole = RawRenderer.positions
    monkeypatch.setattr(RawRenderer, "positions", lambda self, optics: whole(self, optics)[::30][:3])
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))


@pytest.mark.usefixtures("few")
def test_a_module_keeps_them_on_request_and_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def talk(one: SimClient) -> None:
        reply = one.rehearse("pRAA", 640, 480, lambda done, of: told.append((done, of)))
        assert reply == {"positions": 3, "nbytes": sum(f.stat().st_size for f in (tmp_path / "light").iterdir())}
        with pytest.raises(MaglensError, match="no position 3"):
            one.ask("rehearse", fourcc="pRAA", width=640, height=480, position=3)
        with pytest.raises(MaglensError, match="no raw mode NV12") as caught:
            one.rehearse("NV12", 640, 480)
        assert "pRAA 640x480" in caught.value.hint

    over_socket(tmp_path, talk)
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.usefixtures("few")
def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def talk(one: SimClient) -> None:
        monkeypatch.setattr("maglens_daemon.cli.sim._ready", lambda name: one)
        assert main.main(["sim", "rehearse", "35mm", "pRAA", "640x480"]) == exits.Exit.OK
        assert main.main(["sim", "rehearse", "35mm", "pRAA", "640"]) == exits.Exit.USAGE
        assert main.main(["sim", "rehearse", "35mm", "NV12", "640x480"]) == exits.Exit.FAILED

    over_socket(tmp_path, talk)
    printed = capsys.readouterr()
    assert "35mm keeps 3 positions of focus" in printed.out
    assert "is no size" in printed.err
    assert "try: use one of pRAA 640x480" in printed.err


def resident(path: Path) -> int:
    """Bytes of a mapped file that this process can read without a page fault."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    sizes = (next(line for line in lines if line.startswith("Rss:")) for entry in lines if entry.endswith(str(path)))
    return 1024 * sum(int(size.split()[1]) for size in sizes)


def test_what_is_found_is_there_before_it_is_played(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    kept = stack.keep("one", np.zeros((2, 1 << 20), np.uint8))
    (path,) = tmp_path.iterdir()
    del kept
    found = stack.find("one", (2, 1 << 20), np.uint8)
    assert found is not None
    assert resident(path) == found.nbytes
