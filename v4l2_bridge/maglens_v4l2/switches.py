# SPDX-License-Identifier: GPL-2.0-or-later
"""Switches: the controls that a raw module has beside its own, for what is done to its frames here.

They are V4L2's usual ones, so that apps see a camera with automatics. What the module does by itself is not offered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_v4l2.auto_white_balance import LIMITS_K

DAYLIGHT_K: Final = 5500
WHITE_BALANCE_STEP_K: Final = 10
MANUAL_EXPOSURE: Final = 1  # EXPOSURE_AUTO's items, as in linux/v4l2-controls.h
FREE_TIME: Final = frozenset((0, 3))  # which of them leave exposure time to the automatic ...
FREE_IRIS: Final = frozenset((0, 2))  # ... and which the iris
APERTURE_PRIORITY: Final = 3  # the iris stays where a person's hand left it
MAINS_50_HZ: Final = 1  # of POWER_LINE_FREQUENCY

_MODES: Final = (
    (0, "Auto Mode"),
    (MANUAL_EXPOSURE, "Manual Mode"),
    (2, "Shutter Priority Mode"),
    (APERTURE_PRIORITY, "Aperture Priority Mode"),
)
_MAINS: Final = ((0, "Disabled"), (MAINS_50_HZ, "50 Hz"), (2, "60 Hz"))


def switches_for(module: Mapping[int, ControlInfo], focusable: bool) -> tuple[ControlInfo, ...]:
    """For a module with these controls; ``focusable``: its frames tell enough to focus by."""
    made = (*_exposure(module), *_white_balance(), *(_focus(module) if focusable else ()))
    return tuple(info for info in made if info.id not in module)


def _exposure(module: Mapping[int, ControlInfo]) -> Iterator[ControlInfo]:
    if Cid.GAIN in module:
        yield _switch(Cid.AUTOGAIN, "Gain, Automatic")
    if Cid.EXPOSURE_ABSOLUTE in module:
        menu = tuple(item for item in _MODES if Cid.IRIS_ABSOLUTE in module or item[0] not in FREE_IRIS)
        yield _menu(Cid.EXPOSURE_AUTO, "Auto Exposure", menu, APERTURE_PRIORITY)
        yield _menu(Cid.POWER_LINE_FREQUENCY, "Power Line Frequency", _MAINS, MAINS_50_HZ)


def _white_balance() -> Iterator[ControlInfo]:
    yield _switch(Cid.AUTO_WHITE_BALANCE, "White Balance, Automatic")
    name = "White Balance Temperature"
    low, high = LIMITS_K
    yield ControlInfo(
        Cid.WHITE_BALANCE_TEMPERATURE, name, ControlType.INTEGER, low, high, WHITE_BALANCE_STEP_K, DAYLIGHT_K
    )


def _focus(module: Mapping[int, ControlInfo]) -> Iterator[ControlInfo]:
    if not module.keys() & {Cid.FOCUS_FINE, Cid.FOCUS_ABSOLUTE}:
        return
    yield _switch(Cid.FOCUS_AUTO, "Focus, Automatic Continuous")
    yield ControlInfo(Cid.AUTO_FOCUS_START, "Auto Focus, Start", ControlType.BUTTON, 0, 0, 0, 0)
    yield ControlInfo(Cid.AUTO_FOCUS_STOP, "Auto Focus, Stop", ControlType.BUTTON, 0, 0, 0, 0)
    status, kind = "Auto Focus, Status", ControlType.BITMASK
    yield ControlInfo(Cid.AUTO_FOCUS_STATUS, status, kind, 0, 7, 0, 0, ControlFlag.READ_ONLY)


def _switch(control: Cid, name: str) -> ControlInfo:
    return ControlInfo(control, name, ControlType.BOOLEAN, 0, 1, 1, 1)


def _menu(control: Cid, name: str, menu: tuple[tuple[int, str], ...], default: int) -> ControlInfo:
    items = [item for item, _ in menu]
    return ControlInfo(control, name, ControlType.MENU, min(items), max(items), 1, default, menu=menu)
