# SPDX-License-Identifier: GPL-2.0-or-later
"""Link watch: looks at what a playing source counts, and keeps its stay's modes to what the link carries."""

from __future__ import annotations

import logging
from typing import Final

from maglens_daemon.link_health import LinkHealth, LinkRules, Move, reading
from maglens_daemon.restraint import RESEAT
from maglens_daemon.session import Session
from maglens_driver.mode import Mode

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0


class LinkWatch:
    """One per stay."""

    def __init__(self, session: Session, rules: LinkRules) -> None:
        self.health = LinkHealth(rules)
        self._session = session
        self._generation: int | None = None
        self._look_at = 0.0

    def look(self, now: float, generation: int, playing: Mode) -> tuple[bool, float]:
        """While ``playing`` plays: whether another mode is to be chosen, and when to look again (loop time)."""
        session, source = self._session, self._session.source
        if self._generation != generation:
            self._generation, self._look_at = generation, now
            self.health.restart()
        if now < self._look_at or source is None:
            return False, self._look_at
        self._look_at = now + LOOK_S
        prices = sorted({mode.mbit_s for mode in source.modes if mode.fourcc == playing.fourcc})
        counters = getattr(source, "counters", {})
        move = self.health.observe(now, reading(counters), prices, playing.mbit_s)
        if move is Move.STAY:
            return False, self._look_at
        ceiling = session.restraint.mbit_s = self.health.ceiling_mbit_s
        session.restraint.link_note = (
            "" if ceiling is None else f"the link is bad, modes of up to {ceiling} Mbit/s are used: {RESEAT}"
        )
        if move is Move.DOWN:
            log.warning("%s: %s", session.label, session.restraint.link_note, extra=session.log_fields())
        else:
            log.info(
                "%s: the link was quiet for a while; trying %s",
                session.label,
                "all modes" if ceiling is None else f"up to {ceiling} Mbit/s",
                extra=session.log_fields(),
            )
        return True, self._look_at
