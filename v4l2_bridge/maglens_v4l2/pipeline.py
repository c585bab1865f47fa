# SPDX-License-Identifier: GPL-2.0-or-later
"""Pipeline: one per node. Converts, scales and paces, and is the only one that submits.

::

    source thread --deliver--> mailbox (one frame, newest wins) --pipeline thread--> convert --> node
    event loop --begin, prefer, end, show--^                          ^---- last frame, card (fillers)

The event loop decides what is shown, the thread when. Each stream has a :class:`feed.Feed`; several may be on their
way, and the first frame of one takes the stage from the one before, whose frames count no more from then on. So a
source that takes long to start, or never does, keeps nobody off the stage. The thread sleeps while nobody watches,
unless the node wants cards even then.

What was converted is submitted by a thread of its own: the node copies it to every reader, and the next one may be
converted meanwhile, but nothing else is done. So at most one picture is on its way, and order stays.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maglens_driver.errors import Gone, MaglensError
from maglens_driver.frame import Frame, Lease
from maglens_driver.mode import Mode
from maglens_v4l2._pixels import copy
from maglens_v4l2.card import Card, black
from maglens_v4l2.convert import Converter, same_layout
from maglens_v4l2.feed import HOLD_NS, Feed
from maglens_v4l2.node import FormatChosen, Node, NodeEvent, UsageChanged
from maglens_v4l2.optics import Optics
from maglens_v4l2.orientation import UPRIGHT, Orientation
from maglens_v4l2.pacer import Pacer
from maglens_v4l2.painter import Painter
from maglens_v4l2.pipeline_stats import PipelineStats
from maglens_v4l2.recipe_book import Measured
from maglens_v4l2.stamps import Stamps

if TYPE_CHECKING:
    from maglens_v4l2.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """What the thread shows next, as decided under the lock. ``frame`` None: a filler."""

    frame: Frame | None
    converter: Converter | None
    format: Mode
    node_generation: int
    card: bytes
    hold: bool  # a filler may still be the last frame


class Pipeline:
    """Made and called in the event loop's thread, except for its feeds' calls, which come from any thread and never
    block.

    Callbacks run in the loop: ``on_taken(generation)`` when a feed has taken the stage; ``on_first(generation)`` when
    its first frame has been shown; ``on_lost(generation, why)`` once per generation; ``on_control(generation, id,
    value)``; ``on_active(generation, id, active)``; ``on_event(event)`` for each of the node's, once it was acted on;
    ``on_failed(why)`` once, when the node itself is gone and nothing can be shown any more. ``measured(statistics)``
    runs in the pipeline's thread, after each raw frame, and must be quick.
    """

    def __init__(
        self,
        node: Node,
        *,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[int, Exception], None],
        on_control: Callable[[int, int, int], None],
        on_active: Callable[[int, int, bool], None] = lambda generation, control, active: None,
        on_taken: Callable[[int], None] = lambda generation: None,
        on_event: Callable[[NodeEvent], None] = lambda event: None,
        on_first: Callable[[int], None] = lambda generation: None,
        on_failed: Callable[[Exception], None] = lambda why: None,
        measured: Measured | None = None,
        card: Card = Card("maglens"),  # noqa: B008 frozen
    ) -> None:
        self._node = node
        self._measured = measured
        self._loop = loop
        self._on_taken, self._on_lost, self._on_control, self._on_active = on_taken, on_lost, on_control, on_active
        self._on_event, self._on_first, self._on_failed = on_event, on_first, on_failed
        state = node.state()
        self._idle_fill = node.caps.idle_fill
        self._node_fills = node.caps.outlives_daemon

        self._wake = threading.Condition()
        # Under the lock:
        self._closing = False
        self._watched = state.streamers > 0
        self._format = state.format
        self._node_generation = node.adopt()
        self._feed: Feed | None = None  # whose frames are shown
        self._coming: dict[int, Feed] = {}  # by generation: those without a frame yet
        self._places: dict[int, int] = {}  # of generations, best first
        self._mailbox: Frame | None = None
        self._pacer = Pacer(state.format.interval_ns)
        self._card_image = black(state.format)
        self._placeholder_due = False
        self._frames_in = self._submitted = self._repeated = self._cards = self._left = self._filled = 0
        self._dropped: Counter[str] = Counter()
        self._last_frame_ns = self._first_frame_ns = 0
        self._going: Future[None] | None = None  # the picture on its way to the node

        # The thread's own:
        self._stamps = Stamps()
        self._showing: bytes | None = None  # the card that the node's last picture is; None: a frame, or nothing

        self._pacer.restart(self._now())
        self._brush, self._porter = self._begin()
        self._painter = Painter(loop, self._brush, self._painted)
        self._show(card, now=True)
        self._listener = loop.create_task(self._listen(), name="maglens-node-events")
        self._listener.add_done_callback(self._deaf)

    # What is done otherwise where there is to be no thread (tests/faults/pipeline.py).

    @staticmethod
    def _now() -> int:
        return time.monotonic_ns()

    def _begin(self) -> tuple[Executor, Executor]:
        """Begin to show; the answer: who draws cards, and who submits what was converted."""
        self._thread = threading.Thread(target=self._run, name="maglens-pipeline", daemon=True)
        self._thread.start()
        return (
            ThreadPoolExecutor(1, thread_name_prefix="maglens-card"),
            ThreadPoolExecutor(1, thread_name_prefix="maglens-submit"),
        )

    def _join(self) -> None:
        self._thread.join()
        self._porter.shutdown(wait=True)
        self._brush.shutdown(wait=True, cancel_futures=True)

    # For the event loop.

    @property
    def watched(self) -> bool:
        """Whether anybody looks at the node now (always, where the node cannot tell)."""
        return self._watched

    @property
    def format(self) -> Mode:
        """What apps get now."""
        return self._format

    @property
    def convertible(self) -> bool:
        """Whether what plays can be shown in the present format. Where not, its frames are dropped until it is
        configured anew: an app has chosen a format that cannot be made of its mode."""
        with self._wake:
            return self._feed is None or self._feed.convertible

    def begin(
        self, generation: int, mode: Mode, orientation: Orientation = UPRIGHT, optics: Optics | None = None
    ) -> Feed:
        """The sink for a stream in ``mode``, whose first frame takes the stage, turned as ``orientation`` says;
        ``optics``: a bare lens before it.

        Builds the converter, so call it before ``Source.start``. Raises ``Refused`` when no way leads from ``mode``
        to the node's format. May be called in any thread: with ``optics`` it takes its time.
        """
        while True:
            shown = self._format
            feed = Feed(self, generation, mode, shown, self._measured, orientation, optics)
            with self._wake:
                if shown == self._format:  # else an app has chosen another meanwhile
                    self._coming[generation] = feed
                    return feed

    def prefer(self, generations: Sequence[int]) -> None:
        """Best first. The first frame of a feed takes the stage from a better one no more; those not named come last
        and are equals."""
        with self._wake:
            self._places = {generation: place for place, generation in enumerate(generations)}

    def withdraw(self, generation: int) -> bool:
        """A feed that was begun is not wanted any more. False when it has taken the stage already."""
        with self._wake:
            feed = self._coming.pop(generation, None)
            if feed is None:
                return self._feed is None or self._feed.generation != generation
            feed.over = True
            return True

    def end(self, card: Card, generation: int) -> None:
        """``generation`` leaves the stage: the last frame for a moment, then ``card``. Feeds on their way stay, and
        one that has taken the stage from it meanwhile plays on."""
        with self._wake:
            if self._feed is None or self._feed.generation != generation:
                return
            displaced = self._switch(None)
        self._release(displaced)
        self._show(card, now=True)

    def tune(self, generation: int, recipe: Recipe | None) -> None:
        """Develop raw frames of ``generation`` by ``recipe`` from the next one on; None: by what each says of its
        white balance. Any thread."""
        with self._wake:
            feed = self._feed if self._feed is not None and self._feed.generation == generation else None
            feed = feed or self._coming.get(generation)
            if feed is not None:
                feed.book.tune(recipe)

    def show(self, card: Card) -> None:
        """Change the card, which is seen whenever no frame is there to show."""
        self._show(card, now=False)

    def stats(self) -> PipelineStats:
        """The counts now."""
        with self._wake:
            return PipelineStats(
                self._frames_in,
                self._submitted,
                self._repeated,
                self._cards,
                self._left,
                self._filled,
                dict(self._dropped),
                self._last_frame_ns,
                self._feed.generation if self._feed is not None else None,
                self._first_frame_ns,
            )

    async def close(self) -> None:
        """End the thread; the node stays open. Leases still out may be released later."""
        with self._wake:
            self._closing = True
            for feed in self._coming.values():
                feed.over = True
            self._coming.clear()
            displaced = self._switch(None)
            self._wake.notify_all()
        self._release(displaced)
        self._painter.stop()
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        await asyncio.to_thread(self._join)

    # For the feeds (feed.Door): any thread.

    def lease(self, feed: Feed, nbytes: int) -> Lease | None:
        with self._wake:
            if feed.over:
                return None
            staging = feed.staging
        return self._node.lease(nbytes) if staging is None else staging.lease(nbytes)

    def deliver(self, feed: Feed, frame: Frame) -> None:
        now = self._now()
        displaced: Frame | None = frame
        with self._wake:
            self._frames_in += 1
            cause = self._unfit(feed, frame)
            if cause:
                self._dropped[cause] += 1
            else:
                if feed is self._feed:
                    displaced = self._mailbox
                    if displaced is not None:
                        self._dropped["displaced"] += 1
                else:
                    displaced = self._switch(feed)
                    self._call(self._on_taken, feed.generation)
                self._mailbox = frame
                self._pacer.arrived(now)
                self._wake.notify()
        self._release(displaced)

    def control(self, feed: Feed, control: int, value: int) -> None:
        if not feed.over:
            self._call(self._on_control, feed.generation, control, value)

    def active(self, feed: Feed, control: int, active: bool) -> None:
        if not feed.over:
            self._call(self._on_active, feed.generation, control, active)

    def dropped(self, cause: str) -> None:
        with self._wake:
            self._dropped[cause] += 1

    def lost(self, feed: Feed, why: Exception) -> None:
        with self._wake:
            if feed.over:
                return
            feed.over = True
            self._coming.pop(feed.generation, None)
            if feed is self._feed:
                self._pacer.follow(None)
        self._call(self._on_lost, feed.generation, why)

    # Helpers, under the lock.

    def _unfit(self, feed: Feed, frame: Frame) -> str:
        """Why a frame is not shown; empty when it is."""
        if feed.over or frame.generation != feed.generation:
            return "stale"
        if not self._watched:
            return "unwatched"
        if not feed.convertible:
            return "format"
        if not same_layout(frame.mode, feed.mode):
            return "mode"
        present = self._feed
        if present is not None and present is not feed and not present.over:
            last = len(self._places)
            if self._places.get(feed.generation, last) > self._places.get(present.generation, last):
                return "outranked"
        return ""

    def _switch(self, feed: Feed | None) -> Frame | None:
        """From here on another feed, or none, is on the stage. The answer is for :meth:`_release`."""
        if self._feed is not None:
            self._feed.over = True
        self._feed = feed
        if feed is not None:
            self._coming.pop(feed.generation, None)
        self._first_frame_ns = 0
        self._pacer.follow(None if feed is None else feed.mode.interval_ns)
        displaced, self._mailbox = self._mailbox, None
        if displaced is not None:
            self._dropped["stale"] += 1
        return displaced

    # Helpers of the event loop's side.

    @staticmethod
    def _release(frame: Frame | None) -> None:
        if frame is not None:
            frame.lease.release()

    async def _listen(self) -> None:
        """Act on what apps do with the node."""
        async for event in self._node.events():
            if isinstance(event, UsageChanged):
                self._watch(event.streamers > 0)
            elif isinstance(event, FormatChosen):
                self._reformat(event.format)
            self._on_event(event)

    def _deaf(self, listener: asyncio.Task[None]) -> None:
        """Nobody listens any more. Where that is no end of the node's or of ours, neither may go on so."""
        why = None if listener.cancelled() else listener.exception()
        if isinstance(why, Exception):
            log.error("the events of %s are not heard any more", self._node.path, exc_info=why)
            self._on_failed(why)

    def _watch(self, watched: bool) -> None:
        displaced = None
        with self._wake:
            if watched == self._watched:
                return
            self._watched = watched
            if watched:
                self._pacer.restart(self._now())
            else:
                displaced, self._mailbox = self._mailbox, None
            self._wake.notify()
        self._release(displaced)

    def _reformat(self, format: Mode) -> None:
        """An app chose another format: new converter, new card. The source goes on if it can be converted."""
        ways: dict[Feed, tuple[Converter | None, bool]] = {}
        displaced: list[Frame] = []
        while missing := self._reformatted(format, ways, displaced):
            ways |= {feed: feed.way(format) for feed in missing}
        for frame in displaced:
            self._release(frame)
        self._painter.want(self._card, format)

    def _reformatted(
        self, format: Mode, ways: Mapping[Feed, tuple[Converter | None, bool]], displaced: list[Frame]
    ) -> Sequence[Feed]:
        """The format is ``format`` from now on; or nothing has changed, for these feeds have no way to it yet: any
        thread may have begun one meanwhile. ``displaced`` gets what cannot be shown in it, for :meth:`_release`."""
        with self._wake:
            feeds = [*self._coming.values(), *([self._feed] if self._feed is not None else [])]
            if missing := [feed for feed in feeds if feed not in ways]:
                return missing
            before, self._format = self._format, format
            if self._mailbox is not None and self._feed is not None and not ways[self._feed][1]:
                displaced.append(self._mailbox)
                self._mailbox = None
                self._dropped["format"] += 1
            for feed in feeds:
                feed.reformat(format, ways[feed])
            self._pacer = Pacer(format.interval_ns)
            self._pacer.follow(None if self._feed is None else self._feed.mode.interval_ns)
            self._pacer.restart(self._now())
            if format == before:  # an app has tried others meanwhile, and the node has forgotten its placeholder
                self._placeholder_due = True
            else:
                self._card_image = black(format)
            self._wake.notify()
            return ()

    def _show(self, card: Card, *, now: bool) -> None:
        self._card = card
        self._painter.want(card, self._format, now=now)

    def _painted(self, format: Mode, image: bytes) -> None:
        """Any thread."""
        with self._wake:
            if format == self._format:
                self._card_image = image
                self._placeholder_due = True
                self._wake.notify()

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        """In the loop's thread; not at all once the loop is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    # The thread.

    def _run(self) -> None:
        failure: Exception = Gone("the pipeline ended by an error; see the log")
        try:
            while (due := self._next()) is not None:
                self._serve(due)
        except (MaglensError, OSError) as error:
            failure = error
        finally:
            with self._wake:
                closing = self._closing
            if not closing:
                self._call(self._on_failed, failure)

    def _next(self) -> tuple[bytes, Mode] | _Job | None:
        """Wait until something is due: a new placeholder, or a picture; None when closing."""
        with self._wake:
            while not self._closing:
                due, wait_s = self._due()
                if due is not None:
                    return due
                self._wake.wait(wait_s)
            return None

    def _due(self) -> tuple[tuple[bytes, Mode] | _Job | None, float | None]:
        """Under the lock: what is due now; if nothing, seconds until something may be (None: not by itself)."""
        settled = self._settled()
        if settled and (card := self._due_card()) is not None:
            return card, None
        if not self._watched and not self._idle_fill:
            return None, None
        if self._mailbox is None and not settled:
            return None, None
        now = self._now()
        due = self._pacer.next_ns(self._mailbox is not None) if self._watched else self._pacer.idle_ns()
        if not settled:
            due += self._pacer.interval_ns  # the place of the picture on its way, of which the pacer is not told yet
        if now < due:
            return None, (due - now) / 1e9
        if settled and self._watched and self._node_fills and self._pacer.leave(now):
            self._left += self._mailbox is None
            return self._due()
        frame, self._mailbox = self._mailbox, None
        hold_ns = HOLD_NS if self._feed is None else self._feed.hold_ns
        hold = self._watched and now - self._last_frame_ns <= hold_ns
        converter = self._feed.converter if self._feed is not None else None
        return _Job(frame, converter, self._format, self._node_generation, self._card_image, hold), None

    def _due_card(self) -> tuple[bytes, Mode] | None:
        """Under the lock: a new placeholder that is to be handed over now, and its format."""
        due, self._placeholder_due = self._placeholder_due, False
        return (self._card_image, self._format) if due else None

    def _serve(self, due: tuple[bytes, Mode] | _Job) -> None:
        if isinstance(due, tuple):
            self._node.placeholder(*due)
        elif due.frame is not None:
            self._show_frame(due.frame, due)
        else:
            self._show_filler(due)

    def _show_frame(self, frame: Frame, job: _Job) -> None:
        lease: Lease | None = frame.lease
        nbytes = frame.nbytes
        cause: str | None = None
        if job.converter is not None:
            lease, cause = self._convert(frame, job.converter, job.format.nbytes)
            nbytes = job.format.nbytes
        if lease is None:
            self.dropped(cause or "no_buffer")
            return
        with self._wake:
            while not self._settled() or (wait_ns := self._pacer.early_ns(self._now())) > 0:
                self._wake.wait(None if self._going else wait_ns / 1e9)
            card = self._due_card()  # frames that follow each other closely leave no other place for it
        if card is not None:
            self._node.placeholder(*card)
        now, left = self._moment()
        stamp = self._stamps.frame(frame.exposure_ns, now, job.format.interval_ns, left)
        ready = Frame(lease, nbytes, job.format, frame.seq, stamp, job.node_generation, frame.meta)
        if job.converter is None:  # nothing is to be gained
            self._submit(ready, frame.generation, now, cause)
            return
        self._going = self._porter.submit(self._submit, ready, frame.generation, now, cause)
        self._going.add_done_callback(self._arrived)

    def _settled(self) -> bool:
        """Under the lock: whether nothing is on its way to the node. Raises what went wrong on it."""
        going = self._going
        if going is None:
            return True
        if not going.done():
            return False
        self._going = None
        going.result()
        return True

    def _arrived(self, going: Future[None]) -> None:
        with self._wake:
            self._wake.notify()

    def _submit(self, frame: Frame, generation: int, now: int, cause: str | None) -> None:
        """Show a frame of the source's ``generation``. In the thread that submits where it was converted."""
        shown = self._node.submit(frame)
        with self._wake:
            if cause is not None:
                self._dropped[cause] += 1
            if not shown:
                self._dropped["refused"] += 1
                return
            self._showing = None
            self._submitted += 1
            self._last_frame_ns = now
            if self._first_frame_ns == 0 and self._feed is not None and generation == self._feed.generation:
                self._first_frame_ns = now
                self._call(self._on_first, generation)
            self._shown(now, frame.exposure_ns, frame.mode, fresh=True)

    def _convert(self, frame: Frame, converter: Converter, nbytes: int) -> tuple[Lease | None, str | None]:
        """Into a buffer of the node. The frame's lease is given back; a cause with a lease: damaged, but shown."""
        out = self._node.lease(nbytes)
        try:
            if out is None:
                return None, "no_buffer"
            cause = converter.run(frame, out.view[:nbytes])
        except ValueError:
            if out is not None:
                out.release()
            return None, "undecodable"
        finally:
            frame.lease.release()
        return out, cause

    def _moment(self) -> tuple[int, int]:
        """Now, and how many pictures the node has shown by itself since the last one of ours, as it seems."""
        with self._wake:
            now = self._now()
            if self._node_fills:
                self._pacer.leave(now)
            return now, self._pacer.left

    def _shown(self, now: int, stamp: int, format: Mode, *, fresh: bool) -> None:
        """Under the lock: a picture was handed to the node at ``now``, and shown."""
        filled, took_ns = self._node.filled - self._filled, self._now() - now
        self._filled += filled
        self._pacer.shown(now, fresh, filled, took_ns)
        self._stamps.shown(stamp, now, format.interval_ns, filled, took_ns)

    def _show_filler(self, job: _Job) -> None:
        """The last frame while it may stand in, else the card."""
        now, left = self._moment()
        stamp = self._stamps.filler(now, job.format.interval_ns, left)
        same = job.hold if self._showing is None else self._showing is job.card
        repeated = same and self._node.repeat(stamp, job.node_generation)
        shown = repeated or self._show_card(job, stamp)
        with self._wake:
            self._shown(now, stamp, job.format, fresh=False)
            if repeated and self._showing is None:
                self._repeated += 1
            elif shown:
                self._showing = job.card
                self._cards += 1
            else:
                self._dropped["card"] += 1

    def _show_card(self, job: _Job, stamp: int) -> bool:
        lease = self._node.lease(len(job.card))
        if lease is None:
            return False
        copy(job.card, lease.view, len(job.card))
        return self._node.submit(Frame(lease, len(job.card), job.format, 0, stamp, job.node_generation))
