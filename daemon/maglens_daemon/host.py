# SPDX-License-Identifier: GPL-2.0-or-later
"""Host: what a session needs of the manager."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from maglens_driver.source import Identity

if TYPE_CHECKING:
    from maglens_daemon.session import Session


class Host(Protocol):
    """One for all sessions; all calls in the event loop's thread."""

    def reserve(self, session: Session) -> int:
        """mW that may be offered to it now; kept for it until :meth:`changed` tells of its contract or its end."""
        ...

    def burst(self, session: Session) -> AbstractAsyncContextManager[None]:
        """Power for its motors, while it is told to move them. Raises ``Refused("POWER")``."""
        ...

    def twin(self, session: Session, identity: Identity) -> Session | None:
        """Another session that has this identity already."""
        ...

    def control_moved(self, session: Session, control: int, value: int) -> None:
        """It moved a control by itself, perhaps while nobody watches."""
        ...

    def changed(self, session: Session) -> None:
        """Its state changed."""
        ...
