# SPDX-License-Identifier: GPL-2.0-or-later
"""Control map: V4L2 controls in libcamera's terms, as a table. Both ends use it, so only ids need to travel.

Names and meanings: libcamera's ``control_ids_core.yaml``. Floats become whole hundredths, dioptres hundredths of
a dioptre, microseconds hundreds of them (V4L2's unit), gain thousandths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.libcamera.packet import ControlBody, FrameBody

Native = bool | int | float
"""A value as libcamera's binding takes it."""

AF_MANUAL, AF_AUTO, AF_CONTINUOUS = 0, 1, 2
AF_START, AF_CANCEL = 0, 1
AF_IDLE = 0
AF_STATUS: Final[Mapping[int, int]] = {AF_IDLE: 0, 1: 1, 2: 2, 3: 4}
"""AfState to V4L2_CID_AUTO_FOCUS_STATUS: idle, busy, reached, failed."""

MAX_VALUE: Final = (1 << 31) - 1
"""V4L2 integer controls have 32 bits."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """A number: ours is libcamera's times ``factor``."""

    cid: Cid
    name: str
    native: str
    factor: Fraction
    real: bool = True  # libcamera's is a float

    def to_native(self, value: int) -> Native:
        """Our value as libcamera's."""
        exact = value / self.factor
        return float(exact) if self.real else round(exact)

    def from_native(self, value: float) -> int:
        """libcamera's value as ours; what is not finite or too large becomes the nearest that fits."""
        if math.isnan(value):
            return 0
        return round(min(max(value * float(self.factor), -MAX_VALUE), MAX_VALUE))


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few states: each of ours sets one or more of libcamera's controls, where the camera has them."""

    cid: Cid
    name: str
    type: ControlType
    states: Mapping[int, Mapping[str, Native]]
    default: int
    needs: tuple[str, ...]  # libcamera controls without which it is not offered ...
    menu: tuple[tuple[int, str], ...] = ()
    without: tuple[str, ...] = ()  # ... and those with which it is not


_EXPOSURE_MENU = ((0, "Auto Mode"), (1, "Manual Mode"))
_AE_APART = ("ExposureTimeMode", "AnalogueGainMode")
"""libcamera 0.5 and newer has a switch each for exposure time and gain; 0.4 has but AeEnable for both."""

TABLE: Final[tuple[Scaled | Choice, ...]] = (
    Scaled(Cid.BRIGHTNESS, "Brightness", "Brightness", Fraction(100)),
    Scaled(Cid.CONTRAST, "Contrast", "Contrast", Fraction(100)),
    Scaled(Cid.SATURATION, "Saturation", "Saturation", Fraction(100)),
    Scaled(Cid.GAIN, "Gain", "AnalogueGain", Fraction(1000)),
    Choice(
        Cid.AUTO_WHITE_BALANCE,
        "White Balance, Automatic",
        ControlType.BOOLEAN,
        {0: {"AwbEnable": False}, 1: {"AwbEnable": True}},
        1,
        ("AwbEnable",),
    ),
    Scaled(Cid.WHITE_BALANCE_TEMPERATURE, "White Balance Temperature", "ColourTemperature", Fraction(1), real=False),
    Choice(
        Cid.EXPOSURE_AUTO,
        "Auto Exposure",
        ControlType.MENU,
        {0: {"ExposureTimeMode": 0}, 1: {"ExposureTimeMode": 1}},
        0,
        ("ExposureTimeMode",),
        _EXPOSURE_MENU,
    ),
    Choice(
        Cid.EXPOSURE_AUTO,
        "Auto Exposure",
        ControlType.MENU,
        {0: {"AeEnable": True}, 1: {"AeEnable": False}},
        0,
        ("AeEnable",),
        _EXPOSURE_MENU,
        _AE_APART,
    ),
    Choice(
        Cid.AUTOGAIN,
        "Gain, Automatic",
        ControlType.BOOLEAN,
        {0: {"AnalogueGainMode": 1}, 1: {"AnalogueGainMode": 0}},
        1,
        ("AnalogueGainMode", "AnalogueGain"),
    ),
    Choice(
        Cid.AUTOGAIN,
        "Gain, Automatic",
        ControlType.BOOLEAN,
        {0: {"AeEnable": False}, 1: {"AeEnable": True}},
        1,
        ("AeEnable", "AnalogueGain"),
        without=_AE_APART,
    ),
    Scaled(Cid.EXPOSURE_ABSOLUTE, "Exposure Time, Absolute", "ExposureTime", Fraction(1, 100), real=False),
    Scaled(Cid.FOCUS_ABSOLUTE, "Focus, Absolute", "LensPosition", Fraction(100)),
    Choice(
        Cid.FOCUS_AUTO,
        "Focus, Automatic Continuous",
        ControlType.BOOLEAN,
        {0: {"AfMode": AF_MANUAL}, 1: {"AfMode": AF_CONTINUOUS}},
        0,
        ("AfMode",),
    ),
    Choice(
        Cid.AUTO_FOCUS_START,
        "Auto Focus, Start",
        ControlType.BUTTON,
        {0: {"AfMode": AF_AUTO, "AfTrigger": AF_START}},
        0,
        ("AfMode", "AfTrigger"),
    ),
    Choice(
        Cid.AUTO_FOCUS_STOP,
        "Auto Focus, Stop",
        ControlType.BUTTON,
        {0: {"AfTrigger": AF_CANCEL}},
        0,
        ("AfTrigger",),
    ),
    # Only ever read: its value comes from each frame's AfState.
    Choice(Cid.AUTO_FOCUS_STATUS, "Auto Focus, Status", ControlType.BITMASK, {}, 0, ("AfMode",)),
)


def offered(native: Mapping[str, tuple[object, object, object]]) -> dict[int, tuple[Scaled | Choice, ControlBody]]:
    """What a camera offers. ``native`` maps libcamera's names to (minimum, maximum, default)."""
    result: dict[int, tuple[Scaled | Choice, ControlBody]] = {}
    for row in TABLE:
        if row.cid in result:
            continue
        body = _scaled_range(row, native) if isinstance(row, Scaled) else _choice_range(row, native)
        if body is not None:
            result[row.cid] = (row, body)
    return result


def to_native(row: Scaled | Choice, value: int, present: Callable[[str], bool]) -> dict[str, Native]:
    """What to set in libcamera for ``value``; ``present`` tells which of its controls the camera has."""
    if isinstance(row, Scaled):
        return {row.native: row.to_native(value)}
    return {name: state for name, state in row.states[value].items() if present(name)}


def switched_too(
    offers: Mapping[int, tuple[Scaled | Choice, ControlBody]],
    cid: int,
    native: Mapping[str, Native],
    present: Callable[[str], bool],
) -> dict[int, int]:
    """Other choices of a camera's ``offers`` that are made with ``native``, which is set for ``cid``."""
    result: dict[int, int] = {}
    for other, (row, _) in offers.items():
        if other == cid or not isinstance(row, Choice) or row.type == ControlType.BUTTON:
            continue
        for value in row.states:
            state = to_native(row, value, present)
            if state and state.items() <= native.items():
                result[other] = value
    return result


def readings(body: FrameBody, values: Mapping[int, int]) -> dict[int, int]:
    """Controls that move by themselves, as a frame tells them: only where an automatic is at work.

    ``values`` are the present values of the controls that the camera offers.
    """
    result: dict[int, int] = {}
    if values.get(Cid.EXPOSURE_AUTO) == 0 and body.exposure_us:
        result[Cid.EXPOSURE_ABSOLUTE] = body.exposure_us // 100
    if values.get(Cid.AUTOGAIN) and body.gain_milli:
        result[Cid.GAIN] = body.gain_milli
    if values.get(Cid.AUTO_WHITE_BALANCE) and body.temperature_k:
        result[Cid.WHITE_BALANCE_TEMPERATURE] = body.temperature_k
    if body.focus_state:
        result[Cid.AUTO_FOCUS_STATUS] = AF_STATUS.get(body.focus_state - 1, 0)
    # A one-shot scan moves the lens too, so this does not ask for continuous focus. Where nothing scans, the lens may
    # still be on its way to where a person has sent it, and its place is no news.
    if body.focus_cdpt and body.focus_state > 1 + AF_IDLE:
        result[Cid.FOCUS_ABSOLUTE] = body.focus_cdpt - 1
    return {cid: value for cid, value in result.items() if cid in values}


def info_of(body: ControlBody) -> ControlInfo | None:
    """The control that a child's packet speaks of; None if the table has no such id or the range makes no sense."""
    row = next((r for r in TABLE if r.cid == body.id), None)
    if row is None or not -MAX_VALUE <= body.minimum <= body.default <= body.maximum <= MAX_VALUE or body.step < 0:
        return None
    kind = ControlType.INTEGER if isinstance(row, Scaled) else row.type
    menu = () if isinstance(row, Scaled) else row.menu
    flags = ControlFlag.READ_ONLY if row.cid == Cid.AUTO_FOCUS_STATUS else ControlFlag.NONE
    return ControlInfo(row.cid, row.name, kind, body.minimum, body.maximum, body.step, body.default, flags, menu)


def _scaled_range(row: Scaled, native: Mapping[str, tuple[object, object, object]]) -> ControlBody | None:
    found = native.get(row.native)
    if found is None:
        return None
    numbers = [row.from_native(v) for v in found if isinstance(v, int | float)]
    if len(numbers) != 3 or numbers[0] >= numbers[1]:
        return None
    low, high, default = numbers
    # A default outside its own range has been seen: cameras report 0 for "whatever the automatics say".
    return ControlBody(id=row.cid, minimum=low, maximum=high, step=1, default=min(max(default, low), high))


def _choice_range(row: Choice, native: Mapping[str, tuple[object, object, object]]) -> ControlBody | None:
    if not all(name in native for name in row.needs) or any(name in native for name in row.without):
        return None
    if row.type == ControlType.BITMASK:
        return ControlBody(id=row.cid, minimum=0, maximum=max(AF_STATUS.values()) * 2 - 1, step=0, default=0)
    if row.type == ControlType.BUTTON:
        return ControlBody(id=row.cid, minimum=0, maximum=0, step=0, default=0)
    default = row.default
    for value, state in row.states.items():
        if all(native[name][2] == want for name, want in state.items() if name in row.needs):
            default = value
            break
    low, high = min(row.states), max(row.states)
    return ControlBody(id=row.cid, minimum=low, maximum=high, step=1, default=default)
