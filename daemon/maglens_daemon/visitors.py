# SPDX-License-Identifier: GPL-2.0-or-later
"""Visitors: what comes to a port, one class per kind of source; and the task that watches USB for modules."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, cast

from maglens_daemon.contract import Contract
from maglens_daemon.conversation import TRANSFERS, blocking
from maglens_daemon.journal import about
from maglens_daemon.port import UNCONFIGURED_MA
from maglens_daemon.power_feed import Begin
from maglens_daemon.session import Session
from maglens_daemon.visitor import Visitor
from maglens_driver.errors import BadModule, Gone
from maglens_driver.libcamera.source import LibcameraSource
from maglens_driver.link import wire
from maglens_driver.names import NODE_CARD_NAME
from maglens_driver.source import Source
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.discovery import DeviceEventKind, Discovery
from maglens_driver.usb.source import ModuleSource
from maglens_driver.v4l2.source import V4L2Source

log = logging.getLogger(__name__)


class ModuleVisitor:
    """A module on a USB port."""

    kind = "module"
    needs_power = True
    snapped = True
    by_id = ""
    seat = None
    patience = 1

    def __init__(
        self, device: UsbDevice, open_source: Callable[[UsbDevice], Awaitable[ModuleSource]] = ModuleSource.open
    ) -> None:
        self.device = device
        self._open_source = open_source

    @property
    def added_ns(self) -> int:
        """When its uevent was seen."""
        return self.device.added_ns

    def admit(self) -> None:
        """Cause ``unconfigured_power``."""
        if self.device.max_power_ma > UNCONFIGURED_MA:
            raise BadModule(
                "unconfigured_power",
                f"it draws up to {self.device.max_power_ma} mA without a contract, {UNCONFIGURED_MA} are allowed",
                hint="the module's maker has to lower bMaxPower in its USB descriptors",
            )

    async def open(self) -> Source:
        """INFO and DESCRIPTOR."""
        return await self._open_source(self.device)

    def tell_apart(self, source: Source, place: str) -> bool:
        """Each module has a serial number of its own."""
        return False

    async def converse(self, source: Source, begin: Begin) -> Contract | None:
        """All of it in one hop to the thread of the control requests: a hop costs as much as a request."""
        control = cast(ModuleSource, source).control
        return await control.run(lambda requests: blocking(begin(requests, time.monotonic)), TRANSFERS)

    async def attend(self, source: Source, session: Session) -> None:
        """Events that are not the stream's own business; raises ``Gone`` when they end."""
        async for event in cast(ModuleSource, source).events():
            if event.kind == wire.EventKind.POWER:
                await session.hear_power()
            else:
                _tell(event, session)
        raise Gone(f"{session.label} was unplugged")

    async def standby(self, source: Source) -> bool:
        """Sensor off, link up."""
        await cast(ModuleSource, source).control.standby()
        return True


class Unasked:
    """What is common to cameras that need no agreement: their port feeds them, and they tell nothing while nobody
    watches."""

    needs_power = False
    seat = None

    def __init__(self) -> None:
        self._added_ns = time.monotonic_ns()

    @property
    def added_ns(self) -> int:
        """When it was found."""
        return self._added_ns

    def admit(self) -> None:
        """It was chosen already."""

    def tell_apart(self, source: Source, place: str) -> bool:
        """Its identity says where it sits already."""
        return False

    async def converse(self, source: Source, begin: Begin) -> Contract | None:
        """Its port feeds it without being asked."""
        return None

    async def attend(self, source: Source, session: Session) -> None:
        """Until cancelled."""
        await asyncio.Event().wait()


class CameraVisitor(Unasked):
    """A webcam, or another capture device of this machine. ``snapped``: it was plugged in as modules are, and ranks
    as one; ``by_id`` is udev's name for it; ``ours``: names of our own nodes."""

    kind = "v4l2"
    patience = 5  # drivers may take seconds for any call

    def __init__(
        self, path: str, by_id: str = "", *, snapped: bool = False, ours: Collection[str] = (NODE_CARD_NAME,)
    ) -> None:
        super().__init__()
        self.path = path
        self._ours = ours
        self.by_id = by_id
        self.snapped = snapped

    async def open(self) -> Source:
        """Look at it; nothing is changed."""
        return await V4L2Source.open(self.path, ours=self._ours)

    def tell_apart(self, source: Source, place: str) -> bool:
        """Makers give all webcams of one model the same serial number."""
        cast(V4L2Source, source).tell_apart(place)
        return True

    async def standby(self, source: Source) -> bool:
        """A camera that does not stream rests already."""
        return False


class LibcameraVisitor(Unasked):
    """A camera that libcamera sees, by libcamera's id for it."""

    kind = "libcamera"
    snapped = False
    by_id = ""
    patience = 10  # a child that has to be started anew loads libcamera with all its pipelines

    def __init__(self, camera_id: str) -> None:
        super().__init__()
        self.camera_id = camera_id

    async def open(self) -> Source:
        """In a child process of its own."""
        return await LibcameraSource.open(self.camera_id)

    async def standby(self, source: Source) -> bool:
        """Without its child process, which holds memory and the camera."""
        await cast(LibcameraSource, source).rest()
        return True


def _tell(event: wire.Event, session: Session) -> None:
    if event.kind == wire.EventKind.FAULT:
        what = f"it has a fault, code {event.id}" if event.value else f"it is well again, code {event.id}"
        session.chatter.say(logging.WARNING, what)
    elif event.kind == wire.EventKind.CAPABILITY:
        session.hear_capability(event.id, event.value)
    elif event.kind == wire.EventKind.CONTROL:
        session.hear_control(event.id, event.value)
    elif event.kind == wire.EventKind.BUTTON:
        session.chatter.say(logging.INFO, f"button {event.id}: {event.value}")


class Arrivals(Protocol):
    """Who is told of what USB has: the manager, or ``board.boards.Boards`` before it."""

    def arrive(self, path: str, speed_mbit_s: int, visitor: Visitor) -> object: ...

    def depart(self, path: str) -> None: ...


async def watch_modules(
    arrivals: Arrivals, discovery: Discovery, visit: Callable[[UsbDevice], ModuleVisitor]
) -> None:
    """Tell of every module that is there, comes and goes; runs until cancelled."""
    for device in discovery.present():
        arrivals.arrive(device.port, device.speed_mbit, visit(device))
    async for event in discovery.events():
        if event.kind is DeviceEventKind.REFUSED:
            log.info("port %s: left alone: %s", event.port, event.reason, extra=about(port=event.port))
        elif event.kind is DeviceEventKind.REMOVED:
            arrivals.depart(event.port)
        elif event.device is not None:
            arrivals.arrive(event.port, event.device.speed_mbit, visit(event.device))
