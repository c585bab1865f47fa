# SPDX-License-Identifier: GPL-2.0-or-later
"""Cameras: those of this machine, beside modules: webcams by sysfs, and what libcamera sees.

One camera is one source, by whatever paths it is configured. A webcam is taken by V4L2 even where libcamera sees it
too; any other is libcamera's where libcamera sees it. A node of ours is never one, since only uvcvideo's devices and
configured paths are looked at, and the V4L2 source refuses it besides.

One that was refused has a second chance after a pause: at once when a camera is plugged in, the configuration is read
again, or a person chooses it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from maglens_daemon.background import Background
from maglens_daemon.config import Config
from maglens_daemon.journal import about
from maglens_daemon.second_chance import SecondChance
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_daemon.visitor import Visitor
from maglens_daemon.visitors import CameraVisitor, LibcameraVisitor
from maglens_daemon.webcams import UVC, VideoDevice, names_by_id, sensors, video_devices
from maglens_driver.errors import MaglensError, MissingDependency
from maglens_driver.libcamera.source import Seen
from maglens_driver.libcamera.source import cameras as libcamera_cameras

log = logging.getLogger(__name__)

SETTLE_S: Final = 0.5  # a driver makes several nodes; libcamera is asked once for all of them
LIBCAMERA: Final = "libcamera:"  # before its ids, as ports


class Host(Protocol):
    """What this needs of the manager."""

    config: Config
    listeners: list[Callable[[], None]]
    on_use: list[Callable[[Session], None]]

    def arrive(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session | None: ...

    def depart(self, path: str) -> None: ...

    def reconsider(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _There:
    """A camera that is there: what it is made of, as far as a change of that means another camera. ``snapped`` and
    ``by_id``: see :class:`visitors.CameraVisitor`; they may change while it stays."""

    token: object
    visit: Callable[[], Visitor]
    snapped: bool = False
    by_id: str = ""


@dataclass(slots=True)
class _Stay:
    """A camera that the manager was told of. ``session`` None where the configuration says to leave it alone."""

    camera: _There
    session: Session | None
    chance: SecondChance


class Cameras:
    """In the event loop's thread. ``look`` compares what is there with what was."""

    def __init__(
        self,
        manager: Host,
        devices: Callable[[], Sequence[VideoDevice]] = video_devices,
        ask_libcamera: Callable[[], Awaitable[Sequence[Seen]]] = libcamera_cameras,
        sensor_nodes: Callable[[], Mapping[tuple[int, int], int]] = sensors,
    ) -> None:
        self._manager = manager
        self._devices = devices
        self._ask_libcamera = ask_libcamera
        self._sensor_nodes = sensor_nodes
        self._stays: dict[str, _Stay] = {}  # by port
        self._seen: Sequence[Seen] = ()  # what libcamera told last
        self._asked_of: Mapping[tuple[int, int], int] | None = None  # the nodes there were then, with their tokens
        self._asking = False
        self._ask_again = False  # though the nodes are as they were
        self._question = SecondChance(self._ask_anew)
        self._background = Background()
        self._told_missing = False
        self._came_later: dict[int, bool] = {}  # than our first look, by the token of each device that is there
        self._started = False
        manager.listeners.append(self._heed_refusals)
        manager.on_use.append(self._heed_choice)

    def look(self) -> None:
        """After every uevent of a video device, and after a reload."""
        devices = self._devices()
        self._came_later = {d.token: self._came_later.get(d.token, self._started) for d in devices}
        self._compare(devices)
        self._started = True
        changed = self._ask_again or self._libcameras_nodes(devices) != self._asked_of
        if self._manager.config.cameras.libcamera and changed and not self._asking:
            self._asking, self._ask_again = True, False
            self._background.begin(self._ask(), "libcamera-list")

    def _libcameras_nodes(self, devices: Sequence[VideoDevice]) -> Mapping[tuple[int, int], int]:
        """What libcamera may make cameras of, with tokens."""
        return {**{d.number: d.token for d in devices if d.driver != UVC}, **self._sensor_nodes()}

    async def close(self) -> None:
        """End a question that is under way, and give no more chances."""
        self._manager.listeners.remove(self._heed_refusals)
        self._manager.on_use.remove(self._heed_choice)
        for chance in (self._question, *(stay.chance for stay in self._stays.values())):
            chance.drop()
        tasks = self._background.tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self) -> None:
        """Hear which cameras libcamera has: it tells nothing by itself."""
        try:
            await asyncio.sleep(SETTLE_S)
            asked_of = self._libcameras_nodes(self._devices())
            try:
                self._seen = await self._ask_libcamera()
                self._question.drop()
            except MissingDependency as missing:
                if not self._told_missing:
                    log.info("%s; CSI cameras are not used", missing)
                self._told_missing = True
            except (MaglensError, OSError) as error:
                log.warning("libcamera's cameras are not known: %s", error)
                self._question.refused()
            self._asked_of = asked_of
        finally:
            self._asking = False
        self.look()

    def _ask_anew(self) -> None:
        self._ask_again = True
        self.look()

    def _compare(self, devices: Sequence[VideoDevice]) -> None:
        wanted = self._wanted(devices)
        for port, stay in [*self._stays.items()]:
            if port not in wanted or wanted[port].token != stay.camera.token:
                stay.chance.drop()
                del self._stays[port]
                self._manager.depart(port)
        for port, camera in wanted.items():
            if port in self._stays:
                stay = self._stays[port]
                before, stay.camera = stay.camera, camera
                if stay.session is not None and isinstance(stay.session.visitor, CameraVisitor):
                    visitor = stay.session.visitor
                    visitor.snapped, visitor.by_id = camera.snapped, camera.by_id
                if (before.snapped, before.by_id) != (camera.snapped, camera.by_id):
                    self._manager.reconsider()
                stay.chance.take()
            else:
                session = self._manager.arrive(port, 0, camera.visit())
                self._stays[port] = _Stay(camera, session, SecondChance(partial(self._begin_anew, port)))

    def _begin_anew(self, port: str) -> None:
        log.info("port %s: what was refused there is tried again", port, extra=about(port=port))
        stay = self._stays[port]
        stay.session = None  # nothing that it still does is a refusal
        self._manager.depart(port)
        stay.session = self._manager.arrive(port, 0, stay.camera.visit())

    def _heed_refusals(self) -> None:
        for stay in self._stays.values():
            if stay.session is not None and stay.session.state is SessionState.QUARANTINED:
                stay.chance.refused()

    def _heed_choice(self, session: Session) -> None:
        for stay in self._stays.values():
            if stay.session is session:
                stay.chance.take()

    def _wanted(self, devices: Sequence[VideoDevice]) -> dict[str, _There]:
        settings, names = self._manager.config.cameras, names_by_id()
        libcamera = [camera for camera in self._seen if self._is_libcameras(camera, devices)]
        taken = {number for camera in libcamera for number in camera.devices}
        wanted: dict[str, _There] = {}
        ours = frozenset(node.name for node in self._manager.config.nodes.values())
        nodes: set[str] = set()  # what was named already, perhaps by another path
        for path in settings.device:
            node = os.path.realpath(path)
            if not os.path.exists(node) or node in nodes:
                continue
            nodes.add(node)
            taken.update(device.number for device in devices if device.path == node)
            token = next((device.token for device in devices if device.path == node), node)
            by_id = names.get(node, "")
            wanted[path] = _There(token, partial(CameraVisitor, path, by_id, ours=ours), by_id=by_id)
        for device in devices if settings.auto else ():
            if device.driver == UVC and device.number not in taken:
                wanted[device.port or device.path] = self._webcam(device, names)
        for camera in libcamera:
            made_of = frozenset((number, (self._asked_of or {}).get(number)) for number in camera.devices)
            wanted[LIBCAMERA + camera.id] = _There(made_of, partial(LibcameraVisitor, camera.id))
        enabled = self._manager.config.port_config
        return {port: replace(it, token=(it.token, enabled(port).enabled)) for port, it in wanted.items()}

    def _is_libcameras(self, camera: Seen, devices: Sequence[VideoDevice]) -> bool:
        """Whether it is libcamera's to play: not a webcam, and not named by its path in the configuration."""
        settings = self._manager.config.cameras
        configured = {os.path.realpath(path) for path in settings.device}
        others = {d.number for d in devices if d.driver == UVC or d.path in configured}
        return settings.libcamera and not others & camera.devices

    def _webcam(self, device: VideoDevice, names: Mapping[str, str]) -> _There:
        config = self._manager.config
        configured = config.port_of(device.port) in config.port
        snapped = device.removable or configured or self._came_later[device.token]
        plugged_in, by_id = config.policy.hotplug and snapped, names.get(device.path, "")
        visit = partial(CameraVisitor, device.path, by_id, snapped=plugged_in)
        return _There(device.token, visit, plugged_in, by_id)
