# SPDX-License-Identifier: GPL-2.0-or-later
"""Director: decides who plays on one stage, and sees to it.

Whatever changes (a module comes, goes or fails, an app starts or ends watching, a person chooses) only calls
:meth:`Director.reconsider`; one task, :meth:`Director.direct`, then brings what is into line with what should be. So
no two changes ever race, and one that comes while another is made is seen right after.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from maglens_daemon import policy
from maglens_daemon.cards import card_for
from maglens_daemon.config import NodeConfig
from maglens_daemon.link_health import LinkRules
from maglens_daemon.link_watch import LinkWatch
from maglens_daemon.mode_choice import Choice, choose_mode, obstacle
from maglens_daemon.session import Session, SessionState
from maglens_daemon.stage import OpenNode, Playing, Stage
from maglens_driver.errors import Gone, MaglensError, Refused, WrongState
from maglens_v4l2.card import Card
from maglens_v4l2.pipeline import Pipeline
from maglens_v4l2.store import Store

log = logging.getLogger(__name__)

RETRY_S: Final = (0.0, 0.25, 0.5, 1.0)  # pauses before a stream that failed is started again ...
STREAM_TRIES: Final = len(RETRY_S) + 1  # ... and one that fails so often within ...
STREAM_WINDOW_S: Final = 60.0  # ... so many seconds is not tried again
LINGER_S: Final = 0.5  # an app that only reconfigures stops and starts within this
STANDBY_AFTER_S: Final = 10.0  # a module that nobody has watched for so long is told to rest


@dataclass(slots=True)
class _Record:
    """What the director keeps of a session."""

    session: Session
    failures: deque[float] = field(default_factory=deque)  # loop times of stream failures
    retry_at: float = 0.0  # not to be started before
    idle_since: float = 0.0
    watched: bool = False  # somebody was watching when it came
    attach_to_frame_ms: float | None = None
    link: LinkWatch | None = None  # once it has played


class House(Protocol):
    """What a director needs of the manager; all in the event loop's thread."""

    def cast(self, name: str) -> Sequence[Session]:
        """The sessions that may play on the stage ``name``, in the order of their coming."""
        ...

    def rules(self, name: str) -> policy.Rules:
        """For :func:`policy.choose`, on the stage ``name``."""
        ...

    def settings(self, name: str) -> NodeConfig:
        """The configuration of the stage ``name``."""
        ...

    def link_rules(self) -> LinkRules:
        """For :class:`link_health.LinkHealth`."""
        ...

    def next_generation(self) -> int:
        """A number that no stream has had."""
        ...

    def reconsider(self) -> None:
        """Something changed that others may want to know, this director among them."""
        ...

    def control_changed(self, session: Session, control: int, value: int) -> None:
        """A source moved a control by itself."""
        ...


class Director:
    """One per stage, which it makes."""

    def __init__(self, name: str, house: House, open_node: OpenNode, store: Store) -> None:
        self.name = name
        self.stage = Stage(name, lambda: house.settings(name), open_node, store, self)
        self.obstacles: dict[int, str] = {}  # by session id: why one that is ready cannot play
        self._house = house
        self._records: dict[int, _Record] = {}
        self._turn = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None

    # What the manager tells.

    def joined(self, session: Session) -> None:
        """A stay has begun."""
        self._records[session.id] = _Record(session, watched=self.stage.watched)

    def left(self, session: Session) -> None:
        """A stay has ended."""
        del self._records[session.id]
        self.obstacles.pop(session.id, None)

    def readied(self, session: Session) -> None:
        """It has nothing to do from now on."""
        record = self._records.get(session.id)
        if record is not None:
            record.idle_since = asyncio.get_running_loop().time()

    def wake(self) -> None:
        """Something changed."""
        self._turn.set()

    # What the manager asks.

    def attach_to_frame_ms(self, session: Session) -> float | None:
        """From a module's uevent to its first frame shown; None before, and when nobody was watching as it came."""
        record = self._records.get(session.id)
        if record is None or not record.watched:
            return None
        playing, pipeline = self.stage.playing, self.stage.pipeline
        if record.attach_to_frame_ms is None and playing is not None and playing.session is session and pipeline:
            stats = pipeline.stats()
            if stats.generation == playing.generation and stats.first_frame_ns:
                record.attach_to_frame_ms = (stats.first_frame_ns - session.visitor.added_ns) / 1e6
        return record.attach_to_frame_ms

    def mode_for(self, session: Session) -> Choice:
        """The mode in which a session would play."""
        pipeline = self.stage.pipeline
        if pipeline is None or session.source is None:
            return Choice(None, "there is no video device")
        choice = choose_mode(session.source.modes, pipeline.format, session.means())
        notes = session.restraint.notes(session.port, session.source.modes)
        return choice if choice.mode is not None else Choice(None, "; ".join((choice.reason, *notes)))

    # For the stage (stage.Crew).

    def card(self) -> Card:
        """See :class:`stage.Crew`."""
        return card_for(self._house.cast(self.name), self.obstacles)

    def reconsider(self) -> None:
        """See :class:`stage.Crew`."""
        self._house.reconsider()

    def lost(self, playing: Playing, why: Exception) -> None:
        """See :class:`stage.Crew`."""
        self._stream_failed(playing.session, why)

    def control_changed(self, session: Session, control: int, value: int) -> None:
        """See :class:`stage.Crew`."""
        self._house.control_changed(session, control, value)

    # The work.

    async def direct(self) -> None:
        """Bring what is into line with what should be, whenever something changes; runs until cancelled."""
        while True:
            await self._turn.wait()
            self._turn.clear()
            await self._settle()

    def _candidates(self, now: float) -> list[policy.SourceState]:
        """Sessions that could play; notes why others cannot."""
        seen = []
        self.obstacles.clear()
        for session in self._house.cast(self.name):
            if not session.is_playable or session.identity is None or self._records[session.id].retry_at > now:
                continue
            choice = self.mode_for(session)
            if choice.mode is None:
                self.obstacles[session.id] = choice.reason
                continue
            port = session.port
            seen.append(
                policy.SourceState(
                    session.id, session.visitor.kind, session.identity.key, port.path, port.name, session.ready_at
                )
            )
        return seen

    async def _settle(self) -> None:
        stage, pipeline = self.stage, self.stage.pipeline
        if pipeline is None:
            return
        now = asyncio.get_running_loop().time()
        playing = stage.playing
        current = playing.session.id if playing is not None else None
        choice = policy.choose(self._house.rules(self.name), self._candidates(now), current, now)
        wanted = self._records[choice.source].session if choice.source is not None else None
        due = [record.retry_at for record in self._records.values() if record.retry_at > now]
        if choice.again_at is not None:
            due.append(choice.again_at)
        if not pipeline.watched:
            linger = (stage.unwatched_at if stage.unwatched_at is not None else now) + LINGER_S
            if playing is None or now >= linger:
                wanted = None
            else:
                wanted = playing.session if playing.session is wanted else None
                due.append(linger)
        if playing is not None and (wanted is None or not playing.session.is_playable):
            stage.leave()
            self._stop_in_background(playing)
        if wanted is not None and (stage.playing is None or not self._plays_best(stage.playing, wanted)):
            await self._play(wanted, pipeline)
        due += self._watch_link(now)
        due += self._rest(now)
        self._wake_at(min(due, default=None))
        if stage.pipeline is pipeline:
            pipeline.show(self.card())

    def _plays_best(self, playing: Playing, wanted: Session) -> bool:
        """Whether ``wanted`` plays, in the mode that its link and power now carry best."""
        if playing.session is not wanted:
            return False
        choice = self.mode_for(wanted).mode
        return playing.means == wanted.means() or choice is None or choice == playing.mode

    def _watch_link(self, now: float) -> list[float]:
        """See whether the link of what plays carries it; when to look again."""
        playing = self.stage.playing
        record = self._records.get(playing.session.id) if playing is not None else None
        if playing is None or record is None:
            return []
        if record.link is None:
            record.link = LinkWatch(playing.session, self._house.link_rules())
        moved, again = record.link.look(now, playing.generation, playing.mode)
        if moved:
            self.reconsider()
        return [again]

    async def _play(self, session: Session, pipeline: Pipeline) -> None:
        """Make ``session`` the one that plays; the one before plays until this one is about to start."""
        stage, choice = self.stage, self.mode_for(session)
        if choice.mode is None:
            return
        previous, means = stage.playing, session.means()
        try:
            if session.state is SessionState.STREAMING:  # its last stream was lost and not yet ended
                await session.stop()
            mode = await session.configure(choice.mode)
            if against := obstacle(mode, means):
                raise Refused("ADJUSTED", f"the module answered CONFIGURE with what it may not have: {against}")
            generation = self._house.next_generation()
            pipeline.begin(generation, mode)
            stage.playing = Playing(session, generation, mode, means)
            if previous is not None and previous.session is not session:
                self._stop_in_background(previous)
            await session.start(pipeline, generation)
        except Exception as why:
            if stage.playing is not None and stage.playing.session is session:
                stage.leave()
            if isinstance(why, MaglensError | OSError):
                self._stream_failed(session, why)
            else:
                # A defect of ours met by one module: it must not take the others with it.
                log.exception("%s: unexpected error", session.label, extra=session.log_fields())
                session.fail(why)
            return
        log.info("%s plays %s", session.label, mode.describe(), extra=session.log_fields())

    def _stream_failed(self, session: Session, why: Exception) -> None:
        """Try again, unless it is gone or has failed too often."""
        record = self._records.get(session.id)
        if record is None or isinstance(why, Gone):
            session.fail(why)
            return
        if isinstance(why, WrongState) and not session.is_playable:
            self.reconsider()  # it changed under our hands; the next round sees how
            return
        now = asyncio.get_running_loop().time()
        record.failures.append(now)
        while record.failures[0] < now - STREAM_WINDOW_S:
            record.failures.popleft()
        if len(record.failures) >= STREAM_TRIES:
            session.fail(why)
        else:
            record.retry_at = now + RETRY_S[len(record.failures) - 1]
            log.warning("%s: %s; starting it again", session.label, why, extra=session.log_fields())
        self.reconsider()

    def _rest(self, now: float) -> list[float]:
        """Tell idle modules to rest; returns when to look again."""
        due = []
        for session in self._house.cast(self.name):
            record, playing = self._records[session.id], self.stage.playing
            busy = playing is not None and playing.session is session
            if session.state is not SessionState.READY or busy or not session.is_playable:
                continue
            at = record.idle_since + STANDBY_AFTER_S
            if now < at:
                due.append(at)
            else:
                record.idle_since = now
                self.stage.background.begin(self._stand_by(session), f"standby-{session.port.path}")
        return due

    async def _stand_by(self, session: Session) -> None:
        try:
            await session.standby()
        except (MaglensError, OSError) as why:
            log.info("%s: no standby: %s", session.label, why, extra=session.log_fields())

    def _wake_at(self, at: float | None) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = None if at is None else asyncio.get_running_loop().call_at(at, self._turn.set)

    def _stop_in_background(self, playing: Playing) -> None:
        """Nothing waits for it; should the session start again first, that stream is left alone."""
        work = playing.session.stop(playing.generation)
        self.stage.background.begin(work, f"stop-{playing.session.port.path}")

    def close(self) -> None:
        """No more turns by the clock."""
        self._wake_at(None)
