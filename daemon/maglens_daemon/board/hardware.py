# SPDX-License-Identifier: GPL-2.0-or-later
"""PortHardware: the seam between a port and the board: detect, power switch, fault line, meter.

DESIGN calls this seam ``Port``; that name is taken by what a port may promise (``maglens_daemon.port``). Every
implementation passes ``tests/unit/port_conformance.py``.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


class Pin(enum.Enum):
    """What can change at a port by itself."""

    DETECT = "detect"  # a module is seated
    FAULT = "fault"  # the power switch says that it is overloaded
    ALARM = "alarm"  # the meter says that its limit is exceeded

    @property
    def cuts(self) -> bool:
        """Whether its rising edge takes the power away."""
        return self is not Pin.DETECT


@dataclass(frozen=True, slots=True)
class PinEvent:
    """One edge. ``active`` is the logical level after it, ``at_s`` the kernel's CLOCK_MONOTONIC in seconds."""

    pin: Pin
    active: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class Draw:
    """One measurement: mV, mA, mW, and whether the meter's alarm is on."""

    mv: int
    ma: int
    mw: int
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Fittings:
    """What the board has at this port."""

    detect: bool = False
    switch: bool = False
    fault: bool = False
    meter: bool = False


class PortHardware(Protocol):
    """One port of a board. All calls belong to the event loop's thread; ``OSError`` is a board that does not obey."""

    @property
    def fittings(self) -> Fittings:
        """What is there; never changes."""
        ...

    @property
    def powered(self) -> bool:
        """Whether the switch is on; True where there is none."""
        ...

    def level(self, pin: Pin) -> bool:
        """The logical level of a pin now; False for one that is not there."""
        ...

    async def power(self, limit_mw: int | None) -> None:
        """Switch on for at most ``limit_mw`` (kept for those who meter), or off. Idempotent."""
        ...

    async def measure(self) -> Draw | None:
        """What is drawn now; None without a meter."""
        ...

    def events(self) -> AsyncIterator[PinEvent]:
        """Edges since the port was opened, in order, for one reader. Where a fault or alarm begins, power is off
        already when its event is told: whoever notices it first cuts, and does not wait for the loop."""
        ...

    async def close(self) -> None:
        """Give the lines back. The switch stays as it is: a restart of the service does not blink. Idempotent;
        ends :meth:`events`."""
        ...
