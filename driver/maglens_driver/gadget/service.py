# SPDX-License-Identifier: MIT
"""Module service: any Source as a module on this machine's USB device port, until it is told to end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maglens_driver.errors import MaglensError
from maglens_driver.gadget.assembly import Assembly
from maglens_driver.gadget.faults import Faults
from maglens_driver.gadget.lifetime import end_of_process, finish, tell_ready
from maglens_driver.gadget.module import Link, Module
from maglens_driver.gadget.stay import Stay
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.names import MODULE_RUNTIME_DIR
from maglens_driver.source import Source

log = logging.getLogger("maglens.module")

FASTEST_MBIT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where the module is made: the gadget's name, its directory, the device controller (None: the first free one),
    and the current it takes before a contract."""

    name: str = "module"
    runtime: Path = Path(MODULE_RUNTIME_DIR)
    udc: str | None = None
    max_power_ma: int = 500


class ModuleService:
    """One module. Use as ``async with``: it is on from entering to leaving. The source stays the caller's."""

    def __init__(self, source: Source, descriptor: Descriptor, place: Place) -> None:
        self._source = source
        self._descriptor = descriptor
        self._place = place
        self._assembly = Assembly(place.name, place.runtime)
        self._module: Module | None = None
        self.udc = ""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exception] = self._loop.create_future()

    async def __aenter__(self) -> ModuleService:
        place = self._place
        place.runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            identity, power = self._descriptor.identity, place.max_power_ma
            files = await asyncio.to_thread(self._assembly.open, identity, max_power_ma=power)
            link = Link(self._assembly.trained_mbit, FASTEST_MBIT)
            self._module = Module(self._source, self._descriptor, link, files, stay=Stay(1), faults=Faults())
            self._module.streamer.on_lost = self._on_lost
            self._module.begin()
            self.udc = await asyncio.to_thread(self._assembly.attach, place.udc)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def _on_lost(self, why: Exception) -> None:
        """In the source's thread."""
        self._loop.call_soon_threadsafe(self._lost, why)

    def _lost(self, why: Exception) -> None:
        if not self.ended.done():
            self.ended.set_result(why)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._assembly.detach)
        if self._module is not None:
            await self._module.end()
            self._module = None
        await asyncio.to_thread(self._assembly.close)


async def run(source: Source, descriptor: Descriptor, place: Place) -> int:
    """Be a module until SIGTERM or SIGINT (0), a broken thread (1), or the source's end, which is raised."""
    over = end_of_process()
    async with ModuleService(source, descriptor, place) as module:
        module.ended.add_done_callback(lambda _: finish(over, 1))
        log.info("%s is on %s", descriptor.identity, module.udc)
        tell_ready()
        status = await over
        if module.ended.done():
            raise MaglensError(f"the source has ended: {module.ended.result()}")
        return status


def serve(source: Source, descriptor: Descriptor, place: Place | None = None) -> int:
    """:func:`run` as a whole program: the exit status. Errors go to the log, with their hints."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        return asyncio.run(run(source, descriptor, place or Place()))
    except MaglensError as error:
        log.error("%s", error.explain())
        return 1
