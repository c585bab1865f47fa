# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of this machine's cameras become sources, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from maglens_daemon.cameras import Cameras
from maglens_daemon.config import CamerasConfig, Config, PolicyConfig, PortConfig
from maglens_daemon.fake import FakeVisitor
from maglens_daemon.port import make_port
from maglens_daemon.second_chance import FORGIVEN_S, PAUSES_S
from maglens_daemon.session import TRIED_AGAIN, Session
from maglens_daemon.session_state import SessionState
from maglens_daemon.visitor import Visitor
from maglens_daemon.visitors import CameraVisitor, LibcameraVisitor
from maglens_daemon.webcams import VideoDevice, names_by_id, video_devices
from maglens_driver.errors import Gone, Interrupted, MissingDependency, Refused, WrongState
from maglens_driver.libcamera.source import Seen
from tests.unit import fake_clock
from tests.unit.test_daemon_manager import Theatre, theatre
from tests.unit.test_daemon_session import FakeHost

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
        self.listeners: list[Callable[[], None]] = []
        self.on_use: list[Callable[[Session], None]] = []

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

    def reconsider(self) -> None:
        self.moves.append("!")


class Inn(House, FakeHost):
    """A house whose sessions are real, and see only what a list of visitors does."""

    def __init__(self, *visitors: FakeVisitor) -> None:
        House.__init__(self)
        FakeHost.__init__(self)
        self.visitors = [*visitors]
        self.tasks: list[asyncio.Task[None]] = []
        self.sessions: list[Session] = []

    def arrive(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session | None:
        super().arrive(path, speed_mbit_s, visitor)
        session = Session(len(self.sessions), make_port(path, 0, self.config), self.visitors.pop(0), self)
        self.sessions.append(session)
        self.tasks.append(asyncio.create_task(session.run()))
        return session

    def depart(self, path: str) -> None:
        super().depart(path)
        self.sessions[-1].removed()

    def changed(self, session: Session) -> None:
        super().changed(session)
        for listener in self.listeners:
            listener()

    async def until(self, stays: int, state: SessionState) -> float:
        """When the latest of so many stays is in that state: loop time."""
        async with asyncio.timeout(2 * sum(PAUSES_S)):
            while len(self.sessions) != stays or self.sessions[-1].state is not state:
                self.turn.clear()
                await self.turn.wait()
        return asyncio.get_running_loop().time()


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
        (replace(WEBCAM, port="2-4"), Config(port={"1-4": PortConfig(usb=("2-4",))}), True),
        (replace(WEBCAM, port="1-4:1.2"), Config(port={"1-4": PortConfig(name="back")}), True),
        (replace(WEBCAM, port="1-4:1.2"), Config(port={"1-3": PortConfig(name="back")}), False),
        (replace(WEBCAM, removable=True), Config(policy=PolicyConfig(hotplug=False)), False),
    ],
)
def test_what_counts_as_snapped_on(device: VideoDevice, config: Config, snapped: bool) -> None:
    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        assert house.there[device.port].snapped is snapped

    run(Machine(device), act, config)


def test_a_camera_whose_port_is_to_be_left_alone_from_now_on() -> None:
    async def act(house: House, cameras: Cameras) -> None:
        for enabled in (True, True, False, False, True):
            house.config = Config(port={"1-4": PortConfig(enabled=enabled)})
            cameras.look()
        assert house.moves == ["+1-4", "-1-4", "+1-4", "-1-4", "+1-4"], "the manager leaves it alone as it comes"

    run(Machine(WEBCAM), act)


def test_what_counts_as_snapped_on_changes_with_the_configuration_while_it_plays_on() -> None:
    class Hall(House):
        def arrive(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session | None:
            super().arrive(path, speed_mbit_s, visitor)
            return Session(len(self.moves), make_port(path, 0, self.config), visitor, FakeHost())

    async def play() -> None:
        machine, hall = Machine(WEBCAM), Hall()
        cameras = Cameras(hall, machine.list, machine.ask, lambda: {})
        cameras.look()
        machine.devices.append(replace(WEBCAM, path="/dev/video4", number=(81, 4), token=104, port="1-1"))

        def snapped(config: Config) -> list[bool]:
            hall.config = replace(config, cameras=CamerasConfig(libcamera=False))
            cameras.look()
            return [hall.there[port].snapped for port in ("1-4", "1-1")]

        assert snapped(Config()) == [False, True]
        assert snapped(Config(port={"1-4": PortConfig(name="back")})) == [True, True]
        assert snapped(Config(policy=PolicyConfig(hotplug=False))) == [False, False]
        assert snapped(Config()) == [False, True]
        assert [move for move in hall.moves if move != "!"] == ["+1-4", "+1-1"]
        hall.config = replace(Config(), cameras=CamerasConfig(auto=False, libcamera=False))
        cameras.look()
        assert snapped(Config()) == [False, True], "one that was there before we looked did not come later"
        await cameras.close()

    asyncio.run(play())


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


def test_a_camera_is_one_source_by_however_many_paths(tmp_path: Path) -> None:
    node, stable = tmp_path / "video0", tmp_path / "stable"
    node.touch()
    stable.symlink_to(node)
    machine = Machine(replace(WEBCAM, path=str(node)))
    config = Config(cameras=CamerasConfig(device=(str(stable), str(node)), libcamera=False))

    async def act(house: House, cameras: Cameras) -> None:
        cameras.look()
        assert set(house.there) == {str(stable)}

    run(machine, act, config)


def test_udevs_name_is_the_one_it_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """udev may be later than the service; and a link that two cameras claim goes from one to the other."""
    named: dict[str, str] = {}
    monkeypatch.setattr("maglens_daemon.cameras.names_by_id", lambda: named)

    class Hall(House):
        def arrive(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session | None:
            super().arrive(path, speed_mbit_s, visitor)
            return Session(1, make_port(path, 0, self.config), visitor, FakeHost())

    async def play() -> None:
        hall = Hall(Config(cameras=CamerasConfig(libcamera=False)))
        cameras = Cameras(hall, Machine(WEBCAM).list, Machine().ask, lambda: {})
        cameras.look()
        assert hall.there["1-4"].by_id == ""
        named[WEBCAM.path] = "usb-Cam"
        cameras.look()
        cameras.look()
        assert hall.there["1-4"].by_id == "usb-Cam"
        assert hall.moves == ["+1-4", "!"], "the rules may say something else now"
        await cameras.close()

    asyncio.run(play())


class BuiltIn(FakeVisitor):
    """One that cannot be opened where it is ``sick``."""

    snapped = False
    needs_power = False

    def __init__(self, *, sick: bool = False) -> None:
        super().__init__()
        if sick:
            self.steps.fail("open", Refused("busy", "it is out of order"))


def lodge(act: Callable[[Inn, Cameras, Machine], Awaitable[None]], *visitors: FakeVisitor) -> Inn:
    """In fake time, one webcam of a machine without libcamera."""
    machine = Machine(WEBCAM)

    async def play() -> Inn:
        inn = Inn(*visitors)
        inn.config = Config(cameras=CamerasConfig(libcamera=False))
        cameras = Cameras(inn, machine.list, machine.ask, lambda: {})
        cameras.look()
        await act(inn, cameras, machine)
        await cameras.close()
        inn.sessions[-1].removed()
        await asyncio.gather(*inn.tasks)
        return inn

    return fake_clock.run(play())


def test_a_camera_that_was_refused_is_tried_again_and_the_pauses_grow() -> None:
    async def act(inn: Inn, cameras: Cameras, machine: Machine) -> None:
        began = await inn.until(1, SessionState.QUARANTINED)
        assert inn.sessions[0].hint == TRIED_AGAIN
        waited = []
        for stay in range(2, len(PAUSES_S) + 3):
            again = await inn.until(stay, SessionState.QUARANTINED)
            waited.append(round(again - began))
            began = again
        assert waited == [*PAUSES_S, PAUSES_S[-1]]
        await inn.until(len(PAUSES_S) + 3, SessionState.READY)

    lodge(act, *(BuiltIn(sick=True) for _ in range(len(PAUSES_S) + 2)), BuiltIn())


def test_what_may_help_a_camera_that_was_refused_is_tried_at_once() -> None:
    """A choice, another camera, and the configuration, whose reading leads to a look as well."""

    async def act(inn: Inn, cameras: Cameras, machine: Machine) -> None:
        refused_at = await inn.until(1, SessionState.QUARANTINED)
        inn.on_use[0](inn.sessions[0])
        assert await inn.until(2, SessionState.QUARANTINED) == refused_at
        cameras.look()
        assert await inn.until(3, SessionState.READY) == refused_at
        inn.on_use[0](inn.sessions[-1])
        cameras.look()
        await asyncio.sleep(2 * sum(PAUSES_S))
        assert len(inn.sessions) == 3, "one that plays is left alone"

    lodge(act, BuiltIn(sick=True), BuiltIn(sick=True), BuiltIn())


def test_a_long_good_stay_is_not_held_against_a_camera() -> None:
    async def act(inn: Inn, cameras: Cameras, machine: Machine) -> None:
        await inn.until(3, SessionState.READY)
        await asyncio.sleep(FORGIVEN_S + 1)
        failed = asyncio.get_running_loop().time()
        inn.sessions[-1].fail(Interrupted("it broke"))
        assert await inn.until(4, SessionState.READY) == failed + PAUSES_S[0]

    lodge(act, BuiltIn(sick=True), BuiltIn(sick=True), BuiltIn(), BuiltIn())


def test_one_that_was_unplugged_has_no_second_chance() -> None:
    async def act(inn: Inn, cameras: Cameras, machine: Machine) -> None:
        await inn.until(1, SessionState.QUARANTINED)
        machine.devices.clear()
        cameras.look()
        await inn.until(1, SessionState.GONE)
        await asyncio.sleep(2 * sum(PAUSES_S))
        assert len(inn.sessions) == 1

    lodge(act, BuiltIn(sick=True))


def test_libcamera_that_could_not_be_asked_is_asked_again() -> None:
    machine = Machine(seen=(CSI,))
    machine.trouble = Interrupted("it crashed")

    async def play() -> None:
        house = House()
        cameras = Cameras(house, machine.list, machine.ask, lambda: {})
        cameras.look()
        await asyncio.sleep(PAUSES_S[0])
        assert machine.asked == 1
        machine.trouble = None
        await asyncio.sleep(PAUSES_S[0])
        assert machine.asked == 2 and set(house.there) == {"libcamera:" + CSI.id}
        await asyncio.sleep(2 * sum(PAUSES_S))
        assert machine.asked == 2
        await cameras.close()

    fake_clock.run(play())


def test_a_camera_that_plays_is_left_alone_while_libcamera_is_asked_again() -> None:
    machine = Machine(SENSOR, seen=(CSI,))

    async def play() -> None:
        house = House()
        cameras = Cameras(house, machine.list, machine.ask, lambda: {})
        cameras.look()
        await asyncio.sleep(PAUSES_S[0])
        machine.trouble = Interrupted("it crashed")
        machine.devices.append(replace(SENSOR, path="/dev/video5", number=(81, 5), token=105))
        cameras.look()
        await asyncio.sleep(PAUSES_S[0] + PAUSES_S[1] + WAIT_S)
        assert machine.asked == 4
        assert house.moves == ["+libcamera:" + CSI.id]
        await cameras.close()

    fake_clock.run(play())


@asynccontextmanager
async def cameras_of(t: Theatre, monkeypatch: pytest.MonkeyPatch, *visitors: FakeVisitor) -> AsyncIterator[None]:
    """A webcam on port 1-4 of a real manager, with what is opened there at its first stay, its second, ..."""
    stays = iter(visitors)
    monkeypatch.setattr("maglens_daemon.cameras.CameraVisitor", lambda *_, **__: next(stays))
    cameras = Cameras(t.manager, Machine(WEBCAM).list, Machine().ask, lambda: {})
    cameras.look()
    try:
        yield
    finally:
        await cameras.close()


def test_maglens_use_reaches_a_camera_that_could_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            async with cameras_of(t, monkeypatch, BuiltIn(sick=True), BuiltIn()):
                await t.until(lambda: t.manager.sessions[0].state is SessionState.QUARANTINED)
                first = t.manager.sessions[0]
                with pytest.raises(WrongState, match=r"out of order; it is tried again now") as caught:
                    t.manager.use("1-4")
                assert "maglens use" in caught.value.hint
                await t.until(lambda: first not in t.manager.sessions)
                await t.until_playing(t.manager.sessions[0])
                assert t.manager.use("1-4") == "fake/camera/1"

    asyncio.run(play())


@pytest.mark.parametrize("by", ["use", "input"])
def test_a_choice_reaches_a_camera_that_was_refused_after_it_played(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        monkeypatch.setattr("maglens_daemon.session.GONE_GRACE_S", 0.01)
        async with theatre() as t:
            app, camera = t.watch(), BuiltIn()
            async with cameras_of(t, monkeypatch, camera, BuiltIn()):
                first = t.manager.sessions[0]
                await t.until_playing(first)
                await t.until(lambda: len(t.nodes[0].inputs) == 2)
                camera.source.lose(Gone("its driver says that it is not there"))
                await t.until(lambda: first.state is SessionState.QUARANTINED)
                assert first.hint == TRIED_AGAIN, "nobody can lift it off"
                if by == "use":
                    assert t.manager.use("1-4") == "fake/camera/1"
                else:
                    app.choose_input(1)
                await t.until(lambda: first not in t.manager.sessions)
                await t.until_playing(t.manager.sessions[0])
                assert t.manager.pinned == "fake/camera/1"

    asyncio.run(play())


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
