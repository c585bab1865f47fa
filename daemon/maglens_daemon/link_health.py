# SPDX-License-Identifier: GPL-2.0-or-later
"""Link health: how much of a link and of a module to use, judged by what came. Pure: counts and times in, moves out.

Two things may be short, and each has a ladder of its own:

- the **link**: frames that came *damaged* (CRC, wrong lengths, bus errors, stalls) and those *lost* as a stream that
  broke so was mended. Bulk transfers are repeated until they arrive, so nothing else is a link's fault.
- the **module**: frames whose number was used up with nothing wrong around it were *left out* by the module: it had
  no time for them. It is given less to do then, and that is not what takes less of the link: an encoding that saves
  bytes costs it work.

Damage counts at once; a module has to leave frames out for a whole window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from maglens_daemon.ladder import Ladder, Move

DAMAGE: Final = frozenset(
    (
        "leader_length",
        "leader_magic",
        "leader_version",
        "leader_crc",
        "leader_epoch",
        "leader_geometry",
        "leader_id",
        "payload_short",
        "payload_long",
        "payload_crc",
        "trailer_length",
        "trailer_magic",
        "trailer_version",
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
    """``window_s`` seconds looked at; shares from 0 to 1; fewer than ``least`` frames damaged or left out in a window
    say nothing."""

    window_s: float = 5.0
    damaged_share: float = 0.02
    left_out_share: float = 0.5
    least: int = 3
    quiet_s: float = 30.0
    longest_quiet_s: float = 960.0

    def ladder(self) -> Ladder:
        """One that climbs by these rules."""
        return Ladder(self.quiet_s, self.longest_quiet_s)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source has counted since it was opened: frames that came whole, damaged ones, those lost as a stream was
    mended, and those that the module left out."""

    whole: int = 0
    damaged: int = 0
    lost: int = 0
    left_out: int = 0

    @property
    def all(self) -> int:
        """Frames that were taken."""
        return self.whole + self.damaged + self.lost + self.left_out

    def since(self, earlier: Reading) -> Reading:
        """What was counted since an earlier one."""
        return Reading(
            self.whole - earlier.whole,
            self.damaged - earlier.damaged,
            self.lost - earlier.lost,
            self.left_out - earlier.left_out,
        )


def reading(counters: Mapping[str, int]) -> Reading:
    """Of a source's counters; a source without any is a link without faults."""
    damaged = sum(count for cause, count in counters.items() if cause in DAMAGE)
    whole, lost, left_out = (counters.get(name, 0) for name in ("frames", "lost", "left_out"))
    return Reading(whole, damaged, lost, left_out)


class LinkHealth:
    """One stay's, from attach to removal. ``link`` climbs in Mbit/s, ``module`` in what :mod:`effort` reckons."""

    def __init__(self, rules: LinkRules = LinkRules()) -> None:
        self.rules = rules
        self.link, self.module = rules.ladder(), rules.ladder()
        self._seen: deque[tuple[float, Reading]] = deque()

    def restart(self) -> None:
        """A stream begins or ends: what another one counted does not speak of it."""
        self._seen.clear()

    def observe(self, now: float, read: Reading) -> None:
        """One more reading. A source's counts never fall."""
        self._seen.append((now, read))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self.rules.window_s:
            self._seen.popleft()

    def shares(self) -> tuple[float, float]:
        """Frames that the link has cost and that the module left out, each as a share of all that were taken within
        the window."""
        seen = self._window()
        return ((seen.damaged + seen.lost) / seen.all, seen.left_out / seen.all) if seen.all else (0.0, 0.0)

    def judge_link(self, prices: Sequence[int], playing: int) -> Move:
        """While a mode of ``playing`` Mbit/s plays; ``prices`` are those of all modes, Mbit/s."""
        bad = self._window().damaged >= self.rules.least and self.shares()[0] > self.rules.damaged_share
        return self._look(self.link, bad, prices, playing)

    def judge_module(self, prices: Sequence[int], playing: int) -> Move:
        """While a mode of ``playing`` work plays; ``prices`` are those of all modes of no costlier kind."""
        whole_window = bool(self._seen) and self._seen[-1][0] - self._seen[0][0] >= self.rules.window_s
        many = self._window().left_out >= self.rules.least and self.shares()[1] > self.rules.left_out_share
        return self._look(self.module, whole_window and many, prices, playing)

    def _look(self, ladder: Ladder, bad: bool, prices: Sequence[int], playing: int) -> Move:
        """The window begins anew after a bad time and a move, so that what was seen before does not count twice."""
        if not self._seen:
            return Move.STAY
        move = ladder.look(self._seen[-1][0], bad, prices, playing)
        if bad or move is not Move.STAY:
            self.restart()
        return move

    def _window(self) -> Reading:
        return self._seen[-1][1].since(self._seen[0][1]) if self._seen else Reading()
