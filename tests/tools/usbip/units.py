# SPDX-License-Identifier: GPL-2.0-or-later
"""Units: the camera's controls as UVC has them, in a table (Class Specification 1.5, tables 4-9 to 4-35)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CAMERA_TERMINAL: Final = 1
PROCESSING_UNIT: Final = 2
OUTPUT_TERMINAL: Final = 3

AE_MANUAL: Final = 1
AE_APERTURE_PRIORITY: Final = 8


@dataclass(frozen=True, slots=True)
class UnitControl:
    """One control: ``selector`` within its ``unit``, ``bit`` in the unit's bmControls, ``size`` bytes."""

    name: str
    unit: int
    selector: int
    bit: int
    size: int
    minimum: int
    maximum: int
    resolution: int
    default: int
    signed: bool = False
    legal: tuple[int, ...] = ()  # where not every number in range is

    def allows(self, value: int) -> bool:
        """Whether it can be set to this."""
        if self.legal:
            return value in self.legal
        return self.minimum <= value <= self.maximum

    def pack(self, value: int) -> bytes:
        """As on the bus."""
        return value.to_bytes(self.size, "little", signed=self.signed)

    def unpack(self, raw: bytes) -> int:
        """From the bus."""
        return int.from_bytes(raw, "little", signed=self.signed)


CONTROLS: Final = (
    UnitControl(
        "auto_exposure", CAMERA_TERMINAL, 0x02, 1, 1, 1, 8, AE_MANUAL | AE_APERTURE_PRIORITY, AE_APERTURE_PRIORITY,
        legal=(AE_MANUAL, AE_APERTURE_PRIORITY),
    ),
    UnitControl("exposure", CAMERA_TERMINAL, 0x04, 3, 4, 1, 2000, 1, 200),  # 100 microseconds
    UnitControl("focus", CAMERA_TERMINAL, 0x06, 5, 2, 0, 250, 1, 100),
    UnitControl("auto_focus", CAMERA_TERMINAL, 0x08, 17, 1, 0, 1, 1, 1),
    UnitControl("brightness", PROCESSING_UNIT, 0x02, 0, 2, -64, 64, 1, 0, signed=True),
    UnitControl("contrast", PROCESSING_UNIT, 0x03, 1, 2, 0, 64, 1, 32),
    UnitControl("gain", PROCESSING_UNIT, 0x04, 9, 2, 16, 128, 1, 16),  # sixteenths
    UnitControl("saturation", PROCESSING_UNIT, 0x07, 3, 2, 0, 128, 1, 64),
)  # fmt: skip

BY_ADDRESS: Final = {(control.unit, control.selector): control for control in CONTROLS}


def bitmap(unit: int, size: int) -> bytes:
    """bmControls of a unit."""
    return sum(1 << control.bit for control in CONTROLS if control.unit == unit).to_bytes(size, "little")
