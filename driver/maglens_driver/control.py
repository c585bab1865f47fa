# SPDX-License-Identifier: MIT
"""Control: a named number of a camera, in V4L2's ids, units and conventions (linux/v4l2-controls.h)."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_USER = 0x00980900
_CAMERA = 0x009A0900
_LINK = 0x0F4D0000  # the link protocol's own: no V4L2 control, no app sees them


class Cid(enum.IntEnum):
    """The V4L2 control ids that maglens maps (values from linux/v4l2-controls.h), and the link protocol's own."""

    BRIGHTNESS = _USER + 0
    CONTRAST = _USER + 1
    SATURATION = _USER + 2
    AUTO_WHITE_BALANCE = _USER + 12
    AUTOGAIN = _USER + 18
    GAIN = _USER + 19
    HFLIP = _USER + 20
    VFLIP = _USER + 21
    POWER_LINE_FREQUENCY = _USER + 24
    WHITE_BALANCE_TEMPERATURE = _USER + 26
    EXPOSURE_AUTO = _CAMERA + 1
    EXPOSURE_ABSOLUTE = _CAMERA + 2  # 100 microseconds
    FOCUS_ABSOLUTE = _CAMERA + 10  # here: hundredths of a dioptre, larger is nearer
    FOCUS_AUTO = _CAMERA + 12
    ZOOM_ABSOLUTE = _CAMERA + 13  # here: tenths of a millimetre of focal length
    IRIS_ABSOLUTE = _CAMERA + 17  # here: hundredths of a stop above the smallest aperture
    ISO_SENSITIVITY = _CAMERA + 23
    ISO_SENSITIVITY_AUTO = _CAMERA + 24
    AUTO_FOCUS_START = _CAMERA + 28
    AUTO_FOCUS_STOP = _CAMERA + 29
    AUTO_FOCUS_STATUS = _CAMERA + 30  # bitmask: 1 busy, 2 reached, 4 failed
    TEST_PATTERN = 0x009F0900 + 3
    # FOCUS_ABSOLUTE's motor in millionths of a dioptre: a hundredth is ten times a long lens's depth of field.
    FOCUS_FINE = _LINK + 1


MOTORS: Final = frozenset(
    int(c) for c in (Cid.FOCUS_ABSOLUTE, Cid.FOCUS_FINE, Cid.ZOOM_ABSOLUTE, Cid.IRIS_ABSOLUTE, Cid.AUTO_FOCUS_START)
)
"""Controls that move something: a module may draw more for a moment after one was written."""


class ControlType(enum.IntEnum):
    """Kinds of control; values from enum v4l2_ctrl_type."""

    INTEGER = 1
    BOOLEAN = 2
    MENU = 3
    BUTTON = 4
    BITMASK = 8
    INTEGER_MENU = 9


class ControlFlag(enum.IntFlag):
    """What a control's owner says of it."""

    NONE = 0
    READ_ONLY = 1
    INACTIVE = 2
    RING = 4  # a hand can move it: changes come as events


@dataclass(frozen=True, slots=True)
class ControlInfo:
    """Range and meaning of one control; units as in :class:`Cid`. ``menu`` maps values to names."""

    id: int
    name: str
    type: ControlType
    minimum: int
    maximum: int
    step: int
    default: int
    flags: ControlFlag = ControlFlag.NONE
    menu: tuple[tuple[int, str], ...] = ()

    def clamp(self, value: int) -> int:
        """The nearest legal value: within range, on the step grid counted from the minimum."""
        value = min(max(value, self.minimum), self.maximum)
        if self.type in (ControlType.INTEGER, ControlType.BOOLEAN) and self.step > 1:
            steps = round((value - self.minimum) / self.step)
            value = min(self.minimum + steps * self.step, self.maximum - (self.maximum - self.minimum) % self.step)
        return value


def held(values: Mapping[int, int], infos: Iterable[ControlInfo]) -> dict[int, int]:
    """What a source says its controls are, each held to the range that the source itself has declared: it may say
    anything. Controls that it has not declared are left out."""
    ranges = {info.id: info for info in infos}
    return {
        control: min(max(value, ranges[control].minimum), ranges[control].maximum)
        for control, value in values.items()
        if control in ranges
    }


class Origin(enum.Enum):
    """Who wrote a control. APP or MODULE on an auto-driven control ends auto."""

    APP = "app"
    MODULE = "module"  # a hand on the ring
    AUTO = "auto"
    RESTORE = "restore"
