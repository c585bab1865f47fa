# SPDX-License-Identifier: MIT
"""Virtual camera: a lens and a sensor before the scene. Its controls change the picture; it needs no hardware.

A thread of its own renders anew when a control was moved; until it is done, frames show the settings before, and
say so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from maglens_driver.control import Cid
from maglens_driver.errors import Refused
from maglens_driver.frame import Meta
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import Mode
from maglens_driver.virtual.canvas import Abandoned, GiveUp
from maglens_driver.virtual.lens import LensData
from maglens_driver.virtual.mark import Mark
from maglens_driver.virtual.optics import FINE_PER_COARSE, Optics
from maglens_driver.virtual.picture import Composer, Rendered
from maglens_driver.virtual.render import Renderer, scaled

Size = tuple[int, int]
PREPARE_S: Final = 2.0  # a fast machine renders every size in it
_PROVISIONAL: Final = -1  # version of a picture that was scaled from another size


class VirtualCamera:
    """One lens with its sensor. Methods may be called from any thread, :meth:`compose` from one at a time."""

    def __init__(self, lens: LensData) -> None:
        self.lens = lens
        self._controls = {c.id: c for c in lens.descriptor.controls}
        self._values = {c.id: c.default for c in lens.descriptor.controls}
        self._born = time.monotonic()
        self._changed = threading.Condition()
        self._version = 0
        self._rendered: dict[Size, tuple[int, Rendered]] = {}
        self._renderer: tuple[Size, Renderer] | None = None
        self._size: Size | None = None  # of the mode that was selected last
        self._composer: Composer | None = None
        self._rendering = threading.Lock()
        self._open = True
        self._thread: threading.Thread | None = None

    @property
    def descriptor(self) -> Descriptor:
        """What this module says of itself."""
        return self.lens.descriptor

    def values(self) -> dict[int, int]:
        """Present value of every control."""
        with self._changed:
            return dict(self._values)

    def check(self, ids: Iterable[int]) -> None:
        """``Refused("INVALID")`` if any of these controls is not this camera's."""
        for control in ids:
            if control not in self._controls:
                raise Refused("INVALID", f"{self.descriptor.identity} has no control {control:#010x}")

    def set(self, values: Mapping[int, int]) -> dict[int, int]:
        """Move controls; the answer holds the values as clamped. All or nothing."""
        self.check(values)
        clamped = {control: self._controls[control].clamp(value) for control, value in values.items()}
        moved = self._coupled(clamped)
        with self._changed:
            if any(self._values[control] != value for control, value in moved.items()):
                self._values.update(moved)
                self._version += 1
                self._changed.notify_all()
        return clamped

    def _coupled(self, values: Mapping[int, int]) -> dict[int, int]:
        """``values``, and what they move along: focus has one motor and two controls. The finer one counts."""
        moved = dict(values)
        fine, coarse = (self._controls.get(control) for control in (Cid.FOCUS_FINE, Cid.FOCUS_ABSOLUTE))
        if fine is None or coarse is None:
            return moved
        if fine.id in values:
            moved[coarse.id] = coarse.clamp(round(values[fine.id] / FINE_PER_COARSE))
        elif coarse.id in values:
            moved[fine.id] = fine.clamp(values[coarse.id] * FINE_PER_COARSE)
        return moved

    def reset(self) -> None:
        """Put every control at its default, as losing power does."""
        self.set({c.id: c.default for c in self._controls.values()})

    def prepare(self, budget_s: float = PREPARE_S) -> None:
        """Render sizes at the present settings, the smallest first; others until ``budget_s`` seconds have passed."""
        until = time.monotonic() + budget_s
        for size in sorted({(m.width, m.height) for m in self.descriptor.modes}):
            self._render(size, self._is_closed)
            if time.monotonic() > until:
                return

    def select(self, mode: Mode) -> None:
        """Choose the mode of the frames to come.

        Takes no longer than a copy where the size has been rendered before; else, where any has, than to scale that:
        frames are then coarse until the thread has rendered the size.
        """
        size = mode.width, mode.height
        with self._changed:
            self._size = size
            missing = size not in self._rendered
        if missing:
            self._provide(size)
        with self._changed:
            self._composer = Composer(self._rendered[size][1], mode)
            if self._thread is None and self._open:
                self._thread = threading.Thread(target=self._keep_rendering, name="render", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def compose(self, view: memoryview, mark: Mark) -> tuple[int, Meta]:
        """Write the picture as it is now into ``view``; its length in bytes and the settings it shows."""
        composer = self._composer
        if composer is None:
            raise ValueError("no mode was selected")
        return composer.compose(view, time.monotonic() - self._born, mark), composer.rendered.meta

    def settled(self, timeout_s: float) -> bool:
        """Wait until the picture shows the present settings; whether it did within ``timeout_s`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._stale(), timeout_s)

    def close(self) -> None:
        """End the rendering thread. Idempotent."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _provide(self, size: Size) -> None:
        """Some picture of a size, without waiting for a rendering that is under way."""
        with self._changed:
            others = [rendered for _, rendered in self._rendered.values()]
        if not others:
            self._render(size, self._is_closed)
            return
        picture = scaled(max(others, key=lambda r: r.luma.size), *size)
        with self._changed:
            self._rendered.setdefault(size, (_PROVISIONAL, picture))

    def _render(self, size: Size, give_up: GiveUp) -> None:
        with self._rendering:
            with self._changed:
                version, values = self._version, dict(self._values)
            if self._renderer is None or self._renderer[0] != size:
                self._renderer = size, Renderer(*size, self.descriptor.lens.name)
            picture = self._renderer[1].render(Optics.of(self.descriptor, values), give_up)
            with self._changed:
                self._rendered[size] = version, picture

    def _is_closed(self) -> bool:
        return not self._open

    def _is_unwanted(self, size: Size) -> bool:
        return not self._open or self._size != size

    def _stale(self) -> bool:
        composer = self._composer
        if composer is None:
            return False
        size = composer.mode.width, composer.mode.height
        return size == self._size and self._rendered[size][0] != self._version  # else another is being selected

    def _keep_rendering(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._open or self._stale())
                composer = self._composer
            if not self._open or composer is None:
                return
            size = composer.mode.width, composer.mode.height
            try:
                self._render(size, partial(self._is_unwanted, size))
            except Abandoned:
                continue
            with self._changed:
                current = self._composer
                if current is not None and (current.mode.width, current.mode.height) == size:
                    self._composer = Composer(self._rendered[size][1], current.mode)
                self._changed.notify_all()
