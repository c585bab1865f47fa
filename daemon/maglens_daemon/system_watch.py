# SPDX-License-Identifier: GPL-2.0-or-later
"""System watch: tells when devices appear that a node can be made of: a kernel module came, udev set rights."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import pyudev

log = logging.getLogger(__name__)

SUBSYSTEMS: Final = ("video4linux", "misc")


async def watch_devices(changed: Callable[[], None], subsystems: Sequence[str] = SUBSYSTEMS) -> None:
    """Call ``changed`` for every uevent of ``subsystems`` that udev has finished with; runs until cancelled."""
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
    for subsystem in subsystems:
        monitor.filter_by(subsystem)
    monitor.start()
    loop = asyncio.get_running_loop()

    def readable() -> None:
        try:
            while (device := monitor.poll(timeout=0)) is not None:
                log.debug("udev: %s %s", device.action, device.sys_path)
                changed()
        except OSError as error:  # ENOBUFS: some were lost, so one may have been ours
            log.debug("udev: %s", error)
            changed()

    loop.add_reader(monitor.fileno(), readable)
    try:
        await asyncio.Event().wait()
    finally:
        loop.remove_reader(monitor.fileno())
