# SPDX-License-Identifier: MIT
"""Frame and lease: one picture, and the one owner of the memory it lies in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from maglens_driver.mode import Mode


class Lease(Protocol):
    """A writable buffer with one owner at a time."""

    @property
    def view(self) -> memoryview:
        """Flat, writable, format ``B``; as long as was asked for, or longer."""
        ...

    def release(self) -> None:
        """Give the memory back. Idempotent, from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Meta:
    """How the picture was taken. Zero means not known.

    ``exposure_us`` microseconds, ``gain_milli`` thousandths (1000 is unity), ``fnumber_milli`` thousandths,
    ``focus_cdpt`` hundredths and ``focus_udpt`` millionths of a dioptre, ``focal_um`` micrometres, ``temperature_k``
    kelvin.
    """

    exposure_us: int = 0
    gain_milli: int = 0
    fnumber_milli: int = 0
    focus_cdpt: int = 0
    focal_um: int = 0
    temperature_k: int = 0
    focus_udpt: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture. Delivering it passes the lease on.

    ``nbytes`` bytes of ``lease.view`` hold the picture in ``mode``; ``seq`` is the source's own number (gaps are
    lost frames); ``exposure_ns`` is the start of exposure on the host's CLOCK_MONOTONIC; ``generation`` names
    the start of the source that made it, so that a late frame of an earlier one can be told.
    """

    lease: Lease
    nbytes: int
    mode: Mode
    seq: int
    exposure_ns: int
    generation: int
    meta: Meta = Meta()
