# SPDX-License-Identifier: GPL-2.0-or-later
"""Conditions: the board's battery and heat, from sysfs, and whom to tell when they change.

The kernel sends uevents for power supplies, and for thermal zones only at trip points: those are looked at by a slow
timer besides (Documentation/power/power_supply_class.rst, Documentation/driver-api/thermal/sysfs-api.rst).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from maglens_daemon.pattern import fits
from maglens_daemon.power_policy import Level, PowerRules, Readings, assess

log = logging.getLogger(__name__)

ROOT: Final = Path("/")
SLOW_S: Final = 30.0  # between looks while all is well
FAST_S: Final = 5.0  # ... and while it is not
SUBSYSTEMS: Final = ("power_supply", "thermal")
_MAINS: Final = ("Mains", "USB", "USB_PD", "USB_C", "USB_DCP", "USB_CDP", "Wireless")


def _text(path: Path) -> str:
    """A sysfs attribute; empty where it cannot be read, as some drivers answer while nothing is plugged in."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def read(zones: Sequence[str], root: Path = ROOT) -> Readings:
    """Everything now. ``zones`` are patterns for the types of the thermal zones that count; ``root`` is for a
    rehearsed tree."""
    fed, percent = False, None
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        kind = _text(supply / "type")
        if _text(supply / "scope") == "Device":
            continue  # the battery of a mouse
        if kind in _MAINS:
            fed = fed or bool(_number(supply / "online"))
        elif kind == "Battery" and _number(supply / "present") != 0:
            capacity = _number(supply / "capacity")
            if capacity is not None:
                percent = capacity if percent is None else max(percent, capacity)
                fed = fed or _text(supply / "status") in ("Charging", "Full")
    hottest: tuple[float, str] | None = None
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        kind, millidegrees = _text(zone / "type"), _number(zone / "temp")
        if millidegrees is not None and any(fits(kind, pattern) for pattern in zones):
            hottest = max(hottest or (float("-inf"), ""), (millidegrees / 1000, kind))
    return Readings(
        on_battery=percent is not None and not fed,
        percent=percent,
        zone=hottest[1] if hottest else "",
        celsius=hottest[0] if hottest else None,
    )


class Conditions:
    """The condition as it is. ``rules`` and ``zones`` give the configuration as it is now; ``changed`` is called in
    the loop when the condition does. ``root`` None: nothing is read, only the budget counts."""

    def __init__(
        self,
        rules: Callable[[], PowerRules],
        zones: Callable[[], Sequence[str]],
        changed: Callable[[], None],
        root: Path | None = ROOT,
    ) -> None:
        self.readings = Readings()
        self.now = assess(rules(), self.readings)
        self._rules = rules
        self._zones = zones
        self._changed = changed
        self._root = root
        self._hint = asyncio.Event()

    def look(self) -> None:
        """Read and assess; tell where that makes a difference."""
        before = self.now
        if self._root is not None:
            self.readings = read(self._zones(), self._root)
        self.now = assess(self._rules(), self.readings, before.level)
        if self.now == before:
            return
        if self.now.level > before.level:
            what = "modules are squeezed" if self.now.level is Level.LOW else "modules get standby power only"
            log.warning("power is short: %s; %s", self.now.reason, what)
        elif self.now.level < before.level:
            log.info("power is %s again%s", self.now.level.name.lower(), self.now.reason and f": {self.now.reason}")
        self._changed()

    def hint(self) -> None:
        """A uevent came, or the configuration has changed: look at once."""
        self._hint.set()

    async def run(self) -> None:
        """Look whenever told, and by the timer; runs until cancelled. Without a root there is nothing to see."""
        if self._root is None:
            await asyncio.Event().wait()
        while True:
            self._hint.clear()
            self.look()
            try:
                async with asyncio.timeout(SLOW_S if self.now.level is Level.NORMAL else FAST_S):
                    await self._hint.wait()
            except TimeoutError:
                continue  # the timer: zones tell nothing between their trip points
