# SPDX-License-Identifier: MIT
"""Bayer: the packed raw formats as arrays: which colour each sample sees, and samples to bytes."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from maglens_driver.mode import RAW10, RAW12, Mode, fourcc_text

Samples = npt.NDArray[np.uint16]
Bytes = npt.NDArray[np.uint8]

_ORDERS: Final = {"R": (0, 1, 1, 2), "g": (1, 0, 2, 1), "G": (1, 2, 0, 1), "B": (2, 1, 1, 0)}  # by V4L2's letter


def cfa_of(mode: Mode) -> tuple[int, int, int, int]:
    """Colours of a quad (0 red, 1 green, 2 blue): upper left and right, lower left and right. ``ValueError`` for
    other formats."""
    if mode.fourcc not in RAW10 | RAW12:
        raise ValueError(f"{mode.describe()} is not packed Bayer")
    return _ORDERS[fourcc_text(mode.fourcc)[1]]


def bits_of(mode: Mode) -> int:
    """Bits per sample."""
    return 10 if mode.fourcc in RAW10 else 12


def pack(samples: Samples, bits: int, out: Bytes) -> None:
    """``samples`` (rows, width) as MIPI CSI-2 packs them into ``out`` (rows, stride), whose padding stays."""
    rows, width = samples.shape
    each, group = (4, 5) if bits == 10 else (2, 3)
    to = out[:, : width // each * group].reshape(rows, width // each, group)
    s = samples.reshape(rows, width // each, each)
    low, drop = s & ((1 << (bits - 8)) - 1), bits - 8
    np.right_shift(s, drop, out=to[:, :, :each], casting="unsafe")
    last = to[:, :, each]
    last[:] = low[:, :, 0]
    for k in range(1, each):
        last |= (low[:, :, k] << (k * drop)).astype(np.uint8)
