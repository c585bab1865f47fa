# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules other than the virtual ones: both examples, a camera behind a board's gadget, a lens without a camera."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maglens_driver.conform.check import Verdict
from maglens_driver.conform.port_watch import PortWatch
from maglens_driver.conform.run import Run, failed
from maglens_driver.conform.specimen import Specimen
from maglens_driver.conform.suite import chosen
from maglens_driver.conform.usb_facts import SYSFS_USB, read_facts
from maglens_driver.gadget import configfs
from maglens_driver.names import CONFIGFS_GADGETS
from maglens_driver.usb.libusb import LibusbTransport
from tests.demo.recording import pictures
from tests.vm.conftest import JournalOf, Record
from tests.vm.guest.devices import succeed
from tests.vm.guest.hand import port_of
from tests.vm.guest.limits import emulated
from tests.vm.guest.troupe import virtual_camera
from tests.vm.scenarios.test_daemon import ATTACH_S, DROPIN, UNIT, status, systemctl
from tests.vm.scenarios.test_switching import HEIGHT, WIDTH

READY_S = 60.0
SUBSET = ["usb.*", "info.*", "descriptor.*", "power.*", "controls.*", "configure.*", "stream.*"]
LENS = "m-mount-50mm"
MARGIN = 8  # pixels at the edge that a crop may smear


@contextlib.contextmanager
def running(*words: str) -> Iterator[str]:
    """A module in a process of its own, attached: its USB port."""
    subprocess.run(["modprobe", "-a", "libcomposite", "dummy_hcd"], check=True)
    process = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready"), line
        bound = [(p / "UDC").read_text().strip() for p in Path(CONFIGFS_GADGETS).iterdir()]
        (udc,) = [name for name in bound if name in configfs.controllers()]
        succeed("udevadm", "settle")
        yield port_of(udc)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(READY_S) == 0


def conform(port: str, patterns: list[str]) -> None:
    """All checks that fit must pass."""

    async def find() -> Specimen:
        async with PortWatch(port) as watch:
            device, _ = await watch.steady(READY_S)
        return Specimen(read_facts(SYSFS_USB / port), device, LibusbTransport(device))

    specimen = asyncio.run(find())
    results = Run(specimen).make(chosen(patterns))
    specimen.close()
    assert not failed(results), [f"{r.check.name}: {r.why}" for r in results if r.verdict is Verdict.FAIL]
    assert sum(r.verdict is Verdict.PASS for r in results) > len(results) // 2


@pytest.mark.usefixtures("daemon_away", "patient")
@pytest.mark.parametrize("name", ["minimal", pytest.param("template", marks=pytest.mark.long)])
def test_the_examples_conform(name: str) -> None:
    with running(f"maglens_driver.gadget.{name}") as port:
        conform(port, SUBSET if emulated() and name != "minimal" else [])


def run_words(source: str, lens: str) -> list[str]:
    return ["maglens_daemon.cli.main", "module", "run", "--source", source, "--lens", lens, "--serial", "BOARD1"]


@pytest.mark.long
@pytest.mark.usefixtures("daemon_away", "patient")
def test_a_camera_on_a_board_conforms(vivid: Path) -> None:
    with running(*run_words(f"v4l2:{vivid}", "webcam")) as port:
        conform(port, SUBSET if emulated() else [])


@pytest.mark.long
def test_a_camera_on_a_board_plays(vivid: Path, journal: JournalOf, ffmpeg_recorder: Record) -> None:
    """vivid -> gadget -> host -> node -> app."""
    systemctl("mask", "--runtime", "--now", UNIT)
    try:
        with running(*run_words(f"v4l2:{vivid}", "webcam")):
            DROPIN.write_text("[cameras]\nauto = false\nlibcamera = false\n")
            systemctl("unmask", "--runtime", UNIT)
            log = journal(UNIT)
            systemctl("restart", UNIT)
            log.wait_for("ready", ATTACH_S, MAGLENS_SERIAL="BOARD1")
            with ffmpeg_recorder(status()["node"]["path"]):
                log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL="BOARD1")
                entry = next(m for m in status()["modules"] if m["serial"] == "BOARD1")
                assert (entry["state"], entry["lens"]) == ("streaming", "4 mm f/2")
        log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="BOARD1")
    finally:
        systemctl("unmask", "--runtime", UNIT)
        DROPIN.unlink(missing_ok=True)
        systemctl("restart", UNIT)


def mean_row(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The middle row of the last picture."""
    last = list(pictures(path, "gray", WIDTH * HEIGHT))[-1]
    luma = np.frombuffer(last, np.uint8).reshape(HEIGHT, WIDTH)
    row: np.ndarray[tuple[int], np.dtype[np.float64]] = luma[HEIGHT // 2 - 4 : HEIGHT // 2 + 4].mean(axis=0)
    return row


@pytest.fixture
def built_in() -> Iterator[None]:
    """A machine whose built-in camera is libcamera's virtual one, and a service in which a lens counts at once."""
    try:
        DROPIN.write_text("[policy]\ndwell_ms = 0\n")
        with virtual_camera():
            systemctl("restart", UNIT)
            yield
    finally:
        DROPIN.unlink(missing_ok=True)
        systemctl("restart", UNIT)


@pytest.mark.long
@pytest.mark.usefixtures("built_in")
def test_the_built_in_camera_plays_through_a_bare_lens(journal: JournalOf, ffmpeg_recorder: Record) -> None:
    """libcamera's bars, and a lens that turns them and shows their middle only."""
    log = journal(UNIT)
    options = ["-input_format", "nv12", "-video_size", f"{WIDTH}x{HEIGHT}"]
    node = status()["node"]["path"]
    with ffmpeg_recorder(node, "without", options) as recording:
        log.wait_for("plays", ATTACH_S)
        recording.wait_frames(20)
    assert status()["optics"] is None
    log = journal(UNIT)
    with running(*run_words("none", LENS)):
        log.wait_for("ready", ATTACH_S, MAGLENS_SERIAL="BOARD1")
        with ffmpeg_recorder(node, "through", options) as through:
            log.wait_for("plays", ATTACH_S)
            through.wait_frames(20)
            optics = status()["optics"]
            assert optics is not None
            assert (optics["lens"], list(optics["focal_mm"])) == ("50 mm f/2", [50.0, 50.0])
    log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="BOARD1")
    plain, seen = mean_row(recording.path), mean_row(through.path)
    edges = [int(np.argmax(np.abs(np.diff(row[MARGIN:-MARGIN])))) for row in (plain, seen)]
    assert abs(plain - seen).mean() > 10, edges
    assert status()["optics"] is None
