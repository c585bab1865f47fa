# SPDX-License-Identifier: GPL-2.0-or-later
"""Boards: the keepers of all ports that have pins, between USB's discovery and the manager.

A port without pins goes past them: there the USB connect is the detect, as it is without any board.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maglens_daemon.board import fit
from maglens_daemon.board.attach import Attach
from maglens_daemon.board.hardware import PortHardware
from maglens_daemon.board.keeper import Keeper
from maglens_daemon.board.report import Report
from maglens_daemon.board.visitor import BoardVisitor
from maglens_daemon.config import PortConfig
from maglens_daemon.journal import about
from maglens_daemon.manager import Manager
from maglens_daemon.port import Port, make_port
from maglens_daemon.session import Session
from maglens_daemon.visitor import Visitor
from maglens_driver.errors import MaglensError

log = logging.getLogger(__name__)

OpenPort = Callable[[str, PortConfig], PortHardware]


@dataclass(frozen=True, slots=True)
class _OnUsb:
    speed_mbit_s: int
    module: Visitor


class Boards:
    """One per daemon. ``open_port`` takes a port's pins; it may raise ``MaglensError`` or ``OSError``."""

    def __init__(self, manager: Manager, root: Path = fit.ROOT, open_port: OpenPort | None = None) -> None:
        self._manager = manager
        self._open_port = open_port or (lambda path, settings: fit.open_port(path, settings, root))
        self._keepers: dict[str, Keeper] = {}  # by the port's path
        self._settings: dict[str, tuple[PortConfig, object]] = {}  # of those keepers
        self._on_usb: dict[str, _OnUsb] = {}  # by USB path
        self._left_alone: set[str] = set()  # of those the ones without a keeper that the configuration does not want
        self._changing = asyncio.Lock()
        self._changed = asyncio.Event()
        manager.reports = self.reports

    # USB's discovery tells these; its paths may be either side of a port.

    def arrive(self, path: str, speed_mbit_s: int, visitor: Visitor) -> None:
        """A module is on USB at ``path``."""
        self._on_usb[path] = _OnUsb(speed_mbit_s, visitor)
        keeper = self._keepers.get(self._manager.config.port_of(path))
        if keeper is None:
            if self._manager.arrive(path, speed_mbit_s, visitor) is None:
                self._left_alone.add(path)
        else:
            keeper.arrive(speed_mbit_s, visitor)

    def depart(self, path: str) -> None:
        """It has gone from USB."""
        self._on_usb.pop(path, None)
        self._left_alone.discard(path)
        keeper = self._keepers.get(self._manager.config.port_of(path))
        if keeper is None:
            self._manager.depart(path)
        elif not self._modules_at(keeper.path):
            keeper.depart()

    def _modules_at(self, port: str) -> Mapping[str, _OnUsb]:
        return {path: it for path, it in self._on_usb.items() if self._manager.config.port_of(path) == port}

    def reports(self) -> Sequence[Report]:
        """Every kept port as it is."""
        return [keeper.report() for keeper in self._keepers.values()]

    # The configuration.

    def reconfigure(self) -> None:
        """The configuration was read again."""
        self._changed.set()

    async def run(self) -> None:
        """Follow the configuration; runs until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.apply()

    async def apply(self) -> None:
        """Keep the ports that the manager's configuration names, and leave those as they are that did not change."""
        async with self._changing:
            config = self._manager.config
            wanted = {p: (s, config.retry) for p, s in config.port.items() if s.enabled and fit.is_fitted(s)}
            let_go: dict[str, _OnUsb] = {}
            for path in [*self._keepers]:
                if self._settings[path] != wanted.get(path):
                    let_go |= await self._let_go(path)
            kept = {
                path for path, settings in wanted.items() if path not in self._keepers and self._keep(path, *settings)
            }
            for usb, it in let_go.items():
                if self._on_usb.get(usb) is it and config.port_of(usb) not in kept:
                    self.arrive(usb, it.speed_mbit_s, it.module)
            for usb, it in self._on_usb.items():
                if config.port_of(usb) not in self._keepers:
                    self._heed_switch(usb, it, config.port_config(usb).enabled)

    def _heed_switch(self, usb: str, it: _OnUsb, enabled: bool) -> None:
        """A port without pins may be wanted no more, or again."""
        if enabled and usb in self._left_alone:
            self._left_alone.discard(usb)
            self._manager.arrive(usb, it.speed_mbit_s, it.module)
        elif not enabled and usb not in self._left_alone:
            log.info("port %s: left alone from now on, as configured", usb, extra=about(port=usb))
            self._left_alone.add(usb)
            self._manager.depart(usb)

    async def _let_go(self, path: str) -> Mapping[str, _OnUsb]:
        """The modules that were on it: the configuration may say by now that they are on another port."""
        keeper = self._keepers.pop(path)
        settings, _ = self._settings.pop(path)
        modules = {usb: it for usb, it in self._on_usb.items() if usb in (path, *settings.usb)}
        self._manager.depart(path)
        await keeper.close()
        return modules

    def _keep(self, path: str, settings: PortConfig, retry: object) -> bool:
        """Whether its pins could be taken: its modules are the keeper's then."""
        try:
            hardware = self._open_port(path, settings)
        except (MaglensError, OSError) as error:
            text = error.explain() if isinstance(error, MaglensError) else str(error)
            fields = about(port=path, cause="board_error")
            log.error("port %s: its pins cannot be used, USB alone has to do: %s", path, text, extra=fields)
            return False
        here = self._modules_at(path)
        for usb in here:
            self._manager.depart(usb)
        attach = Attach(hardware.fittings, fit.times(settings), fit.retry_rules(self._manager.config))
        self._settings[path] = (settings, retry)
        keeper = self._keepers[path] = Keeper(
            path,
            hardware,
            attach,
            self,
            port_at=lambda speed: self._port_at(path, speed),
            visit=BoardVisitor,
            reopen=lambda: self._open_port(path, settings),
            tolerance=settings.meter_tolerance,
        )
        log.info("port %s: kept by the board's pins", keeper.label, extra=about(port=path))
        for it in here.values():
            keeper.arrive(it.speed_mbit_s, it.module)
        return True

    def _port_at(self, path: str, speed_mbit_s: int) -> Port:
        return make_port(path, speed_mbit_s, self._manager.config)

    # For the keepers (keeper.House).

    def admit(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session | None:
        """See :class:`keeper.House`."""
        return self._manager.arrive(path, speed_mbit_s, visitor)

    def dismiss(self, path: str) -> None:
        """See :class:`keeper.House`."""
        self._manager.depart(path)

    def limit_mw(self, session: Session) -> int:
        """See :class:`keeper.House`."""
        return self._manager.allotment.limit_mw(session)

    def reconsider(self) -> None:
        """See :class:`keeper.House`."""
        self._manager.reconsider()

    async def close(self) -> None:
        """Give all pins back; power stays as it is."""
        async with self._changing:
            keepers = [*self._keepers.values()]
            self._keepers.clear()
            for keeper in keepers:
                await keeper.close()
