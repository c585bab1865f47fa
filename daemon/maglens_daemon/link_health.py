# SPDX-License-Identifier: GPL-2.0-or-later
"""Link health: how much of a link to use, judged by what came over it. Pure: counts and times in, a ceiling out.

Two shares are looked at over a window: *damaged* frames (CRC, wrong lengths, bus errors, stalls) and *gaps* in the
frame numbers (what the module could not send). A window is bad when either share is over its limit. A bad window
takes away the dearest mode that is left, by its price in Mbit/s; a quiet time without one gives back the next.

It does not flap: a climb is tried only after a quiet time, and each climb that ends in a bad window before
another quiet time has passed doubles the one after it, up to :attr:`LinkRules.longest_quiet_s`.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

DAMAGE: Final = frozenset(
    (
        "leader_length",
        "leader_magic",
        "leader_crc",
        "leader_epoch",
        "leader_geometry",
        "leader_id",
        "payload_short",
        "payload_long",
        "payload_crc",
        "trailer_length",
        "trailer_magic",
        "trailer_crc",
        "trailer_frame",
        "trailer_missing",
        "bus",
        "halted",
        "stall",
    )
)
"""Counters of a module's source that tell of the link; the others are the host's own or the sensor's."""


@dataclass(frozen=True, slots=True)
class LinkRules:
    """``window_s`` seconds looked at; shares from 0 to 1; fewer than ``least`` bad frames in a window say nothing."""

    window_s: float = 5.0
    damaged_share: float = 0.02
    gap_share: float = 0.5
    least: int = 3
    quiet_s: float = 30.0
    longest_quiet_s: float = 960.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source has counted since it was opened: frames that came whole, damaged ones, numbers left out."""

    whole: int = 0
    damaged: int = 0
    gaps: int = 0


class Move(enum.Enum):
    """What a reading leads to."""

    STAY = "stay"
    DOWN = "down"
    UP = "up"


def reading(counters: Mapping[str, int]) -> Reading:
    """Of a source's counters; a source without any is a link without faults."""
    damaged = sum(count for cause, count in counters.items() if cause in DAMAGE)
    return Reading(counters.get("frames", 0), damaged, counters.get("missed", 0))


class LinkHealth:
    """One link, from attach to removal. ``ceiling_mbit_s`` is the dearest price that modes may have, None for any."""

    def __init__(self, rules: LinkRules = LinkRules()) -> None:
        self.rules = rules
        self.ceiling_mbit_s: int | None = None
        self.quiet_s = rules.quiet_s  # before the next climb
        self._seen: deque[tuple[float, Reading]] = deque()
        self._bad_at: float | None = None  # end of the last bad window
        self._climbed_at: float | None = None

    def shares(self) -> tuple[float, float]:
        """Damaged and missing frames in the window, each as a share of all that were taken."""
        damaged, gaps, all_ = self._window()
        return (damaged / all_, gaps / all_) if all_ else (0.0, 0.0)

    def restart(self) -> None:
        """A stream begins or ends: what another one counted does not speak of it."""
        self._seen.clear()

    def observe(self, now: float, read: Reading, prices: Sequence[int], playing_mbit_s: int) -> Move:
        """One more reading, while a mode of ``playing_mbit_s`` plays; ``prices`` are those of all modes, Mbit/s.

        A source's counts never fall. After DOWN or UP the window begins anew, so that what was seen before the move
        does not move it again.
        """
        self._seen.append((now, read))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self.rules.window_s:
            self._seen.popleft()
        if self._is_bad():
            return self._down(now, prices, playing_mbit_s)
        return self._up(now, prices)

    def again_at(self) -> float | None:
        """When a climb may be tried; None where there is nothing to climb."""
        if self.ceiling_mbit_s is None or self._bad_at is None:
            return None
        return max(self._bad_at, self._climbed_at or self._bad_at) + self.quiet_s

    def _window(self) -> tuple[int, int, int]:
        if len(self._seen) < 2:
            return 0, 0, 0
        first, last = self._seen[0][1], self._seen[-1][1]
        damaged, gaps = last.damaged - first.damaged, last.gaps - first.gaps
        return damaged, gaps, damaged + gaps + last.whole - first.whole

    def _is_bad(self) -> bool:
        damaged, gaps, _ = self._window()
        damaged_share, gap_share = self.shares()
        rules = self.rules
        return (damaged >= rules.least and damaged_share > rules.damaged_share) or (
            gaps >= rules.least and gap_share > rules.gap_share
        )

    def _down(self, now: float, prices: Sequence[int], playing_mbit_s: int) -> Move:
        if self._climbed_at is not None and now < self._climbed_at + self.quiet_s:
            self.quiet_s = min(self.quiet_s * 2, self.rules.longest_quiet_s)  # that climb was a mistake
        self._climbed_at = None
        self._bad_at = now
        self.restart()
        cheaper = [price for price in prices if price < playing_mbit_s]
        if not cheaper:
            return Move.STAY  # nothing smaller is left
        self.ceiling_mbit_s = max(cheaper)
        return Move.DOWN

    def _up(self, now: float, prices: Sequence[int]) -> Move:
        at = self.again_at()
        if at is None:
            if self._climbed_at is not None and now >= self._climbed_at + self.quiet_s:
                self._climbed_at, self.quiet_s = None, self.rules.quiet_s  # back at the top, and it holds
            return Move.STAY
        if now < at:
            return Move.STAY
        assert self.ceiling_mbit_s is not None
        dearer = [price for price in prices if price > self.ceiling_mbit_s]
        self.ceiling_mbit_s = min(dearer) if dearer and min(dearer) < max(prices) else None
        self._climbed_at = now
        self.restart()
        return Move.UP
