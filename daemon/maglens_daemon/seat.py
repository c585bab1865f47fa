# SPDX-License-Identifier: GPL-2.0-or-later
"""Seat: the board's part in a stay; ``maglens_daemon.board`` has the one there is."""

from __future__ import annotations

from typing import Protocol


class Seat(Protocol):
    """One stay's, in the event loop's thread."""

    async def taken(self) -> None:
        """Returns when the visitor is on USB and may be opened, once for each time that it comes there. Raises
        ``AttachFailed`` when it will not be let in any more."""
        ...

    def again(self, why: Exception) -> bool:
        """A step failed: whether the stay goes on with :meth:`taken`."""
        ...

    def reopen(self) -> None:
        """The system sleeps: what is on USB may be taken once more afterwards."""
        ...

    def refused(self) -> None:
        """It is in quarantine."""
        ...
