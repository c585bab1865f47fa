# SPDX-License-Identifier: GPL-2.0-or-later
"""Room: whether a source can be started beside one that plays, where both share what may be enough for one only."""

from __future__ import annotations

import errno
from enum import Enum, auto

from maglens_daemon.session import Session


class Room(Enum):
    """Of one source, from what its starts have shown."""

    BESIDE = auto()  # as far as is known, it is started while another plays
    ALONE = auto()  # it found none so: what plays stops first
    NOWHERE = auto()  # that did not help: nobody is stopped for it again before it has played

    def after_failure(self, *, crowded: bool) -> Room:
        """What to do the next time; ``crowded``: another that plays was in its way, see :func:`is_in_the_way`."""
        if self is Room.BESIDE:
            return Room.ALONE if crowded else Room.BESIDE
        return Room.NOWHERE


def alike(one: Session, other: Session) -> bool:
    """Whether they may share what has room for one of them only."""
    return one.visitor.kind == other.visitor.kind


def is_in_the_way(other: Session, session: Session, why: Exception) -> bool:
    """Whether ``session`` may have failed because ``other`` streams: two webcams share USB's bandwidth (ENOSPC), and
    libcamera's pipelines for some boards have one camera at a time."""
    full = {errno.ENOSPC, errno.EBUSY} if session.visitor.kind == "libcamera" else {errno.ENOSPC}
    return isinstance(why, OSError) and why.errno in full and alike(other, session)
