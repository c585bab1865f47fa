# SPDX-License-Identifier: GPL-2.0-or-later
"""Hand: pulls a virtual module off and puts it back, for the conformance kit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from maglens_driver.conform.port_watch import PortWatch
from maglens_driver.conform.usb_facts import SYSFS_USB, UsbFacts, read_facts
from maglens_driver.gadget.client import SimClient
from maglens_driver.gadget.configfs import UDC_CLASS
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.discovery import Discovery
from maglens_driver.usb.libusb import LibusbTransport
from maglens_driver.usb.transport import Transport

COME_S: Final = 60.0


class SimHand:
    """At the virtual module ``sim``, whose USB port is ``port``."""

    def __init__(self, sim: SimClient, port: str) -> None:
        self._sim = sim
        self._port = port
        self.before_plug: Callable[[], Any] = lambda: None

    def pull(self) -> None:
        """See :class:`~maglens_driver.conform.specimen.Hand`."""

        async def run() -> None:
            async with PortWatch(self._port) as watch:
                self._sim.detach()
                await watch.gone(COME_S)

        asyncio.run(run())

    def plug(self) -> tuple[UsbFacts, UsbDevice, Transport, int]:
        """See :class:`~maglens_driver.conform.specimen.Hand`."""

        async def run() -> tuple[UsbDevice, int]:
            async with PortWatch(self._port) as watch:
                self.before_plug()
                attaching = asyncio.create_task(asyncio.to_thread(self._sim.attach))
                there = await watch.steady(COME_S)
                await attaching
                return there

        device, bounces = asyncio.run(run())
        return read_facts(SYSFS_USB / self._port), device, LibusbTransport(device), bounces

    def present(self) -> tuple[UsbFacts, UsbDevice, Transport]:
        """The module that is on."""

        async def run() -> UsbDevice:
            async with Discovery() as discovery:
                return next(d for d in discovery.present() if d.port == self._port)

        device = asyncio.run(run())
        return read_facts(SYSFS_USB / self._port), device, LibusbTransport(device)

    def turn(self, ring: str) -> bool:
        """See :class:`~maglens_driver.conform.specimen.Hand`."""
        self._sim.ring(ring, 100)
        return True


def port_of(udc: str) -> str:
    """The USB port behind a controller of dummy_hcd: the first of the bus of its speed."""
    speed = (UDC_CLASS / udc / "current_speed").read_text().strip()
    hcd = (UDC_CLASS / udc / "device").resolve().name.replace("dummy_udc", "dummy_hcd")
    wanted = "5000" if speed.startswith("super") else "480"
    for root in SYSFS_USB.glob("usb*"):
        if hcd in root.resolve().parts and (root / "speed").read_text().strip() == wanted:
            return f"{root.name.removeprefix('usb')}-1"
    raise LookupError(f"no USB bus belongs to {udc}")
