# SPDX-License-Identifier: GPL-2.0-or-later
"""One camera that never goes away: two apps watch while cameras of every kind come, go and break."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maglens_driver import names
from maglens_driver.gadget import client as sims
from maglens_driver.gadget.client import SimClient
from maglens_driver.virtual import mark
from tests.demo.recording import pictures
from tests.tools.usbip.camera import MARK_SOURCE as WEBCAM
from tests.tools.usbip.plugged import Plugged
from tests.vm.conftest import JournalOf, Record
from tests.vm.guest.devices import succeed
from tests.vm.scenarios.test_daemon import ATTACH_S, START_S, UNIT, status, systemctl
from tests.vm.scenarios.test_libcamera_source import VIRTUAL, VIRTUAL_CAMERA, VIRTUAL_FILE

WIDTH, HEIGHT, RATE = 640, 480, 15
MODULE = 35
BARS, CARD = -1, -2  # libcamera's virtual camera draws no mark
STRIPES = 30  # standard deviation of a row's luma from which it is bars
CHILD = "maglens_driver.libcamera.child"
UVC_DRIVER = Path("/sys/bus/usb/drivers/uvcvideo")
WINDOW_NS = 2_000_000_000
LATE_NS = 200_000_000


@pytest.fixture
def built_in() -> Iterator[None]:
    """A machine whose built-in camera is libcamera's virtual one; the service starts with it."""
    VIRTUAL_FILE.parent.mkdir(parents=True, exist_ok=True)
    VIRTUAL_FILE.write_text(VIRTUAL)
    systemctl("restart", UNIT)
    yield
    VIRTUAL_FILE.unlink()
    systemctl("restart", UNIT)


@pytest.fixture
def module() -> Iterator[SimClient]:
    """A virtual module, detached."""
    sims.start("35mm")
    with SimClient("35mm") as client:
        yield client
    sims.stop("35mm")


def child_pid() -> int:
    """The daemon's libcamera process for the camera."""
    return int(succeed("pgrep", "-u", names.SYSTEM_USER, "-n", "-f", CHILD))


def unbind_webcam() -> None:
    """Take the driver away from under the camera."""
    interface = next(path for path in UVC_DRIVER.iterdir() if re.fullmatch(r"[0-9.-]+:1\.0", path.name))
    (UVC_DRIVER / "unbind").write_text(interface.name)


def shown(path: Path) -> list[int]:
    """What each recorded picture is: a mark's source, ``BARS`` or ``CARD``. A mixed one fails."""
    found = []
    for raw in pictures(path, "gray", WIDTH * HEIGHT):
        luma = np.frombuffer(raw, np.uint8).reshape(HEIGHT, WIDTH)
        seen = mark.read(luma)
        assert not isinstance(seen, mark.Mixed), "parts of two pictures"
        if seen is not None:
            found.append(seen.source)
        else:
            found.append(BARS if float(luma[HEIGHT // 2].std()) > STRIPES else CARD)
    return found


def windows(stamps: list[int]) -> Iterator[int]:
    """Frames in every 2 s that begin with one."""
    for first, stamp in enumerate(stamps):
        if stamp + WINDOW_NS > stamps[-1]:
            return
        yield sum(1 for later in stamps[first:] if later < stamp + WINDOW_NS)


def test_two_apps_watch_while_cameras_come_and_go(
    built_in: None, module: SimClient, journal: JournalOf, ffmpeg_recorder: Record, out: Path
) -> None:
    emulated = subprocess.run(["systemd-detect-virt"], capture_output=True, text=True, check=False).stdout != "kvm\n"
    log = journal(UNIT)
    log.wait_for("ready", START_S, MAGLENS_PORT=f"libcamera:{VIRTUAL_CAMERA}")
    node = status()["node"]["path"]
    options = ["-input_format", "nv12", "-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(RATE)]
    first = ffmpeg_recorder(node, options=options)
    raw = out / "gstreamer.nv12"
    caps = f"video/x-raw,format=NV12,width={WIDTH},height={HEIGHT},framerate={RATE}/1"
    command = ["gst-launch-1.0", "-e", "v4l2src", f"device={node}", "!", caps, "!", "filesink", f"location={raw}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as second:
        log.wait_for("plays", ATTACH_S, MAGLENS_PORT=f"libcamera:{VIRTUAL_CAMERA}")
        first.wait_frames(first.frames + 3 * RATE)
        module.attach()
        log.wait_for("plays", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
        first.wait_frames(first.frames + 3 * RATE)
        with Plugged():
            log.wait_for("plays", ATTACH_S, MAGLENS_MODULE="Emulated UVC camera")
            first.wait_frames(first.frames + 3 * RATE)
            module.detach()
            log.wait_for("removed", ATTACH_S, MAGLENS_SERIAL="SIM-35mm")
            os.kill(child_pid(), signal.SIGKILL)
            first.wait_frames(first.frames + RATE)
            unbind_webcam()
            log.wait_for("plays", ATTACH_S, MAGLENS_PORT=f"libcamera:{VIRTUAL_CAMERA}")
            first.wait_frames(first.frames + 2 * RATE)
            os.kill(child_pid(), signal.SIGKILL)
            log.wait_for("plays", ATTACH_S, MAGLENS_PORT=f"libcamera:{VIRTUAL_CAMERA}")
            first.wait_frames(first.frames + 2 * RATE)
        second.send_signal(signal.SIGINT)
        said, _ = second.communicate(timeout=60)
    first.stop()

    assert first.errors() == []
    assert second.returncode == 0 and "ERROR" not in said and "WARNING" not in said, said
    stamps = [stamp * 1000 for stamp in first.timestamps_us()]
    seen = shown(first.path)
    order = [source for source, _ in itertools.groupby(seen)]
    interval = 1_000_000_000 / RATE
    gaps = [(b - a) / interval for a, b in itertools.pairwise(stamps)]
    counts = list(windows(stamps))
    frames = raw.stat().st_size / (WIDTH * HEIGHT * 3 / 2)
    print(f"{order}; largest gap {max(gaps):.2f} intervals; {min(counts)} to {max(counts)} frames in 2 s;"
          f" ffmpeg {len(seen)}, GStreamer {frames} frames")  # fmt: skip
    played = [source for source in order if source != CARD]
    assert [source for source, _ in itertools.groupby(played)] == [BARS, MODULE, WEBCAM, BARS]
    assert max(gaps) <= (4 if emulated else 2)
    assert min(counts) >= 0.9 * 2 * RATE and max(counts) <= 1.1 * 2 * RATE
    assert frames == int(frames) and abs(frames - len(seen)) < 0.1 * len(seen) + RATE
