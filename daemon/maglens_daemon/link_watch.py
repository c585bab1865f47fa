# SPDX-License-Identifier: GPL-2.0-or-later
"""Link watch: looks at what a playing source counts, and keeps its stay's modes to what link and module carry."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from maglens_daemon.effort import Effort
from maglens_daemon.ladder import Move
from maglens_daemon.link_health import LinkHealth, LinkRules, reading
from maglens_daemon.mode_choice import obstacle
from maglens_daemon.restraint import RESEAT
from maglens_daemon.session import Session
from maglens_driver.mode import MJPG, Mode
from maglens_driver.source import Source

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0


class LinkWatch:
    """One per stay. ``rules`` gives those that hold now; with others everything is learnt anew."""

    def __init__(self, session: Session, rules: Callable[[], LinkRules]) -> None:
        self.health = LinkHealth(rules())
        self._rules = rules
        self._session = session
        self._restraint = session.restraint
        self._generation: int | None = None
        self._look_at = 0.0

    def look(self, now: float, generation: int, playing: Mode) -> tuple[bool, float]:
        """While ``playing`` plays: whether another mode is to be chosen, and when to look again (loop time)."""
        source, rules = self._session.source, self._rules()
        freed, anew = self.health.rules != rules, self._restraint is not self._session.restraint
        if freed:
            restraint = self._restraint
            restraint.mbit_s, restraint.link_note, restraint.effort, restraint.pace_note = None, "", None, ""
        if freed or anew:  # nothing that was learnt of it holds any more
            self._restraint, self.health = self._session.restraint, LinkHealth(rules)
        if self._generation != generation:
            self._generation, self._look_at = generation, now
            self.health.restart()
        if now < self._look_at or source is None:
            return freed, self._look_at
        self._look_at = now + LOOK_S
        self.health.observe(now, reading(getattr(source, "counters", {})))
        moved = self._look_at_link(source, playing) or self._look_at_module(source, playing)
        return moved or freed, self._look_at

    def _look_at_link(self, source: Source, playing: Mode) -> bool:
        restraint = self._restraint
        move = self.health.judge_link(self._prices(source, playing), playing.mbit_s)
        if move is Move.STAY:
            return False
        ceiling = restraint.mbit_s = self.health.link.ceiling
        restraint.link_note = (
            "" if ceiling is None else f"the link is bad, modes of up to {ceiling} Mbit/s are used: {RESEAT}"
        )
        if move is Move.DOWN:
            self._warn(restraint.link_note)
        else:
            tried = "all modes" if ceiling is None else f"up to {ceiling} Mbit/s"
            self._tell(f"the link was quiet for a while; trying {tried}")
        return True

    def _prices(self, source: Source, playing: Mode) -> list[int]:
        """Mbit/s of what is to be tried: the other sizes of its format; where none of them takes less, and it is not
        compressed already, of everything that can be played."""
        own = sorted({mode.mbit_s for mode in source.modes if mode.fourcc == playing.fourcc})
        if playing.fourcc == MJPG or (own and own[0] < playing.mbit_s):
            return own
        means = replace(self._session.means(), mbit_s=None)
        return sorted({mode.mbit_s for mode in source.modes if not obstacle(mode, means)})

    def _look_at_module(self, source: Source, playing: Mode) -> bool:
        restraint, now = self._restraint, Effort.of(playing)
        kind = min(now.kind, restraint.effort.kind) if restraint.effort is not None else now.kind
        efforts = [Effort.of(mode) for mode in source.modes]
        prices = sorted({effort.pixels_s for effort in efforts if effort.kind <= kind})
        share = self.health.shares()[1]
        move = self.health.judge_module(prices, now.pixels_s)
        if move is Move.STAY:
            return False
        ceiling = self.health.module.ceiling
        restraint.effort = Effort(kind, ceiling) if ceiling is not None else None
        if move is Move.DOWN:
            restraint.pace_note = (
                f"the module cannot keep up: it left out {share:.0%} of its frames of {playing.describe()}, and has "
                "less to do now"
            )
            self._warn(restraint.pace_note)
        else:
            if ceiling is None:
                restraint.pace_note = ""
            self._tell("the module kept up for a while; trying a larger mode")
        return True

    def _warn(self, text: str) -> None:
        log.warning("%s: %s", self._session.label, text, extra=self._session.log_fields())

    def _tell(self, text: str) -> None:
        log.info("%s: %s", self._session.label, text, extra=self._session.log_fields())
