# SPDX-License-Identifier: GPL-2.0-or-later
"""Effort: what a mode costs the module's own processor, as far as a host can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from maglens_driver.mode import MJPG, RAW, Mode

DEVELOPED: Final = 1
_KINDS: Final[Mapping[int, int]] = {**dict.fromkeys(RAW, 0), MJPG: 2}
"""Raw is what the sensor gives, anything else is developed from that, and compression comes on top."""


@dataclass(frozen=True, slots=True)
class Effort:
    """``kind`` rises with the steps to make a picture, ``pixels_s`` are pixels a second. How much dearer one kind is
    than another, no descriptor says."""

    kind: int
    pixels_s: int

    @classmethod
    def of(cls, mode: Mode) -> Effort:
        """A mode's."""
        return cls(_KINDS.get(mode.fourcc, DEVELOPED), int(mode.width * mode.height / mode.interval))

    def covers(self, mode: Mode) -> bool:
        """Whether ``mode`` takes no more of either."""
        its = Effort.of(mode)
        return its.kind <= self.kind and its.pixels_s <= self.pixels_s
