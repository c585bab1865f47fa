# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of this machine's cameras become sources, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from maglens_daemon.cameras import Cameras
from maglens_daemon.config import CamerasConfig, Config, PolicyConfig, PortConfig
from maglens_daemon.session import Session
from maglens_daemon.visitor import Visitor
from maglens_daemon.visitors import CameraVisitor, LibcameraVisitor
from maglens_daemon.webcams import VideoDevice, names_by_id, video_devices
from maglens_driver.errors import Interrupted, MissingDependency
from maglens_driver.libcamera.source import Seen

WEBCAM = VideoDevice("/dev/video0", (81, 0), 100, "uvcvideo", "1-4", False)
SENSOR = VideoDevice("/dev/video2", (81, 2), 102, "unicam", "", False)
CSI = Seen("/base/imx219@10", frozenset({(81, 2)}))
WAIT_S = 5.0


class House:
    """Remembers who came and went."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.there: dict[str, Visitor] = {}
        self.moves: list[str] = []
        self.turn = asyncio.Event()

    def arrive(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session | None:
        assert path not in self.there
        self.there[path] = visitor
        self.moves.append("+" + path)
        self.turn.set()
        return None

    def depart(self, path: str) -> None:
        del self.there[path]
        self.moves.append("-" + path)
        self.turn.set()


class Machine:
    """What sysfs and libcamera say."""

    def __init__(self, *devices: VideoDevice, seen: tuple[Seen, ...] = ()) -> None:
        self.devices = list(devices)
        self.seen = seen
        self.sensors: dict[tuple[int, int], int] = {}
        self.asked = 0
        self.trouble: Exception | None = None

    def list(self) -> list[VideoDevice]:
        return list(self.devices)

    async def ask(self) -> tuple[Seen, ...]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return self.seen


def run(machine: Machine, act: Callable[[House, Cameras], Awaitable[None]], config: Config | None = None) -> House:
    async def play() -> House:
        house = House(config)
        cameras = Cameras(house, machine.list, machine.ask, lambda: dict(machine.sensors))
        await act(house, cameras)
        await cameras.close()
        return house

    return asyncio.run(play())


async def until(house: House, *ports: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while set(house.there) != set(ports):
            house.turn.clear()
            await house.turn.wait()


def test_a_webcam_plays_from_the_first_moment_and_one_plugged_in_ranks_as_a_module() -> None:
    machine = Machine(WEBCAM)

    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        assert set(house.there) == {"1-4"}, "libcamera was not waited for"
        machine.devices.append(replace(WEBCAM, path="/dev/video4", number=(81, 4), token=104, port="1-1"))
        cameras.look()
        first, second = house.there["1-4"], house.there["1-1"]
        assert isinstance(first, CameraVisitor) and not first.snapped
        assert isinstance(second, CameraVisitor) and second.snapped
        machine.devices.pop()
        cameras.look()
        assert house.moves == ["+1-4", "+1-1", "-1-1"]

    run(machine, act)


@pytest.mark.parametrize(
    ("device", "config", "snapped"),
    [
        (replace(WEBCAM, removable=True), Config(), True),
        (WEBCAM, Config(port={"1-4": PortConfig(name="back")}), True),
        (replace(WEBCAM, removable=True), Config(policy=PolicyConfig(hotplug=False)), False),
    ],
)
def test_what_counts_as_snapped_on(device: VideoDevice, config: Config, snapped: bool) -> None:
    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        assert house.there["1-4"].snapped is snapped

    run(Machine(device), act, config)


def test_one_made_anew_between_two_looks_is_another() -> None:
    machine = Machine(WEBCAM)

    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        cameras.look()
        machine.devices[0] = replace(WEBCAM, token=200)
        cameras.look()
        assert house.moves == ["+1-4", "-1-4", "+1-4"]

    run(machine, act)


def test_a_libcamera_camera_whose_driver_was_bound_again_begins_afresh() -> None:
    """However often it had failed. One that another camera has libcamera asked about again stays as it is."""
    sensor = (81, 7)
    camera = Seen("/base/imx219@10", frozenset({SENSOR.number, sensor}))
    machine = Machine(SENSOR, seen=(camera,))
    machine.sensors[sensor] = 300

    async def act(house: House, cameras: Cameras) -> None:
        async def after_question() -> None:
            cameras.look()
            assert cameras._background.tasks
            await asyncio.gather(*cameras._background.tasks)

        port = f"libcamera:{camera.id}"
        await after_question()
        assert house.moves == ["+" + port]
        machine.devices.append(replace(SENSOR, path="/dev/video5", number=(81, 5), token=105))
        await after_question()
        assert house.moves == ["+" + port]
        machine.devices[0] = replace(SENSOR, token=202)
        await after_question()
        assert house.moves[1:] == ["-" + port, "+" + port]
        machine.sensors[sensor] = 301
        await after_question()
        assert house.moves[3:] == ["-" + port, "+" + port]

    run(machine, act)


def test_one_camera_is_one_source() -> None:
    """V4L2 wins for webcams, libcamera for others."""
    machine = Machine(WEBCAM, SENSOR, seen=(CSI, Seen("usb", frozenset({WEBCAM.number})), Seen("virtual")))

    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        await until(house, "1-4", "libcamera:/base/imx219@10", "libcamera:virtual")
        assert isinstance(house.there["libcamera:virtual"], LibcameraVisitor)
        assert not house.there["libcamera:virtual"].snapped

    run(machine, act)


def test_libcamera_is_asked_again_only_when_what_it_may_see_has_changed() -> None:
    machine = Machine(WEBCAM, seen=(Seen("virtual"),))

    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        await until(house, "1-4", "libcamera:virtual")
        machine.devices.clear()
        cameras.look()
        assert set(house.there) == {"libcamera:virtual"}
        assert machine.asked == 1
        machine.devices.append(SENSOR)
        machine.seen = (Seen("virtual"), CSI)
        cameras.look()
        await until(house, "libcamera:virtual", "libcamera:/base/imx219@10")
        assert machine.asked == 2

    run(machine, act)


@pytest.mark.parametrize("trouble", [MissingDependency("no bindings"), Interrupted("it crashed")])
def test_without_libcamera_webcams_play(trouble: Exception, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(WEBCAM)
    machine.trouble = trouble

    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        async with asyncio.timeout(WAIT_S):
            while str(trouble) not in caplog.text:  # noqa: ASYNC110 a log has no event
                await asyncio.sleep(0.01)
        cameras.look()
        assert set(house.there) == {"1-4"}
        assert machine.asked == 1

    with caplog.at_level("INFO"):
        run(machine, act)


def test_a_list_that_cannot_be_read_is_told_and_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(SENSOR, seen=(CSI,))

    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        cameras._devices = broken
        async with asyncio.timeout(WAIT_S):
            while cameras._background.tasks:
                await asyncio.wait(cameras._background.tasks)
        assert "libcamera-list failed" in caplog.text and machine.asked == 0
        cameras._devices = machine.list
        cameras.look()
        await until(house, "libcamera:" + CSI.id)

    def broken() -> list[VideoDevice]:
        raise OSError(5, "Input/output error")

    run(machine, act)


def test_configured_paths_and_switches(tmp_path: Path) -> None:
    path = str(tmp_path / "camera")
    Path(path).touch()
    machine = Machine(replace(WEBCAM, path=path), seen=(Seen("virtual"), Seen("usb", frozenset({WEBCAM.number}))))
    config = Config(cameras=CamerasConfig(auto=False, device=(path,), libcamera=True))

    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        await until(house, path, "libcamera:virtual")
        house.config = Config(cameras=CamerasConfig(auto=False, libcamera=False))
        cameras.look()
        assert not house.there

    run(machine, act, config)


def test_sysfs(tmp_path: Path) -> None:
    usb = tmp_path / "devices/usb1/1-4"
    for name, interface, index in (("video0", "1-4:1.0", 0), ("video1", "1-4:1.0", 1), ("video2", "1-4:1.2", 0)):
        entry = usb / interface / "video4linux" / name
        entry.mkdir(parents=True)
        (entry / "index").write_text(f"{index}\n")
        (entry / "dev").write_text(f"81:{name[-1]}\n")
        (entry / "device").symlink_to("../..")
        (usb / interface / "bInterfaceNumber").write_text("0" + interface[-1] + "\n")
        driver = usb / interface / "driver"
        if not driver.is_symlink():
            driver.symlink_to(tmp_path / "drivers/uvcvideo")
    (tmp_path / "drivers/uvcvideo").mkdir(parents=True)
    (usb / "bNumInterfaces").write_text("4\n")
    (usb / "removable").write_text("fixed\n")
    root = tmp_path / "class"
    root.mkdir()
    for name in ("video0", "video1", "video2"):
        found = next(usb.rglob(f"video4linux/{name}"))
        (root / name).symlink_to(found)
    virtual = tmp_path / "virtual/video9"
    virtual.mkdir(parents=True)
    (virtual / "index").write_text("0\n")
    (virtual / "dev").write_text("81:9\n")
    (root / "video9").symlink_to(virtual)
    (root / "v4l-subdev0").symlink_to(virtual)
    first, second = video_devices(root)
    assert (first.path, first.number, first.port, first.driver) == ("/dev/video0", (81, 0), "1-4", "uvcvideo")
    assert (second.path, second.port) == ("/dev/video2", "1-4:1.2")
    assert not first.removable
    assert first.token != second.token
    assert video_devices(tmp_path / "none") == []


def test_names_by_id(tmp_path: Path) -> None:
    node = tmp_path / "video0"
    node.touch()
    folder = tmp_path / "by-id"
    assert names_by_id(folder) == {}
    folder.mkdir()
    (folder / "usb-Maker_Cam-video-index0").symlink_to(node)
    assert names_by_id(folder) == {str(node): "usb-Maker_Cam-video-index0"}
