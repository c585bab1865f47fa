# SPDX-License-Identifier: GPL-2.0-or-later
"""Second chance: when a camera that was refused is tried again, and libcamera asked once more for its cameras.

A module is lifted off and snapped on; what is built in would be lost until the service is restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

PAUSES_S: Final = (30.0, 60.0, 120.0, 300.0, 600.0)  # before the first time, the second ...; then the last for ever
FORGIVEN_S: Final = PAUSES_S[-1]  # after a stay that has lasted longer the pauses begin with the first


class SecondChance:
    """One camera's, for as long as it is there; in the event loop's thread. ``begin_anew`` begins its next stay."""

    def __init__(self, begin_anew: Callable[[], None]) -> None:
        self._begin_anew = begin_anew
        self._began = 0.0  # its stay, after one that was refused; loop time
        self._taken = 0
        self._due: asyncio.TimerHandle | None = None  # None: it is not refused

    def refused(self) -> None:
        """Its stay has ended in quarantine; told again, nothing changes."""
        if self._due is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._began > FORGIVEN_S:
            self._taken = 0
        self._due = loop.call_later(PAUSES_S[min(self._taken, len(PAUSES_S) - 1)], self.take)
        self._taken += 1

    def take(self) -> None:
        """Now, where it is refused: the pause is over, or something has happened that may help."""
        if self._due is not None:
            self.drop()
            self._began = asyncio.get_running_loop().time()
            self._begin_anew()

    def drop(self) -> None:
        """It has gone."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
