# SPDX-License-Identifier: GPL-2.0-or-later
"""Manager: the node, the sessions, and the one place that decides who plays.

Everything here runs in the event loop's thread. Whatever changes (a module comes, goes or fails, an app starts or
ends watching, a person chooses) only calls :meth:`Manager.reconsider`; one task, the director, then brings what is
into line with what should be. So no two changes ever race, and one that comes while another is made is seen right
after.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from maglens_daemon import budget, policy
from maglens_daemon.cards import card_for
from maglens_daemon.config import Config, NodeConfig
from maglens_daemon.errors import NotFound
from maglens_daemon.mode_choice import Choice, Means, choose_mode, obstacle
from maglens_daemon.port import SUPPLY_MV, UNCONFIGURED_MA, make_port
from maglens_daemon.session import Session, SessionState, Visitor
from maglens_driver import names
from maglens_driver.control import Origin
from maglens_driver.errors import Gone, MaglensError, Refused, WrongState
from maglens_driver.mode import Mode
from maglens_driver.source import Identity
from maglens_v4l2.controls import Controls
from maglens_v4l2.node import Node, NodeEvent, UsageChanged
from maglens_v4l2.pipeline import Pipeline
from maglens_v4l2.store import Store

log = logging.getLogger(__name__)

RETRY_S: Final = (0.0, 0.25, 0.5, 1.0)  # pauses before a stream that failed is started again ...
STREAM_TRIES: Final = len(RETRY_S) + 1  # ... and one that fails so often within ...
STREAM_WINDOW_S: Final = 60.0  # ... so many seconds is not tried again
LINGER_S: Final = 0.5  # an app that only reconfigures stops and starts within this
STANDBY_AFTER_S: Final = 10.0  # a module that nobody has watched for so long is told to rest
SHUTDOWN_S: Final = 5.0
NODE_SETTLE_S: Final = 5.0
CONTROLS_AFTER_S: Final = 0.2  # a slow module answers for its controls only once its first frames are on their way


@dataclass(frozen=True, slots=True)
class Playing:
    """Whose frames the pipeline takes."""

    session: Session
    generation: int
    mode: Mode


@dataclass(slots=True)
class _Record:
    """What the manager keeps of a session."""

    session: Session
    task: asyncio.Task[None]
    reserved_mw: int = 0
    failures: deque[float] = field(default_factory=deque)  # loop times of stream failures
    retry_at: float = 0.0  # not to be started before
    idle_since: float = 0.0
    watched: bool = False  # somebody was watching when it came
    attach_to_frame_ms: float | None = None


class Manager:
    """One per daemon. ``open_node`` makes or adopts the node; ``listeners`` are called after every change."""

    def __init__(
        self, config: Config, open_node: Callable[[NodeConfig], Awaitable[Node]], store: Store | None = None
    ) -> None:
        self.config = config
        self.pinned = policy.AUTO
        self.listeners: list[Callable[[], None]] = []
        self.on_control: list[Callable[[Session, int, int], None]] = []
        self.node: Node | None = None
        self.node_problem: MaglensError | None = None
        self.pipeline: Pipeline | None = None
        self.playing: Playing | None = None
        self.obstacles: dict[int, str] = {}
        self.settled = asyncio.Event()  # there is a node, or it is known why there is none
        self.controls: Controls | None = None
        self.store = store if store is not None else Store(Path(names.STATE_DIR))
        self._open_node = open_node
        self._records: dict[int, _Record] = {}
        self._ids = itertools.count(1)
        self._generations = itertools.count(1)
        self._turn = asyncio.Event()
        self._node_hint = asyncio.Event()
        self._node_failed: asyncio.Future[Exception] | None = None
        self._unwatched_at: float | None = None
        self._again: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._closing = False

    # What comes and goes.

    @property
    def sessions(self) -> list[Session]:
        """All stays, in the order of their coming; those on their way out included."""
        return [record.session for record in self._records.values()]

    def arrive(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session | None:
        """Something is on port ``path``. None where the configuration says to leave it alone."""
        port = make_port(path, speed_mbit_s, self.config)
        if not port.enabled:
            log.info("port %s: left alone, as configured", port.label)
            return None
        session = Session(next(self._ids), port, visitor, self)
        task = asyncio.create_task(session.run(), name=f"session-{path}")
        watched = self.pipeline is not None and self.pipeline.watched
        self._records[session.id] = _Record(session, task, watched=watched)
        task.add_done_callback(lambda done: self._ended(session, done))
        self.changed(session)
        return session

    def depart(self, path: str) -> None:
        """Port ``path`` is empty."""
        for session in self.sessions:
            if session.port.path == path:
                session.removed()
        self.reconsider()

    def _ended(self, session: Session, task: asyncio.Task[None]) -> None:
        del self._records[session.id]
        self.obstacles.pop(session.id, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s: its session ended by an error", session.label, exc_info=task.exception())
        self.reconsider()

    # For the sessions (session.Host).

    def reserve(self, session: Session) -> int:
        """See :class:`session.Host`."""
        standing = [
            budget.Ask(r.session.port.path, r.reserved_mw, r.reserved_mw, r.session.port.priority)
            for r in self._records.values()
            if r.session is not session and r.reserved_mw
        ]
        limit = session.port.limit_mw
        least = min(limit, SUPPLY_MV * UNCONFIGURED_MA // 1000)
        ports = {r.session.port.path: r.session.port.limit_mw for r in self._records.values()}
        spare = self.config.power.budget_mw
        if spare is not None:  # what stands is promised; a newcomer shares what is left
            spare = max(0, spare - sum(ask.most_mw for ask in standing))
        limits = budget.Limits(spare, ports)
        share = budget.allot(limits, [budget.Ask(session.port.path, least, limit, session.port.priority)])
        self._records[session.id].reserved_mw = share[session.port.path]
        return share[session.port.path]

    def twin(self, session: Session, identity: Identity) -> Session | None:
        """See :class:`session.Host`."""
        for other in self.sessions:
            if other is not session and other.identity == identity and not other.unplugged and not other.state.is_end:
                return other
        return None

    def changed(self, session: Session) -> None:
        """See :class:`session.Host`."""
        record = self._records.get(session.id)
        if record is not None:
            if session.contract is not None:
                record.reserved_mw = session.contract.mw
            elif session.state.is_end:
                record.reserved_mw = 0
            if session.state is SessionState.READY:
                record.idle_since = asyncio.get_running_loop().time()
        self.reconsider()

    @property
    def granted_mw(self) -> int:
        """Power promised to all modules together, mW."""
        return budget.granted(r.reserved_mw for r in self._records.values())

    def attach_to_frame_ms(self, session: Session) -> float | None:
        """From a module's uevent to its first frame shown; None before, and when nobody was watching as it came."""
        record = self._records.get(session.id)
        if record is None or not record.watched:
            return None
        playing = self.playing
        if record.attach_to_frame_ms is None and playing is not None and playing.session is session and self.pipeline:
            stats = self.pipeline.stats()
            if stats.generation == playing.generation and stats.first_frame_ns:
                record.attach_to_frame_ms = (stats.first_frame_ns - session.visitor.added_ns) / 1e6
        return record.attach_to_frame_ms

    # What people choose.

    def use(self, name: str) -> str:
        """Pin a source by identity key, port, port name or serial number, or ``auto``. Raises ``LookupError``."""
        if name == policy.AUTO:
            self.pinned = policy.AUTO
        else:
            self.pinned = self.find(name).key
        self.reconsider()
        return self.pinned

    def find(self, name: str) -> Identity:
        """The identity that a name means; raises :class:`MaglensError` where none or several fit."""
        session = self.find_session(name)
        assert session.identity is not None
        return session.identity

    def find_session(self, name: str) -> Session:
        """The identified session that an identity key, port, port name, serial number or model means."""
        present = [s for s in self.sessions if s.identity is not None and not s.unplugged]
        fits = []
        for session in present:
            who = session.identity
            assert who is not None
            if name in (who.key, who.serial, who.model, session.port.path, session.port.name):
                fits.append(session)
        if len(fits) == 1:
            return fits[0]
        there = ", ".join(s.identity.key for s in present if s.identity) or "none"
        what = "no module" if not fits else f"{len(fits)} modules"
        raise NotFound(f"{what} fit {name!r}; there is {there}", hint="maglens modules")

    async def get_controls(self, session: Session) -> Mapping[int, int]:
        """Present values, from the module."""
        return await session.playable().get()

    async def set_controls(self, session: Session, values: Mapping[int, int]) -> Mapping[int, int]:
        """Write controls for a person; the values as clamped. Those of what plays go the way apps' own writes go."""
        source, playing = session.playable(), self.playing
        if self.controls is not None and playing is not None and playing.session is session:
            clamped: Mapping[int, int] = {
                control: await self.controls.write(control, value, Origin.APP) for control, value in values.items()
            }
        else:
            clamped = await source.set(values)
        for control, value in clamped.items():
            for tell in self.on_control:
                tell(session, control, value)
        return clamped

    def apply(self, config: Config) -> None:
        """Use another configuration from now on. The node keeps its format until the service is restarted."""
        if config.node != self.config.node:
            log.warning("[node] has changed: that takes effect when the service is restarted")
        self.config = config
        for session in self.sessions:
            session.port = make_port(session.port.path, session.port.speed_mbit_s, config)
        self._node_hint.set()
        self.reconsider()

    # The node.

    def node_hint(self) -> None:
        """Something happened that may let a missing node be made now."""
        self._node_hint.set()

    async def keep_node(self) -> None:
        """Have a node always, or wait for what it takes; runs until cancelled."""
        while True:
            self._node_hint.clear()
            try:
                node = await self._open_node(self.config.node)
            except (MaglensError, OSError) as error:
                if isinstance(error, PermissionError) and await self._hinted_within(NODE_SETTLE_S):
                    continue  # a device just made is root's until udev has seen it
                problem = error if isinstance(error, MaglensError) else MaglensError(f"no video device: {error}")
                if str(problem) != str(self.node_problem):
                    log.error("%s", problem.explain())
                self.node_problem = problem
                self.settled.set()
                self.reconsider()
                await self._node_hint.wait()
                continue
            try:
                why = await self._serve(node)
            finally:
                await self._put_away(node)
            log.error("the video device %s is gone: %s", node.path, why)

    async def _hinted_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._node_hint.wait()
        except TimeoutError:
            return False
        return True

    async def _serve(self, node: Node) -> Exception:
        """Use ``node`` until it fails."""
        loop = asyncio.get_running_loop()
        self._node_failed = loop.create_future()
        self.node, self.node_problem = node, None
        self.pipeline = Pipeline(
            node,
            loop=loop,
            on_lost=self._on_lost,
            on_control=self._on_control,
            on_event=self._on_node_event,
            on_failed=self._on_node_failed,
            card=card_for(self.sessions, self.obstacles),
        )
        self.controls = Controls(node, self.store)
        self.settled.set()
        log.info("the camera is %s, %s", node.path, self.pipeline.format.describe())
        self.reconsider()
        return await self._node_failed

    async def _put_away(self, node: Node) -> None:
        pipeline, playing = self.pipeline, self.playing
        controls, self.controls = self.controls, None
        self.pipeline, self.node, self.playing = None, None, None
        if playing is not None:
            await playing.session.stop()
        if pipeline is not None:
            await pipeline.close()
        if controls is not None:
            await controls.close()
        node.close()

    # Callbacks of the pipeline, in the loop.

    def _on_node_event(self, event: NodeEvent) -> None:
        if self.controls is not None:
            self.controls.handle(event)
        if isinstance(event, UsageChanged):
            now = asyncio.get_running_loop().time()
            self._unwatched_at = None if event.streamers else now
            self.reconsider()

    def _on_node_failed(self, why: Exception) -> None:
        if self._node_failed is not None and not self._node_failed.done():
            self._node_failed.set_result(why)

    def _on_lost(self, generation: int, why: Exception) -> None:
        playing = self.playing
        if playing is None or playing.generation != generation:
            return
        self._leave_stage()
        self._stream_failed(playing.session, why)

    def _on_control(self, generation: int, control: int, value: int) -> None:
        playing = self.playing
        if playing is not None and playing.generation == generation:
            if self.controls is not None:
                self.controls.changed(control, value)
            for tell in self.on_control:
                tell(playing.session, control, value)

    # The director.

    def reconsider(self) -> None:
        """Something changed."""
        self._turn.set()
        for listener in self.listeners:
            listener()

    async def direct(self) -> None:
        """Bring what is into line with what should be, whenever something changes; runs until cancelled."""
        while True:
            await self._turn.wait()
            self._turn.clear()
            await self._settle()

    @property
    def rules(self) -> policy.Rules:
        """For :func:`policy.choose`."""
        settings = self.config.policy
        return policy.Rules(settings.rule, self.pinned, settings.dwell_ms / 1000)

    def mode_for(self, session: Session) -> Choice:
        """The mode in which a session would play."""
        if self.pipeline is None or session.source is None:
            return Choice(None, "there is no video device")
        return choose_mode(session.source.modes, self.pipeline.format, _means(session))

    def _candidates(self, now: float) -> list[policy.SourceState]:
        """Sessions that could play; notes why others cannot."""
        seen = []
        self.obstacles = {}
        for session in self.sessions:
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
        pipeline = self.pipeline
        if pipeline is None:
            return
        now = asyncio.get_running_loop().time()
        playing = self.playing
        current = playing.session.id if playing is not None else None
        choice = policy.choose(self.rules, self._candidates(now), current, now)
        wanted = self._records[choice.source].session if choice.source is not None else None
        due = [record.retry_at for record in self._records.values() if record.retry_at > now]
        if choice.again_at is not None:
            due.append(choice.again_at)
        if not pipeline.watched:
            linger = (self._unwatched_at if self._unwatched_at is not None else now) + LINGER_S
            if playing is None or now >= linger:
                wanted = None
            else:
                wanted = playing.session if playing.session is wanted else None
                due.append(linger)
        if playing is not None and (wanted is None or not playing.session.is_playable):
            self._leave_stage()
            self._stop_in_background(playing)
        if wanted is not None and (self.playing is None or self.playing.session is not wanted):
            await self._play(wanted, pipeline)
        due += self._rest(now)
        self._wake_at(min(due, default=None))
        if self.pipeline is pipeline:
            pipeline.show(card_for(self.sessions, self.obstacles))

    async def _play(self, session: Session, pipeline: Pipeline) -> None:
        """Make ``session`` the one that plays; the one before plays until this one is about to start."""
        choice = self.mode_for(session)
        if choice.mode is None:
            return
        previous = self.playing
        try:
            if session.state is SessionState.STREAMING:  # its last stream was lost and not yet ended
                await session.stop()
            mode = await session.configure(choice.mode)
            if against := obstacle(mode, _means(session)):
                raise Refused("ADJUSTED", f"the module answered CONFIGURE with what it may not have: {against}")
            generation = next(self._generations)
            pipeline.begin(generation, mode)
            self.playing = Playing(session, generation, mode)
            if previous is not None:
                self._stop_in_background(previous)
            await session.start(pipeline, generation)
        except Exception as why:
            if self.playing is not None and self.playing.session is session:
                self._leave_stage()
            if isinstance(why, MaglensError | OSError):
                self._stream_failed(session, why)
            else:
                # A defect of ours met by one module: it must not take the others with it.
                log.exception("%s: unexpected error", session.label, extra=session.log_fields())
                session.fail(why)
            return
        self._in_background(self._attach_controls(self.playing), f"controls-{session.port.path}")
        log.info("%s plays %s", session.label, mode.describe(), extra=session.log_fields())

    async def _attach_controls(self, playing: Playing) -> None:
        """What people chose for this module is written to it, and apps see its controls: after its first frame has
        been asked for, which must not wait for that."""
        controls, session = self.controls, playing.session
        if controls is None:
            return
        await asyncio.sleep(CONTROLS_AFTER_S)
        try:
            source = session.playable()
            values = await source.get()
            if self.playing is not playing:
                return
            await controls.attach(source.identity.key, source.controls, values, source.set)
        except (MaglensError, OSError) as why:
            log.info("%s: controls: %s", session.label, why, extra=session.log_fields())
        if self.playing is None:
            controls.detach()

    def _leave_stage(self) -> None:
        """Nobody plays: the last frame for a moment, then the card."""
        self.playing = None
        if self.controls is not None:
            self.controls.detach()
        if self.pipeline is not None:
            self.pipeline.end(card_for(self.sessions, self.obstacles))

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
        for record in self._records.values():
            session = record.session
            busy = self.playing is not None and self.playing.session is session
            if session.state is not SessionState.READY or busy or not session.is_playable:
                continue
            at = record.idle_since + STANDBY_AFTER_S
            if now < at:
                due.append(at)
            else:
                record.idle_since = now
                self._in_background(self._stand_by(session), f"standby-{session.port.path}")
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
        self._in_background(work, f"stop-{playing.session.port.path}")

    def _in_background(self, work: Awaitable[None], name: str) -> None:
        async def do() -> None:
            await work

        task = asyncio.create_task(do(), name=name)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", task.get_name(), exc_info=task.exception())

    async def close(self) -> None:
        """End every stay within ``SHUTDOWN_S``."""
        self._wake_at(None)
        for session in self.sessions:
            session.removed()
        tasks = [record.task for record in self._records.values()] + list(self._background)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=SHUTDOWN_S)
            for task in late:
                log.warning("%s did not end in time", task.get_name())
                task.cancel()


def _means(session: Session) -> Means:
    """What link and contract give a session."""
    contract = session.contract
    return Means(
        session.port.usable_mbit_s if session.port.speed_mbit_s else None,
        contract.operating_mw if contract is not None else None,
    )
