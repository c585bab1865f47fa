# SPDX-License-Identifier: GPL-2.0-or-later
"""The service's cameras: which descriptor a node gets. Pipes stand for the kernel's cameras."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglens_daemon import service
from maglens_daemon.config import Config, NodeConfig
from maglens_daemon.notify import Notifier
from maglens_daemon.service import Service
from maglens_driver.errors import MissingDependency, WrongState
from maglens_driver.mode import Mode
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.node_kind import NodeKind


class Camera(KernelNode):
    """A node on any descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd


class Kernel:
    """Makes cameras, and lets them be adopted."""

    def __init__(self) -> None:
        self.made: list[int] = []  # inodes
        self.adopted: list[int] = []
        self.broken = False

    def open_node(self, kind: NodeKind, mode: Mode, **_: object) -> Camera:
        reading, writing = os.pipe()
        os.close(writing)
        self.made.append(os.fstat(reading).st_ino)
        return Camera(reading)

    def adopt_node(self, kept_fd: int, kind: NodeKind, mode: Mode, **_: object) -> Camera:
        if self.broken:
            os.close(kept_fd)
            raise WrongState("of no use")
        self.adopted.append(os.fstat(kept_fd).st_ino)
        return Camera(kept_fd)


def close_spares(served: Service) -> None:
    """What it would adopt its cameras from."""
    for spare in served._adoptable.values():
        os.close(spare)


def play(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The first node fails so often that there are this many in all."""

    async def run() -> None:
        settings = Config()
        served = Service(settings, Notifier({}))
        for _ in range(times):
            node = await served._open_node("", settings.node)
            assert isinstance(node, Camera)
            os.close(node.fileno())
        close_spares(served)

    monkeypatch.setattr(service, "open_node", kernel.open_node)
    monkeypatch.setattr(service, "adopt_node", kernel.adopt_node)
    asyncio.run(run())


def test_a_node_that_has_failed_leaves_its_camera_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second camera would leave apps at the first one's placeholder for good."""
    kernel = Kernel()
    play(kernel, monkeypatch, 3)
    assert kernel.adopted == kernel.made * 2


def test_a_camera_of_no_use_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    kernel.broken = True
    play(kernel, monkeypatch, 2)
    assert len(kernel.made) == 2 and not kernel.adopted


def test_a_camera_of_no_use_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor is closed then, and its number may be another file's where no camera takes its place."""
    kernel = Kernel()
    kernel.broken = True

    async def run() -> None:
        settings = Config()
        served = Service(settings, Notifier({}))
        served._adoptable["camera"] = os.open(os.devnull, os.O_RDWR)
        with pytest.raises(MissingDependency):
            await served._open_node("", settings.node)
        assert not served._adoptable

    def refuse(*_: object, **__: object) -> Camera:
        raise MissingDependency("no kernel module")

    monkeypatch.setattr(service, "open_node", refuse)
    monkeypatch.setattr(service, "adopt_node", kernel.adopt_node)
    asyncio.run(run())


def test_a_node_that_is_configured_no_more_leaves_the_others_their_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept until the service is restarted, and may fail before that."""
    kernel = Kernel()

    async def run() -> None:
        settings = Config(more={"front": NodeConfig(name="front")})
        served = Service(settings, Notifier({}))
        nodes = [await served._open_node(name, known) for name, known in settings.nodes.items()]
        served._manager.config = Config()
        nodes.append(await served._open_node("front", settings.nodes["front"]))
        assert kernel.adopted == kernel.made[1:]
        for node in nodes:
            assert isinstance(node, Camera)
            os.close(node.fileno())
        close_spares(served)

    monkeypatch.setattr(service, "open_node", kernel.open_node)
    monkeypatch.setattr(service, "adopt_node", kernel.adopt_node)
    asyncio.run(run())


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No bus to be on."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")


@pytest.mark.usefixtures("alone")
def test_a_part_that_fails_as_the_service_starts_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd waits a minute for one that says nothing, and knows no cause then."""

    def fail(*_: object, **__: object) -> Camera:
        raise RuntimeError("a defect of ours")

    async def run() -> None:
        async with asyncio.timeout(20):
            await Service(Config(), Notifier({})).run()

    monkeypatch.setattr(service, "open_node", fail)
    with pytest.raises(RuntimeError, match="a defect of ours"):
        asyncio.run(run())


@pytest.mark.usefixtures("alone")
def test_a_service_that_starts_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node may be waited for: for its rights, or a device that is busy."""

    async def run() -> None:
        served, asked = Service(Config(), Notifier({})), asyncio.Event()

        async def wait(name: str, settings: NodeConfig) -> KernelNode:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError("nobody ends that")

        monkeypatch.setattr(served._manager.stage, "_open_node", wait)
        running = asyncio.create_task(served.run())
        await asked.wait()
        served._stop.set()
        async with asyncio.timeout(20):
            await running

    asyncio.run(run())


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(systemd: socket.socket) -> tuple[str, list[int]]:
    """What systemd was told last, and the inodes of the descriptors it got."""
    text, fds, _, _ = socket.recv_fds(systemd, 4096, 4)
    inodes = [os.fstat(fd).st_ino for fd in fds]
    for fd in fds:
        os.close(fd)
    return text.decode(), inodes


def test_systemd_keeps_the_camera_and_drops_one_of_no_use(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel()

    async def run() -> None:
        settings = Config()
        served = Service(settings, Notifier({"NOTIFY_SOCKET": systemd.getsockname()}))
        node = await served._open_node("", settings.node)
        assert heard(systemd) == ("FDSTORE=1\nFDNAME=camera", kernel.made)
        kernel.broken = True
        again = await served._open_node("", settings.node)
        assert heard(systemd) == ("FDSTOREREMOVE=1\nFDNAME=camera", [])
        assert heard(systemd) == ("FDSTORE=1\nFDNAME=camera", kernel.made[1:])
        for camera in (node, again):
            assert isinstance(camera, Camera)
            os.close(camera.fileno())
        os.close(served._adoptable["camera"])

    monkeypatch.setattr(service, "open_node", kernel.open_node)
    monkeypatch.setattr(service, "adopt_node", kernel.adopt_node)
    asyncio.run(run())


def test_cameras_that_are_configured_no_more_are_given_up(systemd: socket.socket) -> None:
    """Kept by the service before, they would be seen and show nothing for good. What else it kept is not ours."""

    async def run() -> None:
        served = Service(Config(), Notifier({"NOTIFY_SOCKET": systemd.getsockname()}))
        pipes = {name: os.pipe() for name in ("camera", "camera-front", "cameraman")}
        served._adoptable = {name: ours for name, (ours, _) in pipes.items()}
        served._forget_others()
        assert heard(systemd) == ("FDSTOREREMOVE=1\nFDNAME=camera-front", [])
        assert served._adoptable.keys() == {"camera", "cameraman"}
        with pytest.raises(BrokenPipeError):
            os.write(pipes["camera-front"][1], b"x")
        with pytest.raises(BlockingIOError):
            heard(systemd)
        for spare in (*served._adoptable.values(), *(theirs for _, theirs in pipes.values())):
            os.close(spare)

    asyncio.run(run())
