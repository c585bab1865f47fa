# SPDX-License-Identifier: GPL-2.0-or-later
"""The V4L2 source on vivid, the kernel's test-pattern camera: conformance, injected errors, the way to the node."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from maglens_driver.control import Cid
from maglens_driver.errors import Gone, MaglensError, Refused
from maglens_driver.frame import Frame
from maglens_driver.mode import NV12, YUYV, make_mode
from maglens_driver.source import Source
from maglens_driver.v4l2.memory import Choice
from maglens_driver.v4l2.source import V4L2Source
from maglens_v4l2 import loopback_control
from maglens_v4l2.loopback_node import LoopbackNode
from maglens_v4l2.pipeline import Pipeline
from tests.tools.screen import Screen
from tests.unit.source_conformance import RecordingSink, SourceConformance
from tests.vm.conftest import MakeLoopback
from tests.vm.guest.devices import succeed
from tests.vm.guest.devices import vivid as vivid_camera
from tests.vm.guest.udev_watch import UdevWatch

SMALL = make_mode(YUYV, 320, 180, Fraction(1, 30))
# vivid's own controls, include/.../vivid-ctrls.c
DISCONNECT = 0x00F0F041
INJECT_DAMAGE, INJECT_REQBUFS, INJECT_STREAMON, INJECT_FATAL = 0x00F0F042, 0x00F0F043, 0x00F0F045, 0x00F0F046


DRIVER = Path("/sys/bus/platform/drivers/vivid")
DEVICE = "vivid.0"


class VividRig:
    """One vivid for all tests, since loading it takes long. ``spoiled``: it is gone, or its controls are not as they
    were."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.spoiled = False

    async def open(self) -> V4L2Source:
        return await V4L2Source.open(self.path)

    def unplug(self) -> bool:
        self.spoiled = True
        (DRIVER / "unbind").write_text(DEVICE)
        return True

    def restore(self) -> None:
        gc.collect()  # frames that a test kept map the device's memory, which keeps its number taken
        if (DRIVER / DEVICE).exists():
            (DRIVER / "unbind").write_text(DEVICE)
        with UdevWatch("video4linux") as watch:
            (DRIVER / "bind").write_text(DEVICE)
            added = watch.next("add", lambda found: str(found.attributes.asstring("name")).endswith("vid-cap"))
        self.path = str(added.device_node)
        self.spoiled = False
        succeed("udevadm", "settle")


@pytest.fixture(scope="module")
def camera() -> Iterator[VividRig]:
    with vivid_camera() as path:
        yield VividRig(path)
        gc.collect()


@pytest.fixture
def rig(camera: VividRig, request: pytest.FixtureRequest) -> Iterator[VividRig]:
    name: str = request.node.name
    camera.spoiled = "controls" in name
    yield camera
    if camera.spoiled:
        camera.restore()


class TestVivid(SourceConformance):
    """Everything that a Source must do."""


def stream(rig: VividRig, act: Callable[[Source, RecordingSink], Awaitable[None]]) -> RecordingSink:
    """Stream the small mode, and ``act`` after the first frames."""
    sink = RecordingSink()

    async def run() -> None:
        source = await rig.open()
        try:
            assert await source.configure(SMALL) == SMALL
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 3)
            await act(source, sink)
        finally:
            await source.close()

    asyncio.run(run())
    return sink


def test_every_mode_is_one_that_the_bridge_can_show(rig: VividRig) -> None:
    async def run() -> None:
        source = await rig.open()
        assert {mode.fourcc for mode in source.modes} == {NV12, YUYV}
        assert SMALL in source.modes
        rates = [mode.interval for mode in source.modes if (mode.fourcc, mode.width) == (YUYV, 320)]
        assert rates == sorted(rates)
        assert Fraction(2, 25) in rates  # 12.5 frames a second came through linuxpy's floating point
        assert await source.configure(SMALL, test_only=True) == SMALL
        await source.close()

    asyncio.run(run())


class RowSink(RecordingSink):
    """Keeps each row that was ever seen near the bottom, where vivid writes nothing over its bars."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: set[bytes] = set()

    def deliver(self, frame: Frame) -> None:
        at = (frame.mode.height - 4) * frame.mode.stride
        self.rows.add(bytes(frame.lease.view[at : at + frame.mode.stride]))
        super().deliver(frame)


def test_it_fills_memory_of_ours(rig: VividRig) -> None:
    """DMABUF: as on boards whose own buffers are slow to read. The same picture, and nothing left behind."""
    sinks = {choice: RowSink() for choice in (Choice.MMAP, Choice.DMABUF)}

    async def run(choice: Choice) -> None:
        source = await V4L2Source.open(rig.path, choice)
        assert await source.configure(SMALL) == SMALL
        sink = sinks[choice]
        for generation in (1, 2):
            await source.start(sink, generation)
            await sink.until(lambda s: len(s.frames) >= 10)
            await source.stop()
            assert {frame.generation for frame in sink.frames} == {generation}
            sink.frames.clear()
        await source.close()

    def shared() -> int:
        return sum("dmabuf" in os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.exists())

    for choice in sinks:
        asyncio.run(run(choice))
    assert sinks[Choice.MMAP].rows == sinks[Choice.DMABUF].rows
    assert len(sinks[Choice.MMAP].rows) == 1 and len(set(*sinks[Choice.MMAP].rows)) > 4, "the bars"
    gc.collect()
    assert shared() == 0


@pytest.mark.long
def test_it_is_asked_for_colours_as_apps_are_told(rig: VividRig) -> None:
    """vivid converts to what it is asked for, whatever its controls say; until somebody turns them again."""
    rig.spoiled = True
    asked, turned = RowSink(), RowSink()

    async def run() -> None:
        source = await rig.open()
        by_name = {control.name: control.id for control in source.controls}
        others = {by_name["Y'CbCr Encoding"]: 2, by_name["Quantization"]: 1}  # V4L2's numbers: BT.709, full range
        try:
            assert (await source.configure(SMALL)).ycbcr is None
            plain = RowSink()
            await source.start(plain, 1)
            await plain.until(lambda s: len(s.frames) >= 3)
            await source.stop()
            await source.set(others)
            assert (await source.configure(SMALL)).ycbcr is None
            await source.start(asked, 2)
            await asked.until(lambda s: len(s.frames) >= 3)
            assert asked.rows == plain.rows
            await source.stop()
            await source.set(dict.fromkeys(others, 0))
            await source.set(others)
            await source.start(turned, 3)
            await turned.until(lambda s: len(s.frames) >= 3)
            assert turned.rows != plain.rows, "or the controls do nothing"
            await source.stop()
        finally:
            await source.close()

    asyncio.run(run())


def test_damaged_frames_are_dropped_and_counted(rig: VividRig) -> None:
    async def act(source: Source, sink: RecordingSink) -> None:
        await source.set({INJECT_DAMAGE: 1})
        await sink.until(lambda s: s.drops["damaged"] == 1)
        seen = len(sink.frames)
        await sink.until(lambda s: len(s.frames) >= seen + 3)
        assert not sink.losses

    stream(rig, act)


def test_a_stream_that_fails_for_good_is_lost_once(rig: VividRig) -> None:
    async def act(source: Source, sink: RecordingSink) -> None:
        await source.set({INJECT_FATAL: 1})
        await sink.until(lambda s: bool(s.losses))
        await source.stop()

    sink = stream(rig, act)
    assert len(sink.losses) == 1
    assert isinstance(sink.losses[0][1], Gone)
    assert not sink.after_lost


def test_a_camera_that_reports_itself_disconnected_is_gone(rig: VividRig) -> None:
    rig.spoiled = True

    async def act(source: Source, sink: RecordingSink) -> None:
        await source.set({DISCONNECT: 1})
        await sink.until(lambda s: bool(s.losses))
        await source.stop()
        with pytest.raises(Gone):
            await source.get()

    stream(rig, act)


@pytest.mark.parametrize("fault", [INJECT_REQBUFS, INJECT_STREAMON])
def test_a_start_that_fails_can_be_tried_again(rig: VividRig, fault: int) -> None:
    async def run() -> None:
        source = await rig.open()
        await source.configure(SMALL)
        await source.set({fault: 1})
        with pytest.raises((OSError, MaglensError)):
            await source.start(RecordingSink(), 1)
        sink = RecordingSink()
        await source.start(sink, 2)
        await sink.until(lambda s: len(s.frames) >= 2)
        await source.close()

    asyncio.run(run())


def test_a_control_moved_by_another_hand_is_told(rig: VividRig) -> None:
    async def act(source: Source, sink: RecordingSink) -> None:
        await asyncio.to_thread(succeed, "v4l2-ctl", "-d", rig.path, "--set-ctrl", "brightness=77")
        await sink.until(lambda s: (1, Cid.BRIGHTNESS, 77) in s.controls)
        await source.set({Cid.BRIGHTNESS: 50})  # one's own writes are not told
        assert (await source.get())[Cid.BRIGHTNESS] == 50
        assert (1, Cid.BRIGHTNESS, 50) not in sink.controls

    stream(rig, act)


def test_menus_come_with_their_names(rig: VividRig) -> None:
    async def run() -> None:
        source = await rig.open()
        pattern = next(control for control in source.controls if control.name == "Test Pattern")
        assert (0, "75% Colorbar") in pattern.menu
        assert len(pattern.menu) == pattern.maximum + 1
        await source.close()

    asyncio.run(run())


def test_our_own_node_is_never_a_source(v4l2loopback: MakeLoopback) -> None:
    path = v4l2loopback("maglens")
    with pytest.raises(Refused, match="own node"):
        asyncio.run(V4L2Source.open(str(path)))


def test_an_output_device_is_no_camera(rig: VividRig) -> None:
    outputs = [
        name.parent for name in Path("/sys/class/video4linux").glob("video*/name") if "vid-out" in name.read_text()
    ]
    with pytest.raises(Refused, match="no camera"):
        asyncio.run(V4L2Source.open(f"/dev/{outputs[0].name}"))


def test_a_path_that_is_no_device() -> None:
    with pytest.raises(OSError):
        asyncio.run(V4L2Source.open("/dev/video-none"))


def test_frames_go_through_the_pipeline_without_running_out_of_buffers(rig: VividRig) -> None:
    """Converted and scaled from the driver's own memory; every lease comes back."""

    async def run() -> None:
        async with Screen(make_mode(NV12, 640, 480, Fraction(1, 30))) as screen:
            source = await rig.open()
            try:
                feed = screen.pipeline.begin(1, await source.configure(SMALL))
                await source.start(feed, 1)
                end = time.monotonic() + 60
                while screen.pipeline.stats().submitted < 90 and time.monotonic() < end:
                    shown = await asyncio.to_thread(screen.reader.read, 5)
                    assert shown is not None
                    screen.reader.give_back(shown)
                stats = screen.pipeline.stats()
                assert stats.submitted >= 90
                on_its_way = 3  # in the mailbox, being converted, and with the thread that submits
                assert stats.submitted + sum(stats.dropped.values()) >= stats.frames_in - on_its_way
            finally:
                await source.close()

    asyncio.run(run())


def test_a_webcam_on_the_loopback_node(rig: VividRig) -> None:
    """Pass-through from the driver's memory into v4l2loopback's."""

    async def run() -> None:
        await asyncio.to_thread(succeed, "modprobe", "v4l2loopback", "devices=0")
        node = LoopbackNode.create(SMALL, "maglens webcam")
        pipeline = Pipeline(node, loop=asyncio.get_running_loop(), on_lost=print, on_control=print)
        source = await rig.open()
        feed = pipeline.begin(1, await source.configure(SMALL))
        reader = await asyncio.create_subprocess_exec(
            "v4l2-ctl", "-d", node.path, "--stream-mmap", "--stream-count=60", stderr=asyncio.subprocess.DEVNULL
        )
        await source.start(feed, 1)
        assert await asyncio.wait_for(reader.wait(), 60) == 0
        assert pipeline.stats().submitted > 30
        await source.close()
        await pipeline.close()
        node.close()
        await asyncio.to_thread(succeed, "udevadm", "settle")
        assert loopback_control.remove(node.path)

    asyncio.run(run())
