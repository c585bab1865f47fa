# SPDX-License-Identifier: GPL-2.0-or-later
"""Auto focus: one search when asked, or one whenever the scene has changed.

::

    manual -> search -> settle -> held -> search
              search -> failed -> search
    * -> manual

A hand on the ring or an app's write is :meth:`AutoFocus.stop`: manual at once, wherever the search stands.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from statistics import fmean
from typing import Final

from maglens_driver.control import ControlInfo
from maglens_v4l2.focus_search import FocusScale, FocusSearch
from maglens_v4l2.measurement import UDPT_PER_CDPT, Measurement

LATENCY: Final = 2  # frames from a setting to the first that shows it, where frames do not tell
LATE: Final = 150  # so many frames after a setting it is no longer waited for
REFERENCE: Final = 4  # frames whose contrast is remembered as that of a sharp picture
RETRY: Final = 60  # frames after a failure until a continuous search is tried again
CHANGED: Final = 0.3  # a share by which contrast differs once the scene has changed ...
PATIENCE: Final = 6  # ... for so many frames


class FocusState(enum.Enum):
    """Where it is."""

    MANUAL = "manual"  # a person has it
    SEARCH = "search"  # looking for the best position
    SETTLE = "settle"  # found, on the way there
    HELD = "held"  # sharp
    FAILED = "failed"  # nothing there to focus on


_S = FocusState
TRANSITIONS: Final[Mapping[FocusState, frozenset[FocusState]]] = {
    _S.MANUAL: frozenset((_S.SEARCH,)),
    _S.SEARCH: frozenset((_S.SETTLE, _S.FAILED, _S.MANUAL)),
    _S.SETTLE: frozenset((_S.HELD, _S.MANUAL)),
    _S.HELD: frozenset((_S.SEARCH, _S.MANUAL)),
    _S.FAILED: frozenset((_S.SEARCH, _S.MANUAL)),
}


class Status(enum.IntFlag):
    """AUTO_FOCUS_STATUS, from linux/v4l2-controls.h."""

    IDLE = 0
    BUSY = 1
    REACHED = 2
    FAILED = 4


STATUS_OF: Final[Mapping[FocusState, Status]] = {
    _S.MANUAL: Status.IDLE,
    _S.SEARCH: Status.BUSY,
    _S.SETTLE: Status.BUSY,
    _S.HELD: Status.REACHED,
    _S.FAILED: Status.FAILED,
}


class AutoFocus:
    """Pure: measurements in, positions of FOCUS_FINE out. ``fine`` is its range; ``confusion_m`` the sensor's circle
    of confusion, metres; ``pixel_m`` a pixel of the frames measured. ``told``: frames say where
    focus was, at infinity too."""

    def __init__(self, fine: ControlInfo, confusion_m: float, pixel_m: float, told: bool = True) -> None:
        self._told = told
        self._exactly = False  # in millionths, not hundredths
        self._fine = fine
        self._confusion_m = confusion_m
        self._pixel = pixel_m / confusion_m
        self.state = FocusState.MANUAL
        self.continuous = False
        self.positions = 0  # evaluated by the last search
        self._scale: FocusScale | None = None
        self._search: FocusSearch | None = None
        self._asked = self._began = 0
        self._written = True  # the module has it
        self._again = False  # it was refused
        self._frames = 0  # since then
        self._seen: list[Measurement] = []  # at this position, by the search
        self._reference: list[float] = []
        self._changed = 0  # frames in a row unlike the reference

    @property
    def status(self) -> Status:
        """For AUTO_FOCUS_STATUS."""
        return STATUS_OF[self.state]

    def start(self, continuous: bool) -> None:
        """Search at the next frame, and, when ``continuous``, again when the scene has changed."""
        self.continuous = continuous
        self._search, self._scale = None, None
        if self.state is FocusState.SETTLE:
            self._enter(FocusState.MANUAL)
        self._enter(FocusState.SEARCH)

    def stop(self) -> None:
        """A person has it from now on; focus stays where it is."""
        self.continuous, self._written, self._again = False, True, False
        self._enter(FocusState.MANUAL)

    @property
    def is_on(self) -> bool:
        """Whether focus is not a person's."""
        return self.state is not FocusState.MANUAL

    def wrote(self, udpt: int | None) -> None:
        """The module has what was asked for, as it has clamped it; None: it did not take it."""
        if udpt is not None:
            self._asked = udpt
        self._again = udpt is None and self.is_on
        self._written, self._frames = True, 0

    def observe(self, seen: Measurement) -> int | None:
        """A frame came. The answer is the position to write, if any; :meth:`wrote` is to follow."""
        if self.state is FocusState.MANUAL or not self._written:
            return None
        if self._again:
            self._again, self._written = False, False
            return self._asked
        if self._search is None and self.state is FocusState.SEARCH:
            return self._begin(seen, near=False)
        self._frames += 1
        if self._told and self._frames >= LATE and not seen.focus_udpt and self._asked >= UDPT_PER_CDPT:
            self._told = False  # after all; and what was taken for its word is worth nothing
            if self.state is FocusState.SEARCH:
                return self._begin(seen, near=False)
        if not self._shows(seen):
            return None
        if self.state is FocusState.SEARCH:
            assert self._scale is not None and self._search is not None
            self._seen.append(seen)
            if len(self._seen) < self._search.frames:
                return None
            contrast, noise = fmean(s.contrast for s in self._seen), fmean(s.noise for s in self._seen)
            self._search.add(self._scale.circles(self._asked), contrast, noise)
            return self._go_on()
        if self.state is FocusState.SETTLE:
            self._reference.append(seen.contrast)
            if len(self._reference) >= REFERENCE:
                self._enter(FocusState.HELD)
            return None
        return self._watch(seen)

    def _begin(self, seen: Measurement, near: bool) -> int | None:
        meta, fine = seen.meta, self._fine
        scale = FocusScale(meta.focal_um / 1e6, meta.fnumber_milli / 1000, self._confusion_m)
        if not meta.focal_um or not meta.fnumber_milli or not scale.reaches(fine.maximum):
            self._enter(FocusState.FAILED)
            self._reference = [seen.contrast]
            return None
        self._scale = scale
        self._asked = self._began = fine.clamp(seen.focus_udpt)  # a module may say anything
        low, here, high = (scale.circles(udpt) for udpt in (fine.minimum, self._began, fine.maximum))
        if high - low <= 1:  # all of it is within the depth of field
            self.positions, self._reference, self._changed = 0, [], 0
            self._enter(FocusState.SETTLE)
            return self._go_to(here)
        step = high - scale.circles(fine.maximum - fine.step)
        self._search = FocusSearch(low, high, here, self._pixel, seen.noise, near, step)
        return self._go_on()

    def _go_on(self) -> int | None:
        assert self._scale is not None and self._search is not None
        z = self._search.next()
        self.positions = self._search.positions
        if z is None:
            best, self._search = self._search.best, None
            self._reference, self._changed = [], 0
            if best is None:
                self._enter(FocusState.FAILED)
                self._asked, self._written = self._began, False
                return self._began
            self._enter(FocusState.SETTLE)
            z = best
        return self._go_to(z)

    def _go_to(self, z: float) -> int:
        assert self._scale is not None
        self._seen = []
        self._asked = self._fine.clamp(round(self._scale.udpt(z)))
        self._written = False
        return self._asked

    def _watch(self, seen: Measurement) -> int | None:
        """Held or failed: has the scene changed for good?"""
        if not self._reference:
            self._reference = [seen.contrast]
        reference = sum(self._reference) / len(self._reference)
        low, high = reference * (1 - CHANGED), reference / (1 - CHANGED)
        self._changed = 0 if low <= seen.contrast <= high else self._changed + 1
        near = self.state is FocusState.HELD
        due = self._changed >= PATIENCE or (not near and self._frames >= RETRY)
        if not self.continuous or not due:
            return None
        self._enter(FocusState.SEARCH)
        return self._begin(seen, near)

    def _shows(self, seen: Measurement) -> bool:
        """Whether a frame was taken at the position asked for last."""
        if self._frames >= LATE:
            return True
        self._told = self._told or seen.focus_udpt > 0
        if not self._told:
            return self._frames > LATENCY
        self._exactly = self._exactly or seen.meta.focus_udpt > 0
        apart = abs(seen.focus_udpt - self._asked)
        if apart <= max(self._fine.step // 2, 1):  # nearer than the motor's next position
            return True
        if self._exactly:
            return False
        return self._frames > LATENCY and apart < UDPT_PER_CDPT  # as near as it says, rounded either way

    def _enter(self, state: FocusState) -> None:
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"auto focus: no way from {self.state.value} to {state.value}")
        self.state = state
