# SPDX-License-Identifier: GPL-2.0-or-later
"""System watch: one monitor for the uevents of devices that are no USB modules, with a handler per subsystem.

USB has its own, :class:`maglens_driver.usb.discovery.Discovery`: there each counts, and after a loss all devices
are listed. Here a uevent says no more than that somebody should look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import pyudev

log = logging.getLogger(__name__)


async def watch_devices(handlers: Mapping[str, Callable[[], None]]) -> None:
    """Call the handler of its subsystem for every uevent that udev has finished with; runs until cancelled."""
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
    for subsystem in handlers:
        monitor.filter_by(subsystem)
    monitor.start()
    loop = asyncio.get_running_loop()

    def readable() -> None:
        try:
            while (device := monitor.poll(timeout=0)) is not None:
                log.debug("udev: %s %s", device.action, device.sys_path)
                handlers[device.subsystem]()
        except OSError as error:  # ENOBUFS: some were lost, so one may have been anybody's
            log.debug("udev: %s", error)
            for handle in dict.fromkeys(handlers.values()):
                handle()

    loop.add_reader(monitor.fileno(), readable)
    try:
        await asyncio.Event().wait()
    finally:
        loop.remove_reader(monitor.fileno())
