# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated UVC camera as uvcvideo, ffmpeg and our V4L2 source see it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from maglens_driver.control import Cid, ControlFlag
from maglens_driver.errors import Gone
from maglens_driver.frame import Frame
from maglens_driver.mode import MJPG, NV12, YUYV, make_mode
from maglens_driver.v4l2.source import V4L2Source
from maglens_driver.virtual import mark
from maglens_driver.ycbcr import Matrix, YCbCr
from tests.tools.screen import Screen
from tests.tools.usbip.camera import MARK_SOURCE
from tests.tools.usbip.plugged import Plugged
from tests.unit.source_conformance import RecordingSink, SourceConformance
from tests.vm.conftest import Record, WatchUdev
from tests.vm.guest.devices import succeed

WIDTH, HEIGHT = 320, 240
MANUAL = 1  # of EXPOSURE_AUTO
PIXELS = ["-video_size", f"{WIDTH}x{HEIGHT}"]

Plug = Callable[..., tuple[Plugged, Path]]


@pytest.fixture
def plug(wait_for_udev: WatchUdev) -> Iterator[Plug]:
    """plug(*options): a camera that is plugged in, and its capture node, when udev is done with it."""
    succeed("modprobe", "-a", "vhci-hcd", "uvcvideo")
    watch = wait_for_udev("video4linux")
    with ExitStack() as stack:

        def plugged(*options: str) -> tuple[Plugged, Path]:
            camera = stack.enter_context(Plugged(*options))
            stack.callback(succeed, "udevadm", "settle")
            node = watch.next("add", lambda device: ":capture:" in device.properties.get("ID_V4L_CAPABILITIES", ""))
            return camera, Path(str(node.device_node))

        yield plugged


def lumas(path: Path) -> Iterator[mark.Luma]:
    """The luma of each picture in a file, decoded by ffmpeg: full-range, as its gray format is."""
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(path),
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "gray",
        "-",
    ]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    for start in range(0, len(raw), WIDTH * HEIGHT):
        yield np.frombuffer(raw[start : start + WIDTH * HEIGHT], np.uint8).reshape(HEIGHT, WIDTH)


def numbers(marks: list[mark.Mark | mark.Mixed | None]) -> list[int]:
    """The frame numbers; every picture must be whole, of our camera, and seen but once.

    Their order is not looked at: uvcvideo copies payloads in several workers, and on a starved machine a frame may
    overtake another.
    """
    assert all(isinstance(each, mark.Mark) and each.source == MARK_SOURCE for each in marks), marks
    found = [each.number for each in marks if isinstance(each, mark.Mark)]
    assert len(set(found)) == len(found)
    return found


@pytest.mark.parametrize(
    ("options", "formats"),
    [
        (("--speed", "super"), ("yuyv422", "nv12", "mjpeg")),
        (("--speed", "high"), ("nv12",)),
        pytest.param(("--uvc", "1.5"), ("nv12",), marks=pytest.mark.long),
    ],
)
def test_ffmpeg_records_whole_pictures(
    plug: Plug, ffmpeg_recorder: Record, options: tuple[str, ...], formats: tuple[str, ...]
) -> None:
    _, node = plug(*options)
    for name in formats:
        recording = ffmpeg_recorder(node, name, ["-input_format", name, *PIXELS])
        recording.wait_frames(10)
        recording.stop()
        assert recording.errors() == []
        seen = numbers([mark.read(luma) for luma in lumas(recording.path)])
        assert len(seen) >= 10


def test_udev_names_it_by_its_serial(plug: Plug) -> None:
    _, node = plug("--serial", "LAB7", "--product", "Lab camera")
    link = Path("/dev/v4l/by-id/usb-maglens_Lab_camera_LAB7-video-index0")
    assert link.resolve() == node


def test_uvcvideo_sets_its_controls(plug: Plug, ffmpeg_recorder: Record) -> None:
    _, node = plug()

    def brightness_of_picture(name: str) -> float:
        recording = ffmpeg_recorder(node, name, ["-input_format", "yuyv422", *PIXELS])
        recording.wait_frames(3)
        recording.stop()
        return float(np.mean([luma[80:160].mean() for luma in lumas(recording.path)]))

    plain = brightness_of_picture("plain")
    succeed("v4l2-ctl", "-d", node, "--set-ctrl", "brightness=40")
    assert brightness_of_picture("bright") == pytest.approx(plain + 40 * 255 / 219, abs=3)
    succeed("v4l2-ctl", "-d", node, "--set-ctrl", "brightness=0,auto_exposure=1,exposure_time_absolute=100")
    assert brightness_of_picture("short") < plain * 0.7
    assert succeed("v4l2-ctl", "-d", node, "--get-ctrl", "exposure_time_absolute").split()[-1] == "100"


def test_pulling_it_out_takes_the_node_away(plug: Plug, wait_for_udev: WatchUdev, ffmpeg_recorder: Record) -> None:
    camera, node = plug()
    recording = ffmpeg_recorder(node, options=["-input_format", "yuyv422", *PIXELS])
    recording.wait_frames(3)
    watch = wait_for_udev("video4linux")
    camera.unplug()
    watch.next("remove", lambda device: device.device_node == str(node))
    assert not node.exists()
    assert recording.process.wait(20) is not None
    with Plugged() as again:
        assert again.port == camera.port
        watch.next("add")


def frame_mark(frame: Frame) -> mark.Mark | mark.Mixed | None:
    """The mark in a frame."""
    return mark.read(mark.luma_plane(frame.lease.view[: frame.nbytes], frame.mode))


class UvcRig:
    """The conformance test's way to the camera."""

    def __init__(self, camera: Plugged, node: Path) -> None:
        self._camera = camera
        self.node = node

    async def open(self) -> V4L2Source:
        return await V4L2Source.open(str(self.node))

    def unplug(self) -> bool:
        self._camera.unplug()
        return True


@pytest.fixture
def rig(plug: Plug) -> UvcRig:
    return UvcRig(*plug())


@pytest.mark.long
class TestV4L2Source(SourceConformance):
    """Everything that a source must do, on a real USB camera; without ``--long`` vivid stands for it."""


class MarkSink(RecordingSink):
    """Reads the marks while the pictures are there."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[mark.Mark | mark.Mixed | None] = []

    def deliver(self, frame: Frame) -> None:
        self.marks.append(frame_mark(frame))
        super().deliver(frame)


def inactive(source: V4L2Source, control: int) -> bool:
    """Whether it is said to be so now."""
    return any(info.id == control and info.flags & ControlFlag.INACTIVE for info in source.controls)


def test_v4l2_source_plays_it_until_it_is_pulled(rig: UvcRig) -> None:
    async def run() -> None:
        source = await rig.open()
        try:
            mode = next(m for m in source.modes if (m.fourcc, m.width) == (NV12, WIDTH))
            assert any(m.fourcc == MJPG for m in source.modes)
            assert await source.configure(mode) == mode
            sink = MarkSink()
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 10)
            await source.set({Cid.BRIGHTNESS: 30})
            assert (await source.get())[Cid.BRIGHTNESS] == 30
            exposure = Cid.EXPOSURE_ABSOLUTE
            assert inactive(source, exposure), "its automatic is on"
            await source.set({Cid.EXPOSURE_AUTO: MANUAL})
            await sink.until(lambda s: (1, exposure, True) in s.flags)
            assert not inactive(source, exposure)
            assert await source.set({exposure: 100}) == {exposure: 100}
            await asyncio.to_thread(succeed, "v4l2-ctl", "-d", rig.node, "--set-ctrl", "auto_exposure=3")
            await sink.until(lambda s: (1, exposure, False) in s.flags)
            assert inactive(source, exposure)
            await asyncio.to_thread(rig.unplug)
            await sink.until(lambda s: bool(s.losses))
            assert isinstance(sink.losses[0][1], Gone)
            await source.stop()
            assert len(numbers(sink.marks)) >= 10
        finally:
            await source.close()

    asyncio.run(run())


@pytest.mark.long
def test_a_webcam_of_bt709_is_shown_as_what_apps_are_told(plug: Plug) -> None:
    """uvcvideo converts nothing and says what the camera's descriptor says; its MJPEG is JFIF all the same."""

    _, path = plug("--matrix", "1")

    async def run() -> None:
        source = await V4L2Source.open(str(path))
        shown_in = make_mode(NV12, WIDTH, HEIGHT, Fraction(1, 30))
        async with Screen(shown_in) as screen:
            pipeline, reader = screen.pipeline, screen.reader
            try:
                for generation, code in enumerate((NV12, YUYV, MJPG), 1):
                    wanted = next(m for m in source.modes if (m.fourcc, m.width) == (code, WIDTH))
                    mode = await source.configure(wanted)
                    assert mode.ycbcr == (None if code == MJPG else YCbCr(Matrix.BT709, full=False))
                    feed = pipeline.begin(generation, mode)
                    await source.start(feed, generation)
                    async with asyncio.timeout(60):
                        while pipeline.stats().generation != generation or not pipeline.stats().first_frame_ns:
                            await asyncio.to_thread(reader.copy, 5)
                    got = await asyncio.to_thread(reader.copy, 5)
                    assert got is not None
                    picture = np.frombuffer(got[1], np.uint8)
                    assert isinstance(mark.read(mark.luma_plane(memoryview(got[1]), shown_in)), mark.Mark)
                    # tests/tools/usbip/picture.py draws 148 and 148 there. By BT.709 those are BT.601's 145.6, 146.2.
                    chroma = picture[WIDTH * HEIGHT :].reshape(HEIGHT // 2, WIDTH // 2, 2)
                    u, v = chroma[HEIGHT * 3 // 8, WIDTH * 3 // 8]
                    means, slack = (148, 2) if code == MJPG else (146, 0)
                    assert abs(int(u) - means) <= slack and abs(int(v) - means) <= slack, (mode.describe(), u, v)
                    await source.stop()
            finally:
                await source.close()

    asyncio.run(run())
