# SPDX-License-Identifier: GPL-2.0-or-later
"""Feed: one stream of a source into a pipeline, and the sink that the source delivers to."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Protocol

from maglens_driver.errors import Refused
from maglens_driver.frame import Frame, Lease
from maglens_driver.mode import Mode
from maglens_v4l2.convert import Converter, same_layout
from maglens_v4l2.optics import Optics, through
from maglens_v4l2.orientation import UPRIGHT, Orientation
from maglens_v4l2.pool import BufferPool
from maglens_v4l2.recipe_book import Measured, RecipeBook

log = logging.getLogger(__name__)

HOLD_NS = 500_000_000  # how long the last frame stands in for a missing one
HOLD_INTERVALS = 2  # the same for a source slower than that, in its own intervals
STAGING = 8  # frames a source may have in hand where they need converting, ...
STAGING_BYTES = 512 * 1024 * 1024  # ... fewer of those so large that they would take more than this
STAGING_LEAST = 4  # two that arrive, one that waits, one that is converted


class Door(Protocol):
    """What a feed needs of its pipeline. Any thread; no call blocks."""

    def lease(self, feed: Feed, nbytes: int) -> Lease | None: ...

    def deliver(self, feed: Feed, frame: Frame) -> None: ...

    def control(self, feed: Feed, control: int, value: int) -> None: ...

    def active(self, feed: Feed, control: int, active: bool) -> None: ...

    def dropped(self, cause: str) -> None: ...

    def lost(self, feed: Feed, why: Exception) -> None: ...


class Feed:
    """Implements :class:`maglens_driver.source.FrameSink` for one generation, from ``mode`` to the format ``shown``.

    ``over``: nothing of it counts any more. ``converter`` None: frames pass through as they are. What changes here
    changes under the pipeline's lock. ``optics``: a bare lens before the source. Raises ``Refused`` when no way leads
    from one to the other.
    """

    def __init__(
        self,
        door: Door,
        generation: int,
        mode: Mode,
        shown: Mode,
        measured: Measured | None = None,
        orientation: Orientation = UPRIGHT,
        optics: Optics | None = None,
    ) -> None:
        self.optics = optics
        self.generation = generation
        self.mode = mode
        self.over = False
        self.convertible = True
        self.book = RecipeBook()
        self._door = door
        self._measured = measured
        self._orientation = orientation
        self.converter = self._first = through(optics, mode, shown, orientation, self.book, measured)
        self.staging = self._make_staging(shown)

    @property
    def hold_ns(self) -> int:
        """How long the last frame stands in for a missing one."""
        return HOLD_NS if self.over else max(HOLD_NS, HOLD_INTERVALS * self.mode.interval_ns)

    def way(self, shown: Mode) -> tuple[Converter | None, bool]:
        """The converter to another format, and whether there is a way at all."""
        try:
            way = through(self.optics, self.mode, shown, self._orientation, self.book, self._measured, self._first)
            return way, True
        except (Refused, MemoryError) as error:
            why = str(error) or "there is no memory for what it takes"
            log.warning("frames are dropped until the source is configured anew: %s", why)
            return None, False

    def reformat(self, shown: Mode, way: tuple[Converter | None, bool]) -> None:
        """An app chose another format."""
        self.converter, self.convertible = way
        self.staging = self._make_staging(shown)

    def _make_staging(self, shown: Mode) -> BufferPool | None:
        passes = same_layout(self.mode, shown) and self._orientation == UPRIGHT and self.optics is None
        if passes and self.mode.nbytes <= shown.nbytes:  # else the node's own buffers may be too small for a lease
            return None
        count = max(STAGING_LEAST, min(STAGING, STAGING_BYTES // self.mode.nbytes))
        return BufferPool(count, self.mode.nbytes)

    # FrameSink: any thread.

    def lease(self, nbytes: int) -> Lease | None:
        return self._door.lease(self, nbytes)

    def deliver(self, frame: Frame) -> None:
        if self.optics is not None:
            frame = replace(frame, meta=self.optics.meta(frame.meta))
        self._door.deliver(self, frame)

    def control(self, generation: int, control: int, value: int) -> None:
        if generation == self.generation:
            self._door.control(self, control, value)

    def active(self, generation: int, control: int, active: bool) -> None:
        if generation == self.generation:
            self._door.active(self, control, active)

    def dropped(self, generation: int, cause: str) -> None:
        self._door.dropped(cause)

    def lost(self, generation: int, why: Exception) -> None:
        if generation == self.generation:
            self._door.lost(self, why)
