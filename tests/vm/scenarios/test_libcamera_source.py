# SPDX-License-Identifier: GPL-2.0-or-later
"""The libcamera source on the real library: its virtual pipeline, and its UVC pipeline on the emulated camera."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from maglens_driver.control import Cid
from maglens_driver.errors import Gone
from maglens_driver.frame import Frame
from maglens_driver.libcamera.limits import Limits
from maglens_driver.libcamera.source import LibcameraSource, camera_ids
from maglens_driver.mode import NV12
from maglens_driver.virtual import mark
from tests.tools.usbip.camera import MARK_SOURCE
from tests.tools.usbip.plugged import Plugged
from tests.unit.source_conformance import RecordingSink, SourceConformance
from tests.vm.conftest import WatchUdev
from tests.vm.guest.devices import succeed

VIRTUAL_CAMERA = "lab0"
VIRTUAL_FILE = Path("/usr/share/libcamera/pipeline/virtual/virtual.yaml")
VIRTUAL = f"""
"{VIRTUAL_CAMERA}":
  supported_formats:
  - width: 320
    height: 240
    frame_rates: [15, 30]
  - width: 640
    height: 480
    frame_rates: [15, 30]
  test_pattern: "bars"
  location: "CameraLocationFront"
  model: "Lab camera"
"""
PACED = 60  # frames
PLATFORM = "/sys/devices/platform"
FIRMWARE_NODE = r"\_SB_.LAB0"
# An emulated machine takes ten times as long for everything.
SLOW = Limits(open_s=60, configure_s=20, start_s=20, set_s=10, stop_s=5, first_frame_s=20, stall_s=5, restarts=50)

Act = Callable[[LibcameraSource, RecordingSink], Awaitable[None]]


@pytest.fixture
def virtual() -> Iterator[str]:
    """The id of a camera of libcamera's virtual pipeline."""
    VIRTUAL_FILE.parent.mkdir(parents=True, exist_ok=True)
    VIRTUAL_FILE.write_text(VIRTUAL)
    yield VIRTUAL_CAMERA
    VIRTUAL_FILE.unlink()


class VirtualRig:
    """The conformance test's way to it. It has no plug."""

    async def open(self) -> LibcameraSource:
        return await LibcameraSource.open(VIRTUAL_CAMERA, limits=SLOW)

    def unplug(self) -> bool:
        return False


@pytest.fixture
def rig(virtual: str) -> VirtualRig:
    return VirtualRig()


class TestVirtual(SourceConformance):
    """Everything that a source must do."""


def stream(camera_id: str, act: Act) -> RecordingSink:
    """Stream the smallest NV12 mode of a camera, and ``act`` after the first frames."""
    sink = RecordingSink()

    async def run() -> None:
        source = await LibcameraSource.open(camera_id, limits=SLOW)
        try:
            await source.configure(min((m for m in source.modes if m.fourcc == NV12), key=lambda m: m.width))
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 3, 30)
            await act(source, sink)
        finally:
            await source.close()

    asyncio.run(run())
    return sink


def pid_of(source: LibcameraSource) -> int:
    """The child's."""
    assert source.child_pid is not None
    return source.child_pid


def test_virtual_pipeline_is_listed_and_keeps_its_rate(virtual: str) -> None:
    assert virtual in asyncio.run(camera_ids(limits=SLOW))

    async def act(source: LibcameraSource, sink: RecordingSink) -> None:
        assert source.identity.model == "Lab camera"
        count, began = len(sink.frames), time.monotonic()
        await sink.until(lambda s: len(s.frames) >= count + PACED, 30)
        # It has no clock of its own, and would run as fast as the machine does; it catches up with what it missed.
        assert PACED / (time.monotonic() - began) < 36

    sink = stream(virtual, act)
    assert not sink.asked  # its own buffers: nothing was copied
    assert not sink.drops


def test_killed_child_is_told_once_and_replaced(virtual: str) -> None:
    async def act(source: LibcameraSource, sink: RecordingSink) -> None:
        first = pid_of(source)
        os.kill(first, signal.SIGKILL)
        await sink.until(lambda s: bool(s.losses))
        assert isinstance(sink.losses[0][1], Gone)
        await source.stop()
        await source.configure(source.modes[0])
        again = RecordingSink()
        await source.start(again, 2)
        await again.until(lambda s: len(s.frames) >= 3, 30)
        await source.stop()
        assert source.child_pid not in (None, first)
        assert len(sink.losses) == 1 and not sink.after_lost

    stream(virtual, act)


def test_child_stuck_in_stop_is_killed(virtual: str) -> None:
    async def act(source: LibcameraSource, sink: RecordingSink) -> None:
        os.kill(pid_of(source), signal.SIGSTOP)
        began = time.monotonic()
        await source.stop()
        assert SLOW.stop_s <= time.monotonic() - began < SLOW.stop_s + 3
        assert source.child_pid is None
        assert not sink.losses
        await source.configure(source.modes[0])
        again = RecordingSink()
        await source.start(again, 2)
        await again.until(lambda s: len(s.frames) >= 3, 30)

    stream(virtual, act)


def test_child_that_falls_silent_is_lost(virtual: str) -> None:
    async def act(source: LibcameraSource, sink: RecordingSink) -> None:
        os.kill(pid_of(source), signal.SIGSTOP)
        await sink.until(lambda s: bool(s.losses), SLOW.stall_s + 5)
        await source.stop()
        assert len(sink.losses) == 1

    stream(virtual, act)


class MarkSink(RecordingSink):
    """Reads the marks and the middle's brightness while the pictures are there."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[mark.Mark | mark.Mixed | None] = []
        self.light = 0.0

    def deliver(self, frame: Frame) -> None:
        luma = mark.luma_plane(frame.lease.view[: frame.nbytes], frame.mode)
        self.marks.append(mark.read(luma))
        self.light = float(luma[luma.shape[0] // 3 : luma.shape[0] * 2 // 3].mean())
        super().deliver(frame)


@contextmanager
def firmware_node(layer: Path) -> Iterator[None]:
    """Show the platform devices as children of a firmware node.

    libcamera names a UVC camera after the firmware's node of its controller, and refuses one that has none, as the
    virtual controller of USB/IP does. sysfs takes no new files, but can be the lower layer of an overlay; libudev
    then has to be told not to insist on sysfs (SYSTEMD_DEVICE_VERIFY_SYSFS).
    """
    (layer / "firmware_node").mkdir()
    (layer / "firmware_node/path").write_text(FIRMWARE_NODE + "\n")
    succeed("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={layer}:{PLATFORM}", PLATFORM)
    try:
        yield
    finally:
        succeed("umount", PLATFORM)


def test_uvcvideo_pipeline_plays_the_emulated_camera(wait_for_udev: WatchUdev, tmp_path: Path) -> None:
    succeed("modprobe", "-a", "vhci-hcd", "uvcvideo", "overlay")
    watch = wait_for_udev("video4linux")
    with Plugged() as camera:
        watch.next("add", lambda device: ":capture:" in device.properties.get("ID_V4L_CAPABILITIES", ""))
        succeed("udevadm", "settle")
        with firmware_node(tmp_path):
            asyncio.run(_play_until_pulled(camera))


async def _play_until_pulled(camera: Plugged) -> None:
    environment = {"SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}
    found = [each for each in await camera_ids(limits=SLOW, environment=environment) if "1209:0002" in each]
    assert len(found) == 1 and found[0].startswith(FIRMWARE_NODE)
    source = await LibcameraSource.open(found[0], limits=SLOW, environment=environment)
    try:
        assert "Emulated UVC camera" in source.identity.model
        mode = next(m for m in source.modes if (m.fourcc, m.width) == (NV12, 320))
        assert await source.configure(mode) == mode
        sink = MarkSink()
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 5, 30)
        plain = sink.light
        brightness = next(c for c in source.controls if c.id == Cid.BRIGHTNESS)
        await source.set({Cid.BRIGHTNESS: brightness.maximum // 2})
        await sink.until(lambda _: sink.light > plain + 25, 30)
        await asyncio.to_thread(camera.kill)  # the detach file is under the overlay, which is read-only
        await sink.until(lambda s: bool(s.losses), SLOW.stall_s + 10)
        assert isinstance(sink.losses[0][1], Gone)
        await source.stop()
        assert {type(each) for each in sink.marks} == {mark.Mark}
        seen = [each.number for each in sink.marks if isinstance(each, mark.Mark) and each.source == MARK_SOURCE]
        assert len(set(seen)) == len(sink.marks)
        with pytest.raises(Gone):
            await source.configure(mode)
    finally:
        await source.close()
