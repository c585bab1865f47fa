# SPDX-License-Identifier: GPL-2.0-or-later
"""Service: the running daemon, its parts and what signals do to them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from maglens_daemon import conditions, config
from maglens_daemon.board.boards import Boards
from maglens_daemon.bus import Bus
from maglens_daemon.cameras import Cameras
from maglens_daemon.config import Config, NodeConfig
from maglens_daemon.errors import ConfigError
from maglens_daemon.heartbeat import beat
from maglens_daemon.herald import Herald
from maglens_daemon.legacy import Legacy
from maglens_daemon.manager import Manager
from maglens_daemon.notify import Notifier, stored
from maglens_daemon.sleep_guard import SleepGuard
from maglens_daemon.status import state_line
from maglens_daemon.system_bus import SystemBus
from maglens_daemon.system_watch import watch_devices
from maglens_daemon.visitors import ModuleVisitor, watch_modules
from maglens_driver import names
from maglens_driver.errors import WrongState
from maglens_driver.usb.discovery import Discovery
from maglens_driver.usb.libusb import libusb_backend
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.node import Node
from maglens_v4l2.node_kind import NodeKind
from maglens_v4l2.nodes import adopt_node, open_node

log = logging.getLogger(__name__)

CAMERA_FD: Final = "camera"  # its name in systemd's descriptor store
APPEARING: Final = ("video4linux", "misc")  # a camera, or a kernel module that a node can be made of; or its rights


class Service:
    """One per process."""

    def __init__(self, settings: Config, notifier: Notifier) -> None:
        self._notifier = notifier
        self._manager = Manager(
            settings, self._open_node, root=conditions.ROOT, legacy=Legacy(Path(names.RUNTIME_DIR))
        )
        self._cameras = Cameras(self._manager)
        self._boards = Boards(self._manager)
        self._adoptable = stored()  # of the service before us; then one of each camera that we have
        self._stop = asyncio.Event()

    async def _open_node(self, name: str, settings: NodeConfig) -> Node:
        """The camera that a daemon before this one left with systemd, else a new one; kept with systemd from now on
        where it can outlive us."""
        stored_as = _stored_as(name)
        kind, kept = NodeKind(settings.kind), self._adoptable.pop(stored_as, None)
        if kept is not None:
            try:
                node = adopt_node(kept, kind, settings.formats, name=settings.name)
            except WrongState as why:
                log.warning("%s; making a new camera", why)
                self._notifier.forget(stored_as)
            else:
                return self._keep(stored_as, node)
        return self._keep(stored_as, open_node(kind, settings.formats, name=settings.name))

    def _keep(self, stored_as: str, node: Node) -> Node:
        """With systemd for the next service, and here for a node that has to be made again: apps keep the camera."""
        if isinstance(node, KernelNode):
            self._notifier.store(stored_as, node.fileno())
            self._adoptable[stored_as] = os.dup(node.fileno())
        return node

    def _forget_others(self) -> None:
        """Cameras that the service before had, and that are configured no more."""
        wanted = {_stored_as(name) for name in self._manager.config.nodes}
        for stored_as in self._adoptable.keys() - wanted:
            if stored_as.split("-")[0] == CAMERA_FD:
                log.info("the camera kept as %s is configured no more", stored_as)
                os.close(self._adoptable.pop(stored_as))
                self._notifier.forget(stored_as)

    def _uevent_handlers(self) -> Mapping[str, Callable[[], None]]:
        """By subsystem; USB's are :class:`Discovery`'s."""
        supplies = dict.fromkeys(conditions.SUBSYSTEMS, self._manager.conditions.hint)
        return dict.fromkeys(APPEARING, self._appeared) | supplies

    def _appeared(self) -> None:
        self._manager.node_hint()
        self._cameras.look()

    def reload(self) -> None:
        """Read the configuration again. A broken one raises :class:`ConfigError` and changes nothing."""
        self._notifier.reloading()
        try:
            fresh = config.load()
        except ConfigError as error:
            log.error("the configuration is as before: %s", error.explain())
            raise
        finally:
            self._notifier.ready()
        self._manager.apply(fresh)
        self._boards.reconfigure()
        self._cameras.look()
        log.info("configuration read: %s", ", ".join(map(str, fresh.files)) or "defaults")

    def _on_hangup(self) -> None:
        try:
            self.reload()
        except ConfigError:
            return  # told in the log already; there is nobody to answer

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises :class:`AlreadyRunning`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        manager = self._manager
        herald = Herald(lambda: manager.in_haste, lambda: self._notifier.status(state_line(manager)))
        manager.listeners.append(herald.changed)
        bus = SystemBus(Bus(manager, self.reload, herald), SleepGuard(manager.park, manager.unpark))
        libusb_backend()
        tasks: list[asyncio.Task[Any]] = []

        def begin(work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
            tasks.append(asyncio.create_task(work, name=name))
            return tasks[-1]

        async with Discovery() as discovery:
            await self._boards.apply()
            begin(self._stop.wait(), "stop")
            begin(manager.run(), "manager")
            begin(self._boards.run(), "boards")
            begin(watch_modules(self._boards, discovery, ModuleVisitor), "modules")
            begin(watch_devices(self._uevent_handlers()), "devices")
            begin(bus.run(), "bus")
            begin(beat(manager, self._notifier), "heartbeat")
            start_up = begin(self._settle(), "start-up")
            try:
                await _first_end(tasks)
            finally:
                start_up.cancel()
                self._notifier.stopping()
                await self._cameras.close()
                await manager.close()
                await self._boards.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                herald.close()

    async def _settle(self) -> None:
        """The end of the start-up. No stop waits for it, nor a part's failure, for which it may never come."""
        self._forget_others()
        await self._manager.settled()
        self._cameras.look()
        self._notifier.ready()
        gc.freeze()  # what lives now lives on; later collections need not look at it


def _stored_as(node: str) -> str:
    """What a node's camera is called in systemd's store."""
    return f"{CAMERA_FD}-{node}" if node else CAMERA_FD


async def _first_end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait for the stop; a part that fails is a failure of all, and is raised."""
    pending = set(tasks)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if any(task.get_name() == "stop" for task in done):
            return
