# SPDX-License-Identifier: GPL-2.0-or-later
"""Director: decides who plays on one stage, and sees to it.

Whatever changes (a module comes, goes or fails, an app starts or ends watching, a person chooses) only calls
:meth:`Director.wake`; one task, :meth:`Director.direct`, then brings what is into line with what should be, and waits
for nobody: a source that is to play is *on its way* until its first frame takes the stage. Until then the one before
goes on; and where the stage is empty, or nobody better plays, the next best is brought beside one that is late.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from maglens_daemon import policy
from maglens_daemon.bare_lens import is_bare_lens, optics_for
from maglens_daemon.cards import card_for
from maglens_daemon.config import NodeConfig
from maglens_daemon.inputs import Inputs
from maglens_daemon.legacy import Left, Legacy
from maglens_daemon.link_health import LinkRules
from maglens_daemon.link_watch import LinkWatch
from maglens_daemon.mode_choice import Choice, Means, choose_mode, obstacle
from maglens_daemon.room import Room, alike, is_in_the_way
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_daemon.stage import OpenNode, Playing, Stage
from maglens_driver.errors import Gone, Interrupted, MaglensError, Refused, WrongState
from maglens_driver.mode import MJPG, RAW, Mode
from maglens_v4l2.card import Card
from maglens_v4l2.feed import Feed
from maglens_v4l2.node import Node
from maglens_v4l2.optics import Optics
from maglens_v4l2.orientation import UPRIGHT, Orientation
from maglens_v4l2.pipeline import Pipeline
from maglens_v4l2.store import Store

log = logging.getLogger(__name__)

RETRY_S: Final = (0.0, 0.25, 0.5, 1.0)  # pauses before a stream that failed is started again ...
STREAM_TRIES: Final = len(RETRY_S) + 1  # ... and one that fails so often within ...
BUSY_S: Final = 2.0  # a camera that another program uses is asked again after this, and is no failure
STREAM_WINDOW_S: Final = 60.0  # ... so many seconds is not tried again
LINGER_S: Final = 0.5  # an app that only reconfigures stops and starts within this
START_S: Final = 0.3  # what a source that has never played is expected to take to its first frame
ROOM_S: Final = 3.0  # what took the stage's room has for its first frame, before another is brought beside it
STANDBY_AFTER_S: Final = 10.0  # a module that nobody has watched for so long is told to rest


@dataclass(slots=True)
class _Record:
    """What the director keeps of a session."""

    session: Session
    failures: deque[float] = field(default_factory=deque)  # loop times of stream failures
    retry_at: float = 0.0  # not to be started before
    busy: bool = False  # because another program uses it
    room: Room = Room.BESIDE
    idle_since: float = 0.0
    start_s: float = START_S  # what it took last from being brought to its first frame
    watched: bool = False  # somebody was watching when it came
    attach_to_frame_ms: float | None = None
    link: LinkWatch | None = None  # once it has played


@dataclass(slots=True)
class _Coming:
    """A session on its way to the stage. ``mode`` None until it is configured; ``began`` in loop time."""

    session: Session
    pipeline: Pipeline
    generation: int
    began: float
    mode: Mode | None = None
    means: Means | None = None  # when that was chosen
    optics: Optics | None = None
    orientation: Orientation = UPRIGHT
    task: asyncio.Task[None] | None = None


class House(Protocol):
    """What a director needs of the manager; all in the event loop's thread. ``parked``: nobody is to play now."""

    parked: bool

    def cast(self, name: str) -> Sequence[Session]:
        """The sessions that may play on the stage ``name``, in the order of their coming."""
        ...

    def all(self) -> Sequence[Session]:
        """Every session, also those that belong to other stages."""
        ...

    def choose(self, name: str, identity: str) -> None:
        """A person chose what plays on the stage ``name``, by identity key, or "auto"."""
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

    def orientation(self, session: Session) -> Orientation:
        """How its camera was mounted."""
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

    def __init__(self, name: str, house: House, open_node: OpenNode, store: Store, legacy: Legacy) -> None:
        before = legacy.of(name)
        self.name = name
        self.stage = Stage(name, lambda: house.settings(name), open_node, store, self, before.heeded)
        self.obstacles: dict[int, str] = {}  # by session id: why one that is ready cannot play
        self._house = house
        self._records: dict[int, _Record] = {}
        self._coming: dict[int, _Coming] = {}  # by session id
        self._legacy = legacy
        self._inputs = Inputs(slots=before.slots)
        self._input = before.input  # as apps chose it last
        self._told: Node | None = None  # the node that knows the inputs as they are
        self._turn = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None

    # What the manager tells.

    def joined(self, session: Session) -> None:
        """A stay has begun."""
        self._records[session.id] = _Record(session, watched=self.stage.watched)

    def left(self, session: Session) -> None:
        """A stay has ended."""
        if session.id in self._coming:
            self._call_off(self._coming[session.id])
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

    @property
    def count(self) -> int:
        """Stays that are kept."""
        return len(self._records)

    @property
    def in_haste(self) -> bool:
        """See :attr:`manager.Manager.in_haste`."""
        under_way = any(session.state.is_under_way for session in self._house.cast(self.name))
        return self.stage.watched and (under_way or bool(self._coming))

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
        if pipeline.format.fourcc == MJPG:  # which is passed on as it comes
            if self._house.orientation(session) != UPRIGHT:
                return Choice(None, "an app asks for MJPEG, which is not turned as this one's pictures have to be")
            if self._optics(session) is not None:
                return Choice(None, "an app asks for MJPEG, which is not corrected as pictures through a lens are")
        wanted = self._house.orientation(session).unturned(pipeline.format)
        choice = choose_mode(session.source.modes, wanted, session.means())
        notes = session.restraint.notes(session.port, session.source.modes)
        return choice if choice.mode is not None else Choice(None, "; ".join((choice.reason, *notes)))

    # For the stage (stage.Crew).

    def input_chosen(self, index: int) -> None:
        """See :class:`stage.Crew`."""
        chosen = self._inputs.source(index) if index else policy.AUTO
        if chosen is not None and index != self._input:
            self._house.choose(self.name, chosen)
        self._input = index

    def card(self) -> Card:
        """See :class:`stage.Crew`."""
        return card_for(self._house.cast(self.name), self.obstacles)

    def reconsider(self) -> None:
        """See :class:`stage.Crew`."""
        self._house.reconsider()

    def taken(self, generation: int) -> None:
        """See :class:`stage.Crew`."""
        coming = next((c for c in self._coming.values() if c.generation == generation), None)
        if coming is None or coming.mode is None or coming.means is None:
            return  # seen to already, when it was called off
        if coming.pipeline is not self.stage.pipeline:
            return  # its node is gone
        session, previous = coming.session, self.stage.playing
        del self._coming[session.id]
        record = self._records[session.id]
        record.busy, record.room = False, Room.BESIDE
        record.start_s = asyncio.get_running_loop().time() - coming.began
        self.stage.enter(Playing(session, generation, coming.mode, coming.means, coming.optics, coming.orientation))
        if previous is not None:
            self._stop_in_background(previous.session, previous.generation)
        log.info("%s plays %s", session.label, coming.mode.describe(), extra=session.log_fields())
        self.reconsider()

    def lost(self, generation: int, why: Exception) -> None:
        """See :class:`stage.Crew`."""
        session = self._forget(generation)
        if session is not None:
            self._stream_failed(session, why)

    def control_changed(self, session: Session, control: int, value: int) -> None:
        """See :class:`stage.Crew`."""
        self._house.control_changed(session, control, value)

    # The work.

    async def direct(self) -> None:
        """Bring what is into line with what should be, whenever something changes; runs until cancelled."""
        while True:
            await self._turn.wait()
            self._turn.clear()
            self._settle()

    def _candidates(self, now: float) -> list[policy.SourceState]:
        """Sessions that could play; notes why others cannot."""
        seen, rules = [], self._house.rules(self.name)
        self.obstacles.clear()
        for session in self._house.cast(self.name):
            record = self._records[session.id]
            if not session.is_playable or session.identity is None:
                continue
            if record.retry_at > now:
                if record.busy:
                    self.obstacles[session.id] = "another program uses it"
                continue
            choice = self.mode_for(session)
            if choice.mode is None:
                self.obstacles[session.id] = choice.reason
                continue
            state = policy.state_of(session)
            if policy.is_barred(rules, state):
                self.obstacles[session.id] = policy.BARRED
                continue
            seen.append(state)
        return seen

    def _settle(self) -> None:
        stage, pipeline = self.stage, self.stage.pipeline
        for coming in [c for c in self._coming.values() if c.pipeline is not pipeline]:
            self._call_off(coming)
        if pipeline is None:
            return
        self._tell_inputs()
        now, dwell_s = asyncio.get_running_loop().time(), self._house.rules(self.name).dwell_s
        candidates = self._candidates(now)
        due = [record.retry_at for record in self._records.values() if record.retry_at > now]
        due += [at for s in self._house.all() if is_bare_lens(s) and (at := s.ready_at + dwell_s) > now]
        playing = stage.playing
        gone = playing is not None and playing.session.id not in {seen.id for seen in candidates}
        if gone or not pipeline.convertible or (playing is not None and self._stands_otherwise(playing)):
            self._clear()
        elif playing is not None and not self._plays_best(playing):
            self._clear()  # and it comes again, in another mode
        current = stage.playing.session.id if stage.playing is not None else None
        choice = policy.choose(self._house.rules(self.name), candidates, current, now)
        if choice.again_at is not None:
            due.append(choice.again_at)
        if pipeline.watched and not self._house.parked:
            best = choice.source
            record = self._records[best] if best is not None and best != current else None
            if record is not None and best not in self._coming and record.room is Room.ALONE:
                self._clear()
            due += self._bring(choice.order, pipeline, now) + self._watch_link(now)
        elif stage.playing is not None or self._coming:
            linger = (stage.unwatched_at if stage.unwatched_at is not None else now) + LINGER_S
            if now < linger and not self._house.parked:
                due.append(linger)
            else:
                self._clear()
                for coming in list(self._coming.values()):
                    self._call_off(coming)
        self._heed(choice.order, pipeline)
        due += self._rest(now)
        self._wake_at(min(due, default=None))
        if stage.playing is None:
            pipeline.show(self.card())
        self._leave()

    def _heed(self, order: Sequence[int], pipeline: Pipeline) -> None:
        """While nobody watches, apps set the controls of the module that would play. (Any other source may take
        seconds for a call, or need a process for it.)"""
        stage = self.stage
        if stage.playing is not None:
            return
        if not pipeline.watched:
            first = self._records[order[0]].session if order else None
            stage.heed(first if first is not None and first.visitor.kind == "module" else None)
        elif stage.heeded is not None and stage.heeded.id not in order:
            stage.heed(None)

    def _tell_inputs(self) -> None:
        """Let apps see which sources there are."""
        node = self.stage.node
        sources = [s for s in self._house.all() if s.is_playable and not is_bare_lens(s)]
        present = {s.identity.key: s.identity.model for s in sources if s.identity}
        if (self._inputs.update(present) or node is not self._told) and node is not None:
            node.push_inputs(self._inputs.infos())
            if node is not self._told:
                self.input_chosen(node.state().input)  # while no service ran, perhaps
            self._told = node

    def _leave(self) -> None:
        """Write down what a successor has to know."""
        heeded, pinned = self.stage.heeded_identity, self._house.rules(self.name).pinned
        self._legacy.leave(self.name, Left(self._inputs.slots, self._input, pinned, heeded))

    def _plays_best(self, playing: Playing) -> bool:
        """Whether it plays in the mode that its link and power now carry best."""
        choice = self.mode_for(playing.session).mode
        return playing.means == playing.session.means() or choice is None or choice == playing.mode

    def _watch_link(self, now: float) -> list[float]:
        """See whether the link of what plays carries it; when to look again."""
        playing = self.stage.playing
        record = self._records.get(playing.session.id) if playing is not None else None
        if playing is None or record is None:
            return []
        if record.link is None:
            record.link = LinkWatch(playing.session, self._house.link_rules)
        moved, again = record.link.look(now, playing.generation, playing.mode)
        if moved:
            self.reconsider()
        return [again]

    def _stands_otherwise(self, playing: Playing) -> bool:
        """Whether a bare lens was put before the camera that plays or taken away, or it is said to be mounted in
        another way."""
        optics, orientation = self._optics(playing.session), self._house.orientation(playing.session)
        return (playing.optics, playing.orientation) != (optics, orientation)

    def _optics(self, session: Session) -> Optics | None:
        """What a bare lens does to its pictures: one that has been there for the dwell time, as of any source."""
        now, dwell_s = asyncio.get_running_loop().time(), self._house.rules(self.name).dwell_s
        there = [s for s in self._house.all() if not is_bare_lens(s) or s.ready_at + dwell_s <= now]
        return optics_for(session, there)

    def _bring(self, order: Sequence[int], pipeline: Pipeline, now: float) -> list[float]:
        """Have the best of ``order``, those before the one that plays, on its way; and the next best too where that
        one is late. Returns when to look again."""
        due, wanted = [], []
        for source in order:
            if self.stage.playing is not None and source == self.stage.playing.session.id:
                break
            wanted.append(source)
            late_at = self._late_at(source, pipeline, now)
            if now < late_at:
                due.append(late_at)
                break
        better = [self._records[source].session for source in wanted]
        for coming in [c for c in self._coming.values() if c.session not in better]:
            # Where there may be room for both, a better one that comes and goes must not keep it off for ever.
            if coming.session.id not in order or any(alike(coming.session, one) for one in better):
                self._call_off(coming)
        for source in wanted:
            if source not in self._coming:
                self._start(self._records[source], pipeline, now)
        self._prefer(order, pipeline)
        return due

    def _late_at(self, source: int, pipeline: Pipeline, now: float) -> float:
        """When a source, brought now if it is not on its way yet, is later than it should be, and another has to be
        brought beside it: by more than a frame. One that has failed lately is late from the first."""
        record, coming = self._records[source], self._coming.get(source)
        if record.failures and record.failures[-1] > now - STREAM_WINDOW_S:
            return now
        began = coming.began if coming is not None else now
        return began + (ROOM_S if record.room is Room.ALONE else record.start_s) + float(pipeline.format.interval)

    def _prefer(self, order: Sequence[int], pipeline: Pipeline) -> None:
        """Tell the pipeline who may take the stage from whom."""
        generations = {c.session.id: c.generation for c in self._coming.values()}
        if self.stage.playing is not None:
            generations[self.stage.playing.session.id] = self.stage.playing.generation
        pipeline.prefer([generations[source] for source in order if source in generations])

    def _start(self, record: _Record, pipeline: Pipeline, now: float) -> None:
        """Let a session begin to stream; it plays from its first frame on."""
        session = record.session
        coming = _Coming(session, pipeline, self._house.next_generation(), now)
        self._coming[session.id] = coming
        coming.task = asyncio.create_task(self._lead_on(coming), name=f"start-{session.port.path}")

    async def _lead_on(self, coming: _Coming) -> None:
        session = coming.session
        try:
            if session.state is SessionState.STREAMING:  # its last stream was lost and not yet ended
                await session.stop()
            if self._records[session.id].room is Room.ALONE:
                for other in self._house.cast(self.name):
                    if other is not session and alike(other, session) and other.state is SessionState.STREAMING:
                        await other.stop()
            wanted = self.mode_for(session)
            if wanted.mode is None:
                raise Refused("mode", wanted.reason)
            coming.means = session.means()
            mode = await session.configure(wanted.mode)
            if against := obstacle(mode, coming.means):
                raise Refused("ADJUSTED", f"the module answered CONFIGURE with what it may not have: {against}")
            coming.optics = self._optics(session)
            coming.orientation = self._house.orientation(session)
            feed = await self._begin(coming, mode)
            coming.mode = mode
            await session.start(feed, coming.generation)
        except Exception as why:
            if isinstance(why, MaglensError | OSError):
                self.lost(coming.generation, why)
            else:
                # A defect of ours met by one module: it must not take the others with it.
                log.exception("%s: unexpected error", session.label, extra=session.log_fields())
                self._forget(coming.generation)
                session.fail(why)

    async def _begin(self, coming: _Coming, mode: Mode) -> Feed:
        """Where its frames go, turned upright. A bare lens takes a while for that, and so do the first raw frames,
        since numpy is loaded for them: it goes on in its thread when the start is called off, and what it makes then
        is thrown away."""
        pipeline, generation = coming.pipeline, coming.generation
        orientation, optics = coming.orientation, coming.optics
        if optics is None and mode.fourcc not in RAW:
            return pipeline.begin(generation, mode, orientation)
        making = asyncio.create_task(asyncio.to_thread(pipeline.begin, generation, mode, orientation, optics))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(lambda done: _throw_away(done, pipeline, generation))
            raise

    def _forget(self, generation: int) -> Session | None:
        """A stream has ended by itself; the answer is whose it was."""
        coming = next((c for c in self._coming.values() if c.generation == generation), None)
        if coming is not None and not coming.pipeline.withdraw(generation):
            self.taken(generation)  # it had its first frame a moment ago
        playing = self.stage.playing
        if playing is not None and playing.generation == generation:
            self.stage.leave()
            return playing.session
        if coming is None:
            return None
        del self._coming[coming.session.id]
        return coming.session

    def _call_off(self, coming: _Coming) -> None:
        """It is not to play after all."""
        if not coming.pipeline.withdraw(coming.generation) and coming.pipeline is self.stage.pipeline:
            self.taken(coming.generation)  # too late
            return
        del self._coming[coming.session.id]
        assert coming.task is not None
        coming.task.cancel()
        self._stop_in_background(coming.session, coming.generation)

    def _clear(self) -> None:
        """Take off the stage who is on it."""
        playing = self.stage.playing
        self.stage.leave()
        if playing is not None:
            self._stop_in_background(playing.session, playing.generation)

    def _stream_failed(self, session: Session, why: Exception) -> None:
        """Try again, unless it is gone or has failed too often."""
        record = self._records.get(session.id)
        if record is None or (isinstance(why, Gone) and not isinstance(why, Interrupted)):
            session.fail(why)
            return
        if isinstance(why, WrongState) and not session.is_playable:
            self.reconsider()  # it changed under our hands; the next round sees how
            return
        now, playing = asyncio.get_running_loop().time(), self.stage.playing
        crowded = playing is not None and is_in_the_way(playing.session, session, why)
        record.room = record.room.after_failure(crowded=crowded)
        if record.room is Room.ALONE:
            log.info("%s: %s; what plays makes room for it", session.label, why, extra=session.log_fields())
            self.reconsider()
            return
        if isinstance(why, OSError) and why.errno == errno.EBUSY:
            record.retry_at, record.busy = now + BUSY_S, True
            self.reconsider()
            return
        record.busy = False
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
            busy = session.id in self._coming or (playing is not None and playing.session is session)
            if session.state is not SessionState.READY or busy or not session.is_playable:
                continue
            at = record.idle_since + STANDBY_AFTER_S
            if now < at:
                due.append(at)
            else:
                record.idle_since = now
                self.stage.background.begin(session.rest(), f"standby-{session.port.path}")
        return due

    def _wake_at(self, at: float | None) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = None if at is None else asyncio.get_running_loop().call_at(at, self._turn.set)

    def _stop_in_background(self, session: Session, generation: int) -> None:
        """Nothing waits for it; should the session start again first, that stream is left alone."""
        self.stage.background.begin(session.stop(generation), f"stop-{session.port.path}")

    def close(self) -> None:
        """No more turns by the clock, and nobody is on the way any more."""
        self._wake_at(None)
        for coming in list(self._coming.values()):
            self._call_off(coming)


def _throw_away(making: asyncio.Task[Feed], pipeline: Pipeline, generation: int) -> None:
    """A start was called off while its feed was being made; at the end of the service the making is cancelled too."""
    if not making.cancelled() and making.exception() is None:
        pipeline.withdraw(generation)
