# SPDX-License-Identifier: MIT
"""Y'CbCr: by which matrix, and in which range, luma and chroma are made of red, green and blue."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Matrix(enum.IntEnum):
    """The numbers are V4L2's (linux/videodev2.h, V4L2_YCBCR_ENC_*)."""

    BT601 = 1
    BT709 = 2
    BT2020 = 6
    SMPTE240M = 8

    @property
    def weights(self) -> tuple[float, float]:
        """How much red and blue count in luma; green is the rest (ITU-R BT.601, 709, 2020; SMPTE 240M)."""
        return _WEIGHTS[self]


_WEIGHTS: Final = {
    Matrix.BT601: (0.299, 0.114),
    Matrix.BT709: (0.2126, 0.0722),
    Matrix.BT2020: (0.2627, 0.0593),
    Matrix.SMPTE240M: (0.212, 0.087),
}
_NAMES: Final = {
    Matrix.BT601: "BT.601",
    Matrix.BT709: "BT.709",
    Matrix.BT2020: "BT.2020",
    Matrix.SMPTE240M: "SMPTE 240M",
}


@dataclass(frozen=True, slots=True)
class YCbCr:
    """``full``: 0 to 255; else luma has 16 to 235 and chroma 16 to 240."""

    matrix: Matrix
    full: bool

    def describe(self) -> str:
        """As people write it: ``BT.709, full range``."""
        return f"{_NAMES[self.matrix]}, {'full' if self.full else 'limited'} range"


TOLD: Final = YCbCr(Matrix.BT601, full=False)
"""What apps are told of NV12 and YUYV, and what modules send."""


def unless_told(matrix: Matrix, full: bool) -> YCbCr | None:
    """None where it is what apps are told: see ``Mode.ycbcr``."""
    made = YCbCr(matrix, full)
    return None if made == TOLD else made
