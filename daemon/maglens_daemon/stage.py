# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage: one node, its pipeline and its controls, and who plays on it now.

It knows nothing of choosing: the :class:`director.Director` lets sessions on and takes them off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from maglens_daemon.background import Background
from maglens_daemon.config import NodeConfig
from maglens_daemon.mode_choice import Means
from maglens_daemon.session import Session
from maglens_driver.control import ControlInfo, held
from maglens_driver.errors import Gone, MaglensError
from maglens_driver.mode import Mode
from maglens_v4l2.card import Card
from maglens_v4l2.controls import Controls
from maglens_v4l2.node import FormatChosen, InputChosen, Node, NodeEvent, UsageChanged
from maglens_v4l2.optics import Optics
from maglens_v4l2.orientation import UPRIGHT, Orientation
from maglens_v4l2.pipeline import Pipeline
from maglens_v4l2.store import Store

if TYPE_CHECKING:
    from maglens_v4l2.autopilot import Autopilot
    from maglens_v4l2.measurement import Measurement
    from maglens_v4l2.statistics import Statistics

log = logging.getLogger(__name__)

NODE_SETTLE_S: Final = 5.0
ATTACH_AGAIN_S: Final = (1.0, 2.0, 5.0)  # a module that did not answer may have been busy
ORPHAN_S: Final = 5.0  # what a module that is there when the service starts takes to play, at most

T = TypeVar("T")

OpenNode = Callable[[str, NodeConfig], Awaitable[Node]]


@dataclass(frozen=True, slots=True)
class Playing:
    """Whose frames are shown; there was one already."""

    session: Session
    generation: int
    mode: Mode
    means: Means  # when it was chosen
    optics: Optics | None = None  # a bare lens before it
    orientation: Orientation = UPRIGHT  # how it was mounted


@dataclass(frozen=True, slots=True)
class _Flight:
    """Who does the automatics of what plays."""

    playing: Playing
    pilot: Autopilot


class Crew(Protocol):
    """What a stage tells, and whom it asks; all in the event loop's thread."""

    def card(self) -> Card:
        """What to show while nobody plays."""
        ...

    def reconsider(self) -> None:
        """The node came or went, or people began or ended to watch."""
        ...

    def taken(self, generation: int) -> None:
        """The first frame of a stream that was on its way has taken the stage."""
        ...

    def lost(self, generation: int, why: Exception) -> None:
        """A stream has ended by itself, whether it played or was on its way."""
        ...

    def input_chosen(self, index: int) -> None:
        """An app chose an input: 0 is automatic."""
        ...

    def control_changed(self, session: Session, control: int, value: int) -> None:
        """The source that plays moved a control by itself."""
        ...


class Stage:
    """One per node. ``name`` is empty for ``[node]`` itself, else that of ``[node.NAME]``; ``settings`` gives its
    configuration as it is now; ``open_node`` makes or adopts the node of that name; ``before``: identity key of whose
    controls apps saw when the service before ended."""

    def __init__(
        self,
        name: str,
        settings: Callable[[], NodeConfig],
        open_node: OpenNode,
        store: Store,
        crew: Crew,
        before: str = "",
    ) -> None:
        self.name = name
        self.settings = settings
        self.node: Node | None = None
        self.node_problem: MaglensError | None = None
        self.pipeline: Pipeline | None = None
        self.controls: Controls | None = None
        self.playing: Playing | None = None
        self.settled = asyncio.Event()  # there is a node, or it is known why there is none
        self.heeded: Session | None = None  # whose controls apps see and set
        self.unwatched_at: float | None = None  # loop time since when nobody watches
        self.background = Background()
        self._flight: _Flight | None = None
        self._open_node = open_node
        self._store = store
        self._crew = crew
        self._before = before
        self._orphans: asyncio.TimerHandle | None = None  # until nobody claims the controls of the service before
        self._hint = asyncio.Event()
        self._failed: asyncio.Future[Exception] | None = None

    @property
    def watched(self) -> bool:
        """Whether anybody looks at the node now."""
        return self.pipeline is not None and self.pipeline.watched

    @property
    def heeded_identity(self) -> str:
        """Identity key of whose controls apps see; empty where nobody's."""
        identity = self.heeded.identity if self.heeded is not None else None
        return identity.key if identity is not None else ""

    # The node.

    def hint(self) -> None:
        """Something happened that may let a missing node be made now."""
        self._hint.set()

    async def keep_node(self) -> None:
        """Have a node always, or wait for what it takes; runs until cancelled."""
        loop, failed_at = asyncio.get_running_loop(), -NODE_SETTLE_S
        while True:
            self._hint.clear()
            try:
                node = await self._open_node(self.name, self.settings())
            except (MaglensError, OSError) as error:
                if isinstance(error, PermissionError) and await self._hinted_within(NODE_SETTLE_S):
                    continue  # a device just made is root's until udev has seen it
                problem = error if isinstance(error, MaglensError) else MaglensError(f"no video device: {error}")
                if str(problem) != str(self.node_problem):
                    log.error("%s", problem.explain())
                self.node_problem = problem
                self.settled.set()
                self._crew.reconsider()
                await self._hint.wait()
                continue
            try:
                why = await self._serve(node)
            finally:
                await self._put_away(node)
            log.error("the video device %s has failed: %s", node.path, why)
            if loop.time() - failed_at < NODE_SETTLE_S:
                await self._hinted_within(NODE_SETTLE_S)  # the same cause again: it is not tried in haste
            failed_at = loop.time()

    async def _hinted_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._hint.wait()
        except TimeoutError:
            return False
        return True

    async def _serve(self, node: Node) -> Exception:
        """Use ``node`` until it fails."""
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        self.node, self.node_problem = node, None
        self.pipeline = Pipeline(
            node,
            loop=loop,
            on_taken=self._crew.taken,
            on_lost=self._crew.lost,
            on_control=self._on_control,
            on_active=self._on_active,
            on_event=self._on_event,
            on_first=self._on_first,
            on_failed=self._on_failed,
            measured=partial(self._measured, loop),
            card=self._crew.card(),
        )
        self.controls = Controls(node, self._store, self._before)
        self._before = ""
        self._orphans = loop.call_later(ORPHAN_S, self._orphaned, self.controls)
        self.settled.set()
        log.info("the camera is %s, %s", node.path, self.pipeline.format.describe())
        self._crew.reconsider()
        return await self._failed

    def _orphaned(self, controls: Controls) -> None:
        """What apps can still set is nobody's: it was left behind with the camera."""
        if self.heeded is None:
            controls.detach()

    async def _put_away(self, node: Node) -> None:
        if self._orphans is not None:
            self._orphans.cancel()
        pipeline, playing = self.pipeline, self.playing
        controls, self.controls = self.controls, None
        self.pipeline, self.node, self.playing, self.heeded = None, None, None, None
        self._land()
        if playing is not None:
            await playing.session.stop()
        if pipeline is not None:
            await pipeline.close()
        if controls is not None:
            await controls.close()
        node.close()

    # Callbacks of the pipeline, in the loop.

    def _on_event(self, event: NodeEvent) -> None:
        if self.controls is not None:
            self.controls.handle(event)
        if isinstance(event, UsageChanged):
            now = asyncio.get_running_loop().time()
            self.unwatched_at = None if event.streamers else now
            self._crew.reconsider()
        elif isinstance(event, FormatChosen):
            self._crew.reconsider()
        elif isinstance(event, InputChosen):
            self._crew.input_chosen(event.index)

    def _on_failed(self, why: Exception) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(why)

    def _on_first(self, generation: int) -> None:
        """What people chose for this source is written to it, and apps see its controls: not before its first frame,
        which a slow module would send that much later."""
        playing = self.playing
        if playing is not None and playing.generation == generation:
            self._attach_controls(playing.session, playing)

    def _on_control(self, generation: int, control: int, value: int) -> None:
        playing = self.playing
        if playing is not None and playing.generation == generation:
            self._moved(playing.session, control, value)

    def _on_active(self, generation: int, control: int, active: bool) -> None:
        playing = self.playing
        if playing is not None and playing.generation == generation and self.controls is not None:
            self.controls.activated(control, active)

    def hear(self, session: Session, control: int, value: int) -> None:
        """A module moved a control by itself while it does not play; what plays is heard through its stream."""
        if self.playing is None and self.heeded is session:
            self._moved(session, control, value)

    def _moved(self, session: Session, control: int, value: int) -> None:
        source = session.source
        known = held({control: value}, source.controls) if source is not None else {}
        if not known:
            return  # nobody was told that there is such a control
        value = known[control]
        if self.controls is not None:
            for switch, off in self._hand(control, value).items():
                self.controls.changed(switch, off)
            self.controls.changed(control, value)
        self._crew.control_changed(session, control, value)

    # Who is on it.

    def enter(self, playing: Playing) -> None:
        """Its first frame is there."""
        self.playing, self.heeded = playing, playing.session

    def leave(self) -> None:
        """Who plays does so no more: the last frame for a moment, then the card, unless the next one is there."""
        playing, self.playing = self.playing, None
        self._land()
        if self.pipeline is not None and playing is not None:
            self.pipeline.end(self._crew.card(), playing.generation)

    def heed(self, session: Session | None) -> None:
        """While nobody plays: let apps see and set this one's controls all the same; with None, nobody's."""
        if session is self.heeded:
            return
        before, self.heeded = self.heeded, session
        if self.controls is not None and (before is not None or session is None):
            self.controls.detach()
        if session is not None:
            self._attach_controls(session, None)

    def _attach_controls(self, session: Session, playing: Playing | None) -> None:
        if playing is not None:
            self._land()
        if self.controls is not None:
            attaching = self._attach(self.controls, session, playing)
            self.background.begin(attaching, f"controls-{session.port.path}")

    async def _attach(self, controls: Controls, session: Session, playing: Playing | None) -> None:
        for pause in (*ATTACH_AGAIN_S, None):
            why = await self._try_attach(controls, session, playing)
            if why is None:
                break
            log.info("%s: controls: %s", session.label, why, extra=session.log_fields())
            if pause is None or isinstance(why, Gone):
                break
            await asyncio.sleep(pause)
            if self.playing is not playing or self.heeded is not session:
                break
        if self.heeded is None:
            controls.detach()

    async def _try_attach(
        self, controls: Controls, session: Session, playing: Playing | None
    ) -> MaglensError | OSError | None:
        """None when it has worked, or nobody wants it any more."""
        try:
            source = session.playable()
            values = held(await source.get(), source.controls)
            if self.playing is not playing or self.heeded is not session:
                return None
            pilot = self._pilot(playing, source.controls, values) if playing is not None else None
            if playing is None or pilot is None:
                await controls.attach(source.identity.key, source.controls, values, session.write, session.read)
            else:
                self._land()  # of a try before
                self._flight = _Flight(playing, pilot)
                await controls.attach(source.identity.key, pilot.controls, pilot.values, pilot.set, session.read)
        except (MaglensError, OSError) as why:
            return why
        return None

    # Automatics of raw modules.

    def _pilot(self, playing: Playing, infos: Sequence[ControlInfo], values: Mapping[int, int]) -> Autopilot | None:
        """None for a source that makes its pictures by itself."""
        session, pipeline = playing.session, self.pipeline
        if playing.mode.raw is None or pipeline is None:
            return None
        from maglens_v4l2.autopilot import Autopilot  # numpy: 12 MB, for raw frames only
        from maglens_v4l2.measurement import Window

        def tell(control: int, value: int) -> None:
            if self.playing is playing and self.controls is not None:
                self.controls.changed(control, value)

        tune = partial(pipeline.tune, playing.generation)
        try:
            zone = Window(*self.settings().focus_zone)
            return Autopilot(playing.mode, infos, values, session.write, tune=tune, tell=tell, window=zone)
        except ValueError as why:
            log.warning("%s: no automatics: %s", session.label, why, extra=session.log_fields())
            return None

    def _measured(self, loop: asyncio.AbstractEventLoop, statistics: Statistics) -> None:
        """In the pipeline's thread: a raw frame has been developed."""
        flight = self._flight
        if flight is None or flight.playing.generation != statistics.generation:
            return
        from maglens_v4l2.measurement import measure  # loaded with the autopilot

        loop.call_soon_threadsafe(self._observe, flight, measure(statistics, flight.pilot.window))

    def _observe(self, flight: _Flight, seen: Measurement) -> None:
        if self._flight is flight:
            self._fly(flight, lambda pilot: pilot.observe(seen), None)

    def _hand(self, control: int, value: int) -> Mapping[int, int]:
        """The automatics hear of a hand on the module; the switches that this has ended."""
        nothing: Mapping[int, int] = {}
        return self._fly(self._flight, lambda pilot: pilot.hand(control, value), nothing) if self._flight else nothing

    def _fly(self, flight: _Flight, act: Callable[[Autopilot], T], otherwise: T) -> T:
        """A defect of the automatics ends them, and no more."""
        try:
            return act(flight.pilot)
        except Exception:
            session = flight.playing.session
            log.exception("%s: its automatics end", session.label, extra=session.log_fields())
            self._land()
            return otherwise

    def _land(self) -> None:
        """The automatics' module has left."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self.background.begin(flight.pilot.close(), "autopilot-close")
