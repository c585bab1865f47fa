# SPDX-License-Identifier: GPL-2.0-or-later
"""Bare lens: the module without a sensor through which a built-in camera plays. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from maglens_daemon.session import Session
from maglens_driver.link.descriptor import Descriptor
from maglens_v4l2.optics import Optics


def is_bare_lens(session: Session) -> bool:
    """Whether a session is a module that is optics only, and ready."""
    descriptor = getattr(session.source, "descriptor", None)
    return session.is_playable and isinstance(descriptor, Descriptor) and descriptor.is_optics_only


def bare_lens(session: Session, sessions: Sequence[Session]) -> Session | None:
    """The one before ``session``: that which came last. Modules and webcams that were plugged in have a lens of their
    own, and never another."""
    if session.visitor.snapped:
        return None
    return next((other for other in reversed(sessions) if is_bare_lens(other)), None)


def optics_for(session: Session, sessions: Sequence[Session]) -> Optics | None:
    """What that lens does to the pictures of ``session``; None without one."""
    lens = bare_lens(session, sessions)
    return Optics.of(lens.source.descriptor) if lens is not None else None  # type: ignore[union-attr]
