# SPDX-License-Identifier: GPL-2.0-or-later
"""Controls of a module that no app sees now: the same rules as for the one that is seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest

from maglens_daemon.fake import FOCUS, FakeVisitor
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_driver.control import Cid, ControlFlag
from maglens_driver.errors import Refused
from tests.unit.test_daemon_manager import Theatre, theatre

AUTO = replace(FOCUS, id=Cid.FOCUS_AUTO, name="Focus, Automatic", minimum=0, maximum=1, step=1, default=1)
GAIN = replace(FOCUS, id=Cid.GAIN, name="Gain", flags=ControlFlag(0))


def webcam(serial: str) -> FakeVisitor:
    """It has an automatic of its own, which is on."""
    visitor = FakeVisitor(serial)
    visitor.source.controls = (FOCUS, GAIN, AUTO)
    visitor.source.values = {FOCUS.id: 130, GAIN.id: 90, AUTO.id: 1}
    return visitor


def play(scene: Callable[[Theatre, Session, FakeVisitor], Awaitable[None]], *, seen: bool) -> None:
    """``scene`` gets the one of two that apps see, or the other."""

    async def run() -> None:
        async with asyncio.timeout(60), theatre() as t:
            visitors = [webcam("1"), webcam("2")]
            sessions = [t.arrive(visitor, f"1-{n}") for n, visitor in enumerate(visitors, 1)]
            await t.until(lambda: all(session.state is SessionState.READY for session in sessions))
            while not any(t.manager._controls_of(session) for session in sessions):  # noqa: ASYNC110 it has no event
                await asyncio.sleep(0)
            (which,) = (n for n, s in enumerate(sessions) if (t.manager._controls_of(s) is not None) is seen)
            await scene(t, sessions[which], visitors[which])

    asyncio.run(run())


def bursts(monkeypatch: pytest.MonkeyPatch, t: Theatre) -> Collection[Session]:
    """Those for whose motors power was kept ready, from now on."""
    had: list[Session] = []
    burst = t.manager.allotment.burst

    def noting(session: Session) -> AbstractAsyncContextManager[None]:
        @asynccontextmanager
        async def whole() -> AsyncIterator[None]:
            async with burst(session):
                had.append(session)
                yield

        return whole()

    monkeypatch.setattr(t.manager.allotment, "burst", noting)
    return had


def test_a_hand_ends_the_automatic(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(t: Theatre, session: Session, visitor: FakeVisitor) -> None:
        had = bursts(monkeypatch, t)
        assert await t.manager.set_controls(session, {FOCUS.id: 200}) == {FOCUS.id: 200, AUTO.id: 0}
        assert visitor.source.values == {FOCUS.id: 200, GAIN.id: 90, AUTO.id: 0}
        assert t.manager.store.get("fake/camera/" + session.identity.serial) == {FOCUS.id: 200, AUTO.id: 0}  # type: ignore[union-attr]
        assert had == [session]

    play(scene, seen=False)


def test_a_reset_leaves_to_the_automatic_what_it_drives() -> None:
    async def scene(t: Theatre, session: Session, visitor: FakeVisitor) -> None:
        assert await t.manager.reset_controls(session, ()) == {FOCUS.id: 130, GAIN.id: 50, AUTO.id: 1}
        assert visitor.source.values == {FOCUS.id: 130, GAIN.id: 50, AUTO.id: 1}

    play(scene, seen=False)


def test_a_reset_moves_motors_with_power_that_is_kept_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(t: Theatre, session: Session, visitor: FakeVisitor) -> None:
        had = bursts(monkeypatch, t)
        visitor.source.values[AUTO.id] = 0
        assert await t.manager.reset_controls(session, (FOCUS.id,)) == {FOCUS.id: 50}
        assert had == [session]

    play(scene, seen=False)


def test_a_reset_goes_on_after_a_refusal() -> None:
    async def scene(t: Theatre, session: Session, visitor: FakeVisitor) -> None:
        visitor.source.refuses = frozenset((AUTO.id,))
        assert (await t.manager.reset_controls(session, ()))[GAIN.id] == GAIN.default

    play(scene, seen=False)


@pytest.mark.parametrize("seen", [True, False])
def test_nothing_is_written_where_one_of_them_is_not_there(seen: bool) -> None:
    async def scene(t: Theatre, session: Session, visitor: FakeVisitor) -> None:
        before = dict(visitor.source.values)
        with pytest.raises(Refused, match="no control 0x00000001"):
            await t.manager.set_controls(session, {GAIN.id: 300, 1: 2})
        assert visitor.source.values == before

    play(scene, seen=seen)


def test_what_was_written_before_a_refusal_is_told() -> None:
    async def scene(t: Theatre, session: Session, visitor: FakeVisitor) -> None:
        told: list[tuple[int, int]] = []
        t.manager.on_control.append(lambda who, control, value: told.append((control, value)))
        visitor.source.refuses = frozenset((AUTO.id,))
        with pytest.raises(Refused):
            await t.manager.set_controls(session, {GAIN.id: 300, AUTO.id: 0})
        assert told == [(GAIN.id, 300)]

    play(scene, seen=True)
