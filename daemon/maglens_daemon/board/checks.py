# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks: whether what the configuration names for the ports is there; for ``maglens doctor``. Nothing is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from maglens_daemon.board.gpio import CONSUMER, find
from maglens_daemon.board.hall import HallSwitch
from maglens_daemon.board.meter import Meter
from maglens_daemon.config import Config, PortConfig
from maglens_driver.errors import MaglensError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a port's configuration names. ``problem`` is empty where it is well; ``found`` tells more."""

    subject: str
    found: str
    problem: str = ""
    hint: str = ""


def _line(name: str, root: Path) -> str:
    place = find(name, root)
    if place.consumer not in ("", CONSUMER):
        raise MaglensError(f"{name} is in use: {place.consumer}", hint="gpioinfo")
    return f"{name} is line {place.offset} of {place.chip.name}" + (", in our hands" if place.consumer else "")


def _hall(settings: PortConfig, root: Path) -> str:
    assert settings.hall is not None
    switch = HallSwitch(settings.hall, settings.hall_switch, settings.hall_inverted, root)
    try:
        return f"{settings.hall}, {'a module' if switch.level() else 'nothing'} is seated"
    finally:
        switch.close()


def _meter(device: str, root: Path) -> str:
    draw = Meter(device, root).read()
    return f"{device}: {draw.mv} mV, {draw.ma} mA, {draw.mw} mW"


def check(config: Config, root: Path = Path("/")) -> Iterator[Check]:
    """Every line and device that is named, port by port."""
    for path, settings in config.port.items():
        asks: list[tuple[str, Callable[[], str]]] = [
            (what, lambda name=name: _line(name, root))  # type: ignore[misc]
            for what, name in (("detect", settings.detect), ("power", settings.power), ("fault", settings.fault))
            if name
        ]
        if settings.hall:
            asks.append(("hall", lambda settings=settings: _hall(settings, root)))  # type: ignore[misc]
        if settings.meter:
            asks.append(("meter", lambda device=settings.meter: _meter(device, root)))  # type: ignore[misc]
        for what, ask in asks:
            subject = f"port {path}, {what}"
            try:
                yield Check(subject, ask())
            except MaglensError as error:
                yield Check(subject, "", str(error), error.hint)
            except OSError as error:
                yield Check(subject, "", str(error), "dmesg")
