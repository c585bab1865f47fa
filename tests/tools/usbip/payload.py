# SPDX-License-Identifier: GPL-2.0-or-later
"""Payload: frames cut into UVC payloads, and when each frame is due."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

HEADER_BYTES: Final = 2
"""The shortest header there is: without clocks, so that the host stamps each frame as it arrives."""

_FID, _EOF, _EOH = 1, 2, 0x80


def payloads(frame: bytes | bytearray, number: int, largest: int) -> Iterator[tuple[bytes, memoryview]]:
    """Header and data of each payload of a frame; none is larger than ``largest`` bytes.

    The frame id toggles with every frame; the last payload says that it is.
    """
    view = memoryview(frame)
    step = largest - HEADER_BYTES
    for start in range(0, len(view), step):
        flags = _EOH | (number & 1 and _FID) | (_EOF if start + step >= len(view) else 0)
        yield bytes((HEADER_BYTES, flags)), view[start : start + step]


class FrameClock:
    """Which frame is due when. Frames that could not be sent are left out, as a sensor does; without an interval
    each is due at once, and none is left out."""

    def __init__(self, interval_ns: int, now_ns: int) -> None:
        self._interval_ns = interval_ns
        self._begin_ns = now_ns
        self._next = 0

    def due_ns(self) -> int:
        """When the next frame is due."""
        return self._begin_ns + self._next * self._interval_ns

    def take(self, now_ns: int) -> int:
        """Number of the frame to send now; the newest that is due."""
        number = self._next
        if self._interval_ns:
            number = max(number, (now_ns - self._begin_ns) // self._interval_ns)
        self._next = number + 1
        return number
