# SPDX-License-Identifier: GPL-2.0-or-later
"""Session state: where a stay is, and what may follow.

::

    detected -> identify -> contract -> ready <-> streaming
    detected -> attach -> identify
    identify -> attach
    contract -> attach
    ready -> attach
    streaming -> attach
    standby -> attach
    ready <-> standby
    standby -> streaming
    * -> quarantined
    * -> gone

``*`` is every state but the end states ``quarantined`` and ``gone``; a quarantined visitor may still go::

    quarantined -> gone

``attach`` is for ports that a board watches (``maglens_daemon.board``): detect, short test, power and USB come first,
and a module that has reset or was cut off goes back there in the same stay. On any other port USB's connect is the
detect, and modules are in that state only while the system sleeps: sleep ends every transfer and may reset what is on
USB, so that a module is given back before it, and opened and agreed with anew after it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class SessionState(enum.Enum):
    """Where a session is."""

    DETECTED = "detected"  # something is on the port; nothing was said to it yet
    ATTACH = "attach"  # the board lets it in: short test, power, USB
    IDENTIFY = "identify"  # opened; its descriptor is being read
    CONTRACT = "contract"  # agreeing on power
    READY = "ready"  # could play
    STREAMING = "streaming"  # plays
    STANDBY = "standby"  # nobody watches: sensor off, link up
    QUARANTINED = "quarantined"  # refused, with a reason, until it is lifted off
    GONE = "gone"  # lifted off

    @property
    def is_end(self) -> bool:
        """Whether nothing but removal can follow."""
        return self in (SessionState.QUARANTINED, SessionState.GONE)

    @property
    def is_under_way(self) -> bool:
        """Whether it has come and is not ready yet."""
        return self in (SessionState.DETECTED, SessionState.ATTACH, SessionState.IDENTIFY, SessionState.CONTRACT)

    @property
    def is_playable(self) -> bool:
        """Whether the source can be asked for frames."""
        return self in (SessionState.READY, SessionState.STREAMING, SessionState.STANDBY)


_S = SessionState
TRANSITIONS: Final[Mapping[SessionState, frozenset[SessionState]]] = {
    _S.DETECTED: frozenset((_S.ATTACH, _S.IDENTIFY, _S.QUARANTINED, _S.GONE)),
    _S.ATTACH: frozenset((_S.IDENTIFY, _S.QUARANTINED, _S.GONE)),
    _S.IDENTIFY: frozenset((_S.ATTACH, _S.CONTRACT, _S.QUARANTINED, _S.GONE)),
    _S.CONTRACT: frozenset((_S.ATTACH, _S.READY, _S.QUARANTINED, _S.GONE)),
    _S.READY: frozenset((_S.ATTACH, _S.STREAMING, _S.STANDBY, _S.QUARANTINED, _S.GONE)),
    _S.STREAMING: frozenset((_S.ATTACH, _S.READY, _S.QUARANTINED, _S.GONE)),
    _S.STANDBY: frozenset((_S.ATTACH, _S.READY, _S.STREAMING, _S.QUARANTINED, _S.GONE)),
    _S.QUARANTINED: frozenset((_S.GONE,)),
    _S.GONE: frozenset(),
}
