# SPDX-License-Identifier: GPL-2.0-or-later
"""Port: a place where a module can snap on, and what it may give before and after a contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from maglens_daemon.config import Config
from maglens_driver.link.pd import FixedPdo

SUPPLY_MV: Final = 5000  # VBUS without negotiation; the only supply a plain USB port has
UNCONFIGURED_MA: Final = 500  # the most a module may draw before there is a contract
HIGH_SPEED_MBIT_S: Final = 480
_PDO_STEP_MA: Final = 10


@dataclass(frozen=True, slots=True)
class Port:
    """One port as it is now: link as trained in Mbit/s, power in mW.

    ``limit_mw`` is the most that it may promise, ``usable_mbit_s`` what modes may fill of the link.
    """

    path: str
    name: str
    enabled: bool
    speed_mbit_s: int
    limit_mw: int
    usable_mbit_s: int
    priority: int

    @property
    def label(self) -> str:
        """As people know it: ``back (1-2)``, or the path alone."""
        return self.path if self.name == self.path else f"{self.name} ({self.path})"


def make_port(path: str, speed_mbit_s: int, config: Config) -> Port:
    """The port at ``path`` by the configuration; without any, USB's own limits."""
    settings = config.port_config(path)
    default_ma = config.power.usb2_ma if speed_mbit_s <= HIGH_SPEED_MBIT_S else config.power.usb3_ma
    limit_mw = settings.max_mw if settings.max_mw is not None else SUPPLY_MV * default_ma // 1000
    carried = min(speed_mbit_s, settings.max_mbit_s or speed_mbit_s)
    return Port(
        path=path,
        name=path if ":" in path else settings.name or path,  # a name is for one source
        enabled=settings.enabled,
        speed_mbit_s=speed_mbit_s,
        limit_mw=limit_mw,
        usable_mbit_s=int(carried * config.link.derating),
        priority=settings.priority,
    )


def offers(mw: int) -> tuple[FixedPdo, ...]:
    """What to offer for an allotment of ``mw``: 5 V with the current that it allows; nothing for less than a step."""
    ma = mw * 1000 // SUPPLY_MV // _PDO_STEP_MA * _PDO_STEP_MA
    return (FixedPdo(SUPPLY_MV, ma),) if ma else ()
