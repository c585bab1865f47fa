# SPDX-License-Identifier: GPL-2.0-or-later
"""Pipeline: one per node. Converts, scales and paces, and is the only one that submits.

::

    source thread --deliver--> mailbox (one frame, newest wins) --pipeline thread--> convert --> node
    event loop ----begin, end, show----^                              ^---- last frame, card (fillers)

The event loop decides what is shown, the thread when. A source's frames count only between ``begin`` and ``end`` of
its generation. The thread sleeps while nobody watches, unless the node wants cards even then.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from maglens_driver.errors import Gone, MaglensError, Refused
from maglens_driver.frame import Frame, Lease
from maglens_driver.mode import Mode
from maglens_v4l2._pixels import copy
from maglens_v4l2.card import Card, black, render
from maglens_v4l2.convert import Converter, make_converter, same_layout
from maglens_v4l2.developing import Measured, RecipeBook
from maglens_v4l2.node import FormatChosen, Node, NodeEvent, UsageChanged
from maglens_v4l2.pacer import Pacer
from maglens_v4l2.pool import BufferPool
from maglens_v4l2.recipe import Recipe
from maglens_v4l2.stamps import Stamps

HOLD_NS = 500_000_000  # how long the last frame stands in for a missing one
HOLD_INTERVALS = 2  # the same for a source slower than that, in its own intervals
STAGING = 8  # frames a source may have in hand where they need converting

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PipelineStats:
    """Counts since the pipeline was made.

    ``frames_in`` frames delivered; ``submitted`` source frames shown, ``repeated`` and ``cards`` fillers shown, and
    ``filled`` those that the node has shown by itself since this pipeline was late;
    ``dropped`` frames not shown, by cause; ``last_frame_ns`` when a source frame was last shown, and
    ``first_frame_ns`` when the first one of ``generation`` was (CLOCK_MONOTONIC; 0: not yet).
    """

    frames_in: int
    submitted: int
    repeated: int
    cards: int
    filled: int
    dropped: Mapping[str, int]
    last_frame_ns: int
    generation: int | None
    first_frame_ns: int


@dataclass(frozen=True, slots=True)
class _Job:
    """What the thread shows next, as decided under the lock. ``frame`` None: a filler."""

    frame: Frame | None
    converter: Converter | None
    format: Mode
    node_generation: int
    card: bytes
    hold: bool  # a filler may still be the last frame


class _MemoryLease:
    """A picture that needs no giving back."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def release(self) -> None:
        """Nothing to give back."""


class Pipeline:
    """Implements :class:`maglens_driver.source.FrameSink`. Made and called in the event loop's thread, except for the
    sink's own calls, which come from any thread and never block.

    Callbacks run in the loop: ``on_lost(generation, why)`` once per generation; ``on_control(generation, id,
    value)``; ``on_event(event)`` for every event of the node, after the pipeline has acted on it;
    ``on_first(generation)`` once per generation, when a frame of it has been shown; ``on_failed(why)`` once, when the
    node itself is gone and nothing can be shown any more. ``measured(statistics)`` runs in the pipeline's thread,
    after each raw frame: it must be quick.
    """

    def __init__(
        self,
        node: Node,
        *,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[int, Exception], None],
        on_control: Callable[[int, int, int], None],
        on_event: Callable[[NodeEvent], None] = lambda event: None,
        on_first: Callable[[int], None] = lambda generation: None,
        on_failed: Callable[[Exception], None] = lambda why: None,
        measured: Measured | None = None,
        card: Card = Card("maglens"),  # noqa: B008 frozen
    ) -> None:
        self._node = node
        self._measured = measured
        self._book = RecipeBook()
        self._loop = loop
        self._on_lost, self._on_control, self._on_event, self._on_failed = on_lost, on_control, on_event, on_failed
        self._on_first = on_first
        state = node.state()
        self._idle_fill = node.caps.idle_fill

        self._wake = threading.Condition()
        # Under the lock:
        self._closing = False
        self._watched = state.streamers > 0
        self._format = state.format
        self._node_generation = node.adopt()
        self._generation: int | None = None
        self._lost = False
        self._mode: Mode | None = None
        self._converter: Converter | None = None
        self._convertible = True
        self._staging: BufferPool | None = None
        self._mailbox: Frame | None = None
        self._pacer = Pacer(state.format.interval_ns)
        self._card = card
        self._card_image = black(state.format)
        self._placeholder_due = False
        self._frames_in = self._submitted = self._repeated = self._cards = self._filled = 0
        self._dropped: Counter[str] = Counter()
        self._last_frame_ns = self._first_frame_ns = 0

        # The thread's own:
        self._stamps = Stamps()
        self._showing: bytes | None = None  # the card that the node's last picture is; None: a frame, or nothing

        self._pacer.restart(time.monotonic_ns())
        self._painter = ThreadPoolExecutor(1, thread_name_prefix="maglens-card")
        self._paint()
        self._listener = loop.create_task(self._listen(), name="maglens-node-events")
        self._thread = threading.Thread(target=self._run, name="maglens-pipeline", daemon=True)
        self._thread.start()

    # For the event loop.

    @property
    def watched(self) -> bool:
        """Whether anybody looks at the node now (always, where the node cannot tell)."""
        return self._watched

    @property
    def format(self) -> Mode:
        """What apps get now."""
        return self._format

    def begin(self, generation: int, mode: Mode) -> None:
        """Frames of ``generation`` in ``mode`` count from now on; those of an earlier one no more.

        Builds the converter, so call it before ``Source.start``. Raises ``Refused`` when no way leads from ``mode``
        to the node's format; then nothing has changed.
        """
        converter = make_converter(mode, self._format, self._book, self._measured)
        self._book.tune(None)
        staging = None if same_layout(mode, self._format) else BufferPool(STAGING, mode.nbytes)
        with self._wake:
            displaced = self._switch(generation, mode, converter, staging)
        self._release(displaced)

    def end(self, card: Card) -> None:
        """There is no source now: the last frame for a moment, then ``card``."""
        with self._wake:
            displaced = self._switch(None, None, None, None)
        self._release(displaced)
        self.show(card)

    def tune(self, generation: int, recipe: Recipe | None) -> None:
        """Develop raw frames of ``generation`` by ``recipe`` from the next one on; None: by what each says of its
        white balance. Any thread."""
        with self._wake:
            if generation == self._generation:
                self._book.tune(recipe)

    def show(self, card: Card) -> None:
        """Change the card, which is seen whenever no frame is there to show."""
        with self._wake:
            if card == self._card:
                return
            self._card = card
        self._paint()

    def stats(self) -> PipelineStats:
        """The counts now."""
        with self._wake:
            return PipelineStats(
                self._frames_in,
                self._submitted,
                self._repeated,
                self._cards,
                self._filled,
                dict(self._dropped),
                self._last_frame_ns,
                self._generation,
                self._first_frame_ns,
            )

    async def close(self) -> None:
        """End the thread; the node stays open. Leases still out may be released later."""
        with self._wake:
            self._closing = True
            displaced = self._switch(None, None, None, None)
            self._wake.notify_all()
        self._release(displaced)
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        self._thread.join()
        self._painter.shutdown(wait=True, cancel_futures=True)

    # FrameSink: any thread.

    def lease(self, nbytes: int) -> Lease | None:
        with self._wake:
            if self._generation is None:
                return None
            staging = self._staging
        return self._node.lease(nbytes) if staging is None else staging.lease(nbytes)

    def deliver(self, frame: Frame) -> None:
        now = time.monotonic_ns()
        displaced: Frame | None = frame
        with self._wake:
            self._frames_in += 1
            if frame.generation != self._generation or self._lost:
                self._dropped["stale"] += 1
            elif not self._watched:
                self._dropped["unwatched"] += 1
            elif not self._convertible:
                self._dropped["format"] += 1
            elif self._mode is None or not same_layout(frame.mode, self._mode):
                self._dropped["mode"] += 1
            else:
                displaced, self._mailbox = self._mailbox, frame
                if displaced is not None:
                    self._dropped["displaced"] += 1
                self._pacer.arrived(now)
                self._wake.notify()
        self._release(displaced)

    def control(self, generation: int, control: int, value: int) -> None:
        with self._wake:
            if generation != self._generation or self._lost:
                return
        self._call(self._on_control, generation, control, value)

    def dropped(self, generation: int, cause: str) -> None:
        with self._wake:
            self._dropped[cause] += 1

    def lost(self, generation: int, why: Exception) -> None:
        with self._wake:
            if generation != self._generation or self._lost:
                return
            self._lost = True
            self._pacer.follow(None)
        self._call(self._on_lost, generation, why)

    # Helpers of the event loop's side.

    def _switch(
        self, generation: int | None, mode: Mode | None, converter: Converter | None, staging: BufferPool | None
    ) -> Frame | None:
        """Under the lock: from here on another source, or none, counts. The answer is for :meth:`_release`."""
        self._generation = generation
        self._lost = False
        self._mode = mode
        self._converter, self._convertible, self._staging = converter, True, staging
        self._first_frame_ns = 0
        self._pacer.follow(None if mode is None else mode.interval_ns)
        if generation is not None:
            self._node_generation = self._node.adopt()
        displaced, self._mailbox = self._mailbox, None
        if displaced is not None:
            self._dropped["stale"] += 1
        return displaced

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

    def _watch(self, watched: bool) -> None:
        displaced = None
        with self._wake:
            if watched == self._watched:
                return
            self._watched = watched
            if watched:
                self._pacer.restart(time.monotonic_ns())
            else:
                displaced, self._mailbox = self._mailbox, None
            self._wake.notify()
        self._release(displaced)

    def _reformat(self, format: Mode) -> None:
        """An app chose another format: new converter, new card. The source goes on if it can be converted."""
        mode = self._mode
        converter, convertible, staging = None, True, None
        if mode is not None:
            try:
                converter = make_converter(mode, format, self._book, self._measured)
            except Refused as error:
                convertible = False
                log.warning("frames are dropped until the source is configured anew: %s", error)
            if not same_layout(mode, format):
                staging = BufferPool(STAGING, mode.nbytes)
        with self._wake:
            self._format = format
            self._converter, self._convertible, self._staging = converter, convertible, staging
            self._pacer = Pacer(format.interval_ns)
            self._pacer.follow(None if mode is None else mode.interval_ns)
            self._pacer.restart(time.monotonic_ns())
            self._card_image = black(format)
            self._wake.notify()
        self._paint()

    def _paint(self) -> None:
        """Draw the present card off the loop's thread; the newest card in the newest format wins."""
        card, format = self._card, self._format

        def painted(future: Future[bytes]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is not None:
                log.error("the card cannot be drawn", exc_info=error)
                return
            with self._wake:
                if (card, format) == (self._card, self._format):
                    self._card_image = future.result()
                    self._placeholder_due = True
                    self._wake.notify()

        self._painter.submit(render, card, format).add_done_callback(painted)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        """In the loop's thread; not at all once the loop is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    # The thread.

    def _run(self) -> None:
        failure: Exception = Gone("the pipeline ended by an error; see the log")
        try:
            while True:
                placeholder, job = self._next()
                if placeholder is not None:
                    self._node.placeholder(placeholder)
                elif job is None:
                    return
                elif job.frame is not None:
                    self._show_frame(job.frame, job)
                else:
                    self._show_filler(job)
        except (MaglensError, OSError) as error:
            failure = error
        finally:
            with self._wake:
                closing = self._closing
            if not closing:
                self._call(self._on_failed, failure)

    def _next(self) -> tuple[bytes | None, _Job | None]:
        """Wait until something is due: a new placeholder, or a picture; neither when closing."""
        with self._wake:
            while not self._closing:
                if self._placeholder_due:
                    self._placeholder_due = False
                    return self._card_image, None
                if not self._watched and not self._idle_fill:
                    self._wake.wait()
                    continue
                now = time.monotonic_ns()
                due = self._pacer.next_ns(self._mailbox is not None) if self._watched else self._pacer.idle_ns()
                if now < due:
                    self._wake.wait((due - now) / 1e9)
                    continue
                frame, self._mailbox = self._mailbox, None
                hold = self._watched and now - self._last_frame_ns <= self._hold_ns()
                return None, _Job(frame, self._converter, self._format, self._node_generation, self._card_image, hold)
            return None, None

    def _hold_ns(self) -> int:
        if self._mode is None or self._lost:
            return HOLD_NS
        return max(HOLD_NS, HOLD_INTERVALS * self._mode.interval_ns)

    def _show_frame(self, frame: Frame, job: _Job) -> None:
        lease: Lease | None = frame.lease
        nbytes = frame.nbytes
        cause: str | None = None
        if job.converter is not None:
            lease, cause = self._convert(frame, job.converter, job.format.nbytes)
            nbytes = job.format.nbytes
        if lease is None:
            self._count_drop(cause or "no_buffer")
            return
        now = time.monotonic_ns()
        stamp = self._stamps.frame(frame.exposure_ns, now, job.format.interval_ns)
        shown = self._node.submit(Frame(lease, nbytes, job.format, frame.seq, stamp, job.node_generation, frame.meta))
        with self._wake:
            if cause is not None:
                self._dropped[cause] += 1
            if not shown:
                self._dropped["refused"] += 1
                return
            self._showing = None
            self._submitted += 1
            self._last_frame_ns = now
            if self._first_frame_ns == 0 and frame.generation == self._generation:
                self._first_frame_ns = now
                self._call(self._on_first, frame.generation)
            self._pacer.shown(now, True, self._filled_since())

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

    def _filled_since(self) -> int:
        """Under the lock: what the node has shown by itself since the last picture but one of ours."""
        filled = self._node.filled
        since, self._filled = filled - self._filled, filled
        return since

    def _count_drop(self, cause: str) -> None:
        with self._wake:
            self._dropped[cause] += 1

    def _show_filler(self, job: _Job) -> None:
        """The last frame while it may stand in, else the card."""
        now = time.monotonic_ns()
        stamp = self._stamps.filler(now, job.format.interval_ns)
        same = job.hold if self._showing is None else self._showing is job.card
        repeated = same and self._node.repeat(stamp, job.node_generation)
        shown = repeated or self._show_card(job, stamp)
        with self._wake:
            self._pacer.shown(now, False, self._filled_since())
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
