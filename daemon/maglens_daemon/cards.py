# SPDX-License-Identifier: GPL-2.0-or-later
"""Cards: what the node says while no camera plays. Pure functions of the sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from maglens_daemon.bare_lens import is_bare_lens
from maglens_daemon.policy import BARRED
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_v4l2.card import Card

NOTHING: Final = Card("No camera", ("Plug in a webcam, or snap on a camera module.",))
NO_CAMERA: Final = ("A lens without a camera.", "One that is built in would play through it.")


def card_for(sessions: Sequence[Session], obstacles: dict[int, str]) -> Card:
    """The card for these sessions, the one that came last first. ``obstacles`` says by session id why a ready one
    cannot play."""
    lens: Card | None = None
    for session in reversed(sessions):
        kind = "Module" if session.visitor.kind == "module" else "Camera"
        if session.state is SessionState.QUARANTINED:
            lines = (f"port {session.port.label}", session.reason, session.hint)
            return Card(f"{kind} refused", tuple(line for line in lines if line))
        if session.unplugged or obstacles.get(session.id) == BARRED:
            continue
        who = session.identity
        if session.state.is_under_way:
            return Card(f"{kind} found", (f"port {session.port.label}", f"{session.state.value} ..."), passing=True)
        if who is not None and is_bare_lens(session):
            lens = lens or Card(f"{who.maker} {who.model}", NO_CAMERA)
            continue
        if who is not None and session.id in obstacles:
            return Card(f"{who.maker} {who.model}", ("It cannot play:", obstacles[session.id]))
        if who is not None and session.state is not SessionState.GONE:
            return Card(f"{who.maker} {who.model}", ("starting ...",), passing=True)
    return lens or NOTHING
