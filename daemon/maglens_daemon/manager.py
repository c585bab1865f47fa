# SPDX-License-Identifier: GPL-2.0-or-later
"""Manager: the sessions that come and go, and what people choose.

Everything here runs in the event loop's thread. It shares the sessions out to the stages, one per node; who plays on
a stage is its :class:`director.Director`'s business, what is promised to whom that of :class:`allotment.Allotment`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from maglens_daemon import backstage, policy
from maglens_daemon.allotment import Allotment
from maglens_daemon.bare_lens import is_bare_lens
from maglens_daemon.board.report import Report
from maglens_daemon.conditions import Conditions
from maglens_daemon.config import Config, NodeConfig
from maglens_daemon.director import Director
from maglens_daemon.errors import NotFound
from maglens_daemon.legacy import Legacy
from maglens_daemon.link_health import LinkRules
from maglens_daemon.port import make_port
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_daemon.stage import OpenNode, Stage
from maglens_daemon.visitor import Visitor
from maglens_driver import names
from maglens_driver.control import ControlFlag, ControlInfo, Origin
from maglens_driver.errors import Gone, Refused, WrongState
from maglens_driver.source import Identity
from maglens_v4l2.controls import Controls
from maglens_v4l2.orientation import Orientation
from maglens_v4l2.store import Store

log = logging.getLogger(__name__)

SHUTDOWN_S: Final = 5.0
PARK_S: Final = 3.0  # logind waits for five seconds at most (InhibitDelayMaxSec)


class Manager:
    """One per daemon. ``open_node`` makes or adopts a node; ``listeners`` are called after every change.
    ``root``: where battery and heat are read (``/sys`` below it); None: they are not followed. ``legacy``: of the
    service before, and for the next."""

    def __init__(
        self,
        config: Config,
        open_node: OpenNode,
        store: Store | None = None,
        root: Path | None = None,
        legacy: Legacy | None = None,
    ) -> None:
        legacy = legacy if legacy is not None else Legacy()
        self.config = config
        # What people chose, by node: identity key or "auto".
        self.choices = {name: legacy.of(name).choice for name in config.nodes}
        self.listeners: list[Callable[[], None]] = []
        self.on_control: list[Callable[[Session, int, int], None]] = []
        self.on_use: list[Callable[[Session], None]] = []  # called when a person has chosen it
        self.store = store if store is not None else Store(Path(names.STATE_DIR))
        self.allotment = Allotment(lambda: self.conditions.now, self.reconsider)
        self.directors = [Director(name, self, open_node, self.store, legacy) for name in config.nodes]
        self.reports: Callable[[], Sequence[Report]] = tuple  # of ports that a board watches
        self.conditions: Conditions = Conditions(
            lambda: self.config.power.rules, lambda: self.config.power.thermal_zones, self._condition_changed, root
        )
        self.parked = False  # the system is going to sleep
        self._stopped = asyncio.Event()
        self._first_settings = config.nodes
        self._tasks: dict[Session, asyncio.Task[None]] = {}
        self._ids = itertools.count(1)
        self._generations = itertools.count(1)

    @property
    def stages(self) -> Sequence[Stage]:
        """One per node, in the order of the configuration."""
        return [director.stage for director in self.directors]

    @property
    def pinned(self) -> str:
        """What people chose for the first node."""
        return self.choices[""]

    @property
    def stage(self) -> Stage:
        """The first one; there is always one."""
        return self.directors[0].stage

    # What comes and goes.

    @property
    def sessions(self) -> list[Session]:
        """All stays, in the order of their coming; those on their way out included."""
        return list(self._tasks)

    def arrive(self, path: str, speed_mbit_s: int, visitor: Visitor) -> Session | None:
        """Something is on port ``path``. None where the configuration says to leave it alone."""
        port = make_port(path, speed_mbit_s, self.config)
        if not port.enabled:
            log.info("port %s: left alone, as configured", port.label)
            return None
        session = Session(next(self._ids), port, visitor, self)
        if self.parked:
            session.lie_down()
        task = self._tasks[session] = asyncio.create_task(session.run(), name=f"session-{path}")
        for director in self.directors:
            director.joined(session)
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
        del self._tasks[session]
        self.allotment.forget(session)
        for director in self.directors:
            director.left(session)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s: its session ended by an error", session.label, exc_info=task.exception())
        self.reconsider()

    # For the sessions (host.Host).

    def reserve(self, session: Session) -> int:
        """See :class:`host.Host`."""
        return self.allotment.reserve(session)

    def burst(self, session: Session) -> AbstractAsyncContextManager[None]:
        """See :class:`host.Host`."""
        return self.allotment.burst(session)

    def twin(self, session: Session, identity: Identity) -> Session | None:
        """See :class:`host.Host`."""
        for other in self.sessions:
            if other is not session and other.identity == identity and not other.unplugged and not other.state.is_end:
                return other
        return None

    def control_moved(self, session: Session, control: int, value: int) -> None:
        """See :class:`host.Host`."""
        for stage in self.stages:
            stage.hear(session, control, value)

    def changed(self, session: Session) -> None:
        """See :class:`host.Host`."""
        self.allotment.changed(session)
        self._stopped.set()
        if session.state is SessionState.READY:
            for director in self.directors:
                director.readied(session)
        self.reconsider()

    # For the directors (director.House).

    def cast(self, name: str) -> Sequence[Session]:
        """See :class:`director.House`."""
        if len(self.choices) == 1:
            return self.sessions
        rules = self.config.policy.rule
        return [
            session
            for session in self.sessions
            if session.identity is None or policy.node_of(policy.state_of(session), rules, self.choices) == name
        ]

    def all(self) -> Sequence[Session]:
        """See :class:`director.House`."""
        return self.sessions

    def choose(self, name: str, identity: str) -> None:
        """See :class:`director.House`."""
        for node, chosen in self.choices.items():
            if chosen == identity:  # it plays on one node only
                self.choices[node] = policy.AUTO
        self.choices[name] = identity
        for session in self.sessions:
            if session.identity is not None and session.identity.key == identity:
                self._tell_use(session)
        self.reconsider()

    def _tell_use(self, session: Session) -> None:
        for tell in self.on_use:
            tell(session)

    def rules(self, name: str) -> policy.Rules:
        """See :class:`director.House`."""
        settings = self.config.policy
        return policy.Rules(policy.for_node(settings.rule, name), self.choices[name], settings.dwell_ms / 1000)

    def settings(self, name: str) -> NodeConfig:
        """See :class:`director.House`."""
        return self.config.nodes.get(name, self._first_settings[name])

    def link_rules(self) -> LinkRules:
        """See :class:`director.House`."""
        return self.config.link.rules

    def orientation(self, session: Session) -> Orientation:
        """See :class:`director.House`."""
        who = session.identity
        named = (session.port.path, session.port.name, session.visitor.by_id)
        return self.config.orientation(who.key if who else "", *named)

    def next_generation(self) -> int:
        """See :class:`director.House`."""
        return next(self._generations)

    def control_changed(self, session: Session, control: int, value: int) -> None:
        """See :class:`director.House`."""
        for tell in self.on_control:
            tell(session, control, value)

    def reconsider(self) -> None:
        """Something changed."""
        for director in self.directors:
            director.wake()
        for listener in self.listeners:
            listener()

    @property
    def in_haste(self) -> bool:
        """Whether somebody waits for a picture that is on its way: what can wait, should."""
        return any(director.in_haste for director in self.directors)

    # What is to be known of a session.

    def stage_of(self, session: Session) -> Stage | None:
        """Where it plays now; None where it does not."""
        for stage in self.stages:
            if stage.playing is not None and stage.playing.session is session:
                return stage
        return None

    def obstacle(self, session: Session) -> str:
        """Why a session that is ready cannot play; empty when it can."""
        return next((d.obstacles[session.id] for d in self.directors if session.id in d.obstacles), "")

    def attach_to_frame_ms(self, session: Session) -> float | None:
        """From a module's uevent to its first frame shown; None before, and when nobody was watching as it came."""
        times = (director.attach_to_frame_ms(session) for director in self.directors)
        return next((time for time in times if time is not None), None)

    # What people choose.

    def use(self, name: str, node: str = "") -> str:
        """Pin a source on a node, by identity key, port, port name or serial number, or ``auto``. Raises
        :class:`NotFound`, and ``WrongState`` for a lens without a camera, and for what was refused before it was
        identified."""
        if node not in self.choices:
            there = ", ".join(known for known in self.choices if known) or "none but the first"
            raise NotFound(f"there is no node {node!r}; there is {there}", hint="maglens status")
        if name == policy.AUTO:
            self.choose(node, policy.AUTO)
            return policy.AUTO
        session = self.find_session(name)
        if session.identity is None:
            self._tell_use(session)
            refused = f"{session.label} was refused: {session.reason}"
            if session.unplugged:  # another stay has begun in its place
                raise WrongState(f"{refused}; it is tried again now", hint="maglens use, once it is ready")
            raise WrongState(refused, hint=session.hint)
        if is_bare_lens(session):
            raise WrongState(
                f"{session.label} is a lens without a camera: what is built in plays through it as it is",
                hint="maglens modules",
            )
        self.choose(node, session.identity.key)
        return self.choices[node]

    def find_session(self, name: str) -> Session:
        """The session that an identity key, port, port name, serial number or model means: an identified one, or one
        that was refused."""
        known = [s for s in self.sessions if s.identity is not None or s.state is SessionState.QUARANTINED]
        present, fits = [s for s in known if not s.unplugged], []
        for session in present:
            who = session.identity
            names_of = (who.key, who.serial, who.model) if who is not None else ()
            if name in (*names_of, session.port.path, session.port.name):
                fits.append(session)
        if len(fits) == 1:
            return fits[0]
        there = ", ".join(s.identity.key if s.identity else s.port.label for s in present) or "none"
        what = "no module" if not fits else f"{len(fits)} modules"
        raise NotFound(f"{what} fit {name!r}; there is {there}", hint="maglens modules")

    def list_controls(self, session: Session) -> Sequence[ControlInfo]:
        """Those of a module; while it plays with the switches of what is done for it here. Raises ``Gone``."""
        if session.source is None:
            raise Gone(f"{session.label} has not been identified")
        controls = self._controls_of(session)
        return session.source.controls if controls is None else controls.infos

    async def get_controls(self, session: Session) -> Mapping[int, int]:
        """Present values, from the module where it has them."""
        values, controls = await session.read(), self._controls_of(session)
        return values if controls is None else {**controls.values, **values}

    async def set_controls(self, session: Session, values: Mapping[int, int]) -> Mapping[int, int]:
        """Write controls for a person; the values as clamped, with the automatics that were ended. Those of what
        plays go the way apps' own writes go. Raises ``Refused`` before anything is written where one of them is not
        there or can only be read; what was written before a later refusal is told all the same."""
        who = session.playable().identity.key
        self._check_settable(session, values)
        controls = self._controls_of(session)
        clamped: dict[int, int] = {}
        try:
            if controls is not None:
                for control, value in values.items():
                    clamped[control] = await controls.write(control, value, Origin.APP)
            else:
                clamped |= await backstage.write(session, values)
                for control, value in clamped.items():
                    self.store.put(who, control, value)
                await self.store.keep()
        finally:
            for control, value in clamped.items():
                self.control_changed(session, control, value)
        return clamped

    def _check_settable(self, session: Session, values: Mapping[int, int]) -> None:
        infos = {info.id: info for info in self.list_controls(session)}
        for control in values:
            if control not in infos:
                raise Refused("control", f"it has no control 0x{control:08x}", hint="maglens control list")
            if infos[control].flags & ControlFlag.READ_ONLY:
                raise Refused("control", f"{infos[control].name} can only be read")

    async def reset_controls(self, session: Session, only: Collection[int]) -> Mapping[int, int]:
        """Forget what people chose for a module and write its factory values: of these controls, or all. What they
        are then; what an automatic drives is left to it."""
        source, controls = session.playable(), self._controls_of(session)
        if controls is not None:
            values = await controls.reset(only)
        else:
            self.store.forget(source.identity.key, only)
            await self.store.keep()
            values = await backstage.reset(session, only)
        for control, value in values.items():
            self.control_changed(session, control, value)
        return values

    def _controls_of(self, session: Session) -> Controls | None:
        """Those of the node where apps see this one's; None where no app does."""
        who = session.identity
        for stage in self.stages:
            controls = stage.controls
            if stage.heeded is session and controls is not None and who is not None and controls.identity == who.key:
                return controls
        return None

    def apply(self, config: Config) -> None:
        """Use another configuration from now on. Nodes keep their formats until the service is restarted."""
        if config.nodes != self.config.nodes:
            log.warning("[node] has changed: that takes effect when the service is restarted")
        self.config = config
        self.conditions.look()
        self.allotment.wake()
        for session in self.sessions:
            session.port = make_port(session.port.path, session.port.speed_mbit_s, config)
        self.node_hint()
        self.reconsider()

    def _condition_changed(self) -> None:
        self.allotment.wake()
        self.reconsider()

    # Sleep.

    async def park(self) -> None:
        """The system goes to sleep: end all streams and give the modules back, within ``PARK_S``. The nodes stay."""
        self.parked = True
        for session in self.sessions:
            session.lie_down()
        self.reconsider()
        try:
            async with asyncio.timeout(PARK_S):
                while not all(session.lies for session in self.sessions):
                    self._stopped.clear()
                    await self._stopped.wait()
        except TimeoutError:
            log.warning("streams did not end in time before the system sleeps")

    async def unpark(self) -> None:
        """It is awake again: open the modules anew, which makes their contracts, and play."""
        self.parked = False
        for session in self.sessions:
            session.get_up()
        self.reconsider()

    # The whole of it.

    async def run(self) -> None:
        """Keep the nodes and direct; runs until cancelled, and returns when all is put away."""
        tasks = [asyncio.create_task(stage.keep_node(), name=f"node-{stage.name}") for stage in self.stages]
        tasks += [asyncio.create_task(d.direct(), name=f"director-{d.name}") for d in self.directors]
        tasks.append(asyncio.create_task(self.allotment.run(), name="allotment"))
        tasks.append(asyncio.create_task(self.conditions.run(), name="conditions"))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                if not task.cancelling():  # a second time would disturb it while it puts away
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Returns once every node is there, or it is known why it is not."""
        for stage in self.stages:
            await stage.settled.wait()

    def node_hint(self) -> None:
        """Something happened that may let a missing node be made now."""
        for stage in self.stages:
            stage.hint()

    async def close(self) -> None:
        """End every stay within ``SHUTDOWN_S``."""
        for director in self.directors:
            director.close()
        for session in self.sessions:
            session.removed()
        tasks = [*self._tasks.values(), *(task for stage in self.stages for task in stage.background.tasks)]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=SHUTDOWN_S)
            for task in late:
                log.warning("%s did not end in time", task.get_name())
                task.cancel()
