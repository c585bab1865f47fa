# SPDX-License-Identifier: GPL-2.0-or-later
"""PortWatch: waits for the module at one port to go, and to come and stay."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Self

from maglens_driver.errors import Deadline
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.discovery import DeviceEvent, DeviceEventKind, Discovery

STEADY_S: Final = 1.0  # a module that was there for so long has come to stay


class PortWatch:
    """Use as ``async with``; nothing that happens from then on is missed."""

    def __init__(self, port: str) -> None:
        self._port = port
        self._discovery = Discovery()

    async def __aenter__(self) -> Self:
        await self._discovery.__aenter__()
        return self

    async def __aexit__(self, *why: object) -> None:
        await self._discovery.__aexit__(*why)

    async def _next(self, limit_s: float) -> DeviceEvent:
        """The next change at the port. ``TimeoutError``."""
        async with asyncio.timeout(limit_s):
            while (event := await anext(self._discovery.events())).port != self._port:
                pass
            return event

    async def gone(self, limit_s: float) -> None:
        """Wait until it has gone. ``Deadline``."""
        try:
            while (await self._next(limit_s)).kind is not DeviceEventKind.REMOVED:
                pass
        except TimeoutError as error:
            raise Deadline(f"the module at port {self._port} did not go within {limit_s:g} s") from error

    async def steady(self, limit_s: float) -> tuple[UsbDevice, int]:
        """Wait until a module is there and has been for ``STEADY_S``; also how often it went meanwhile.

        Raises ``Deadline`` where none has come within ``limit_s``, or it comes and goes all the time.
        """
        device = next((d for d in self._discovery.present() if d.port == self._port), None)
        bounces, until = 0, time.monotonic() + limit_s
        while True:
            left = until - time.monotonic()
            if left <= 0 and bounces:
                raise Deadline(f"the module at port {self._port} went {bounces} times within {limit_s:g} s")
            try:
                event = await self._next(left if device is None else STEADY_S)
            except TimeoutError as error:
                if device is not None:
                    return device, bounces
                raise Deadline(f"no module came to port {self._port} within {limit_s:g} s") from error
            bounces += event.kind is DeviceEventKind.REMOVED
            device = event.device if event.kind is DeviceEventKind.ADDED else None
