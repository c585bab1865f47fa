# SPDX-License-Identifier: MIT
"""Pace: how fast bytes may leave, so that a simulated bus is no faster than the link a module claims."""

from __future__ import annotations

from typing import Final

_NS_BITS: Final = 8_000  # nanoseconds a byte takes at one Mbit/s


class Pace:
    """Spreads the bytes of a transfer over the time they take at ``mbit_s``. Times are ns of one clock."""

    def __init__(self, mbit_s: int) -> None:
        if mbit_s < 1:
            raise ValueError(f"a link of {mbit_s} Mbit/s")
        self._mbit_s = mbit_s
        self._free_ns = 0

    def send(self, nbytes: int, now_ns: int) -> int:
        """Account for ``nbytes`` handed over at ``now_ns``; the time when the link is free for the next ones."""
        self._free_ns = max(self._free_ns, now_ns) + nbytes * _NS_BITS // self._mbit_s
        return self._free_ns
