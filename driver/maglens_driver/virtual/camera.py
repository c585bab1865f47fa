# SPDX-License-Identifier: MIT
"""Virtual camera: a lens and a sensor before the scene. Its controls change the picture; it needs no hardware.

A thread of its own renders anew when a control was moved; until it is done, frames show the settings before, and
say so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from maglens_driver.control import Cid
from maglens_driver.errors import MaglensError, Refused, WrongState
from maglens_driver.frame import Meta
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.limits import FIRST_FRAME_S
from maglens_driver.mode import RAW, Mode
from maglens_driver.virtual.canvas import Abandoned, GiveUp, never
from maglens_driver.virtual.lens import LensData
from maglens_driver.virtual.mark import Mark
from maglens_driver.virtual.optics import FINE_PER_COARSE, SCENE_KELVIN, Optics
from maglens_driver.virtual.picture import Composer, Rendered
from maglens_driver.virtual.raw_picture import COARSE, Exposed, RawComposer, RawRenderer, flat, takes_of
from maglens_driver.virtual.render import Renderer, scaled
from maglens_driver.virtual.stack import Stack

Kind = tuple[int, int, int]  # width, height, and the format where it is raw: all that a picture is rendered for
PREPARE_S: Final = 2.0  # a fast machine renders every size in it
MAX_COARSE: Final = 1 << 22  # pixels; a larger raw frame is grey at first, for its noise alone takes a second
COARSE_S: Final = FIRST_FRAME_S / 2  # and so is one that takes longer to draw than the first leader may be late
_PROVISIONAL: Final = -1  # version of a picture that was scaled from another size


class Player(Protocol):
    """Makes frames of one picture in one mode."""

    @property
    def mode(self) -> Mode: ...

    @property
    def rendered(self) -> Rendered | Exposed: ...

    def compose(self, view: memoryview, seconds: float, mark: Mark) -> int:
        """Write the frame of time ``seconds`` with ``mark``; its length in bytes."""
        ...


def kind_of(mode: Mode) -> Kind:
    """What distinguishes pictures: NV12, YUYV and JPEG are made of the same."""
    return mode.width, mode.height, mode.fourcc if mode.fourcc in RAW else 0


def player(picture: Rendered | Exposed, mode: Mode) -> Player:
    """For the kind of picture."""
    return Composer(picture, mode) if isinstance(picture, Rendered) else RawComposer(picture, mode)


class VirtualCamera:
    """One lens with its sensor. Methods may be called from any thread, :meth:`compose` from one at a time.

    ``stack``: where light that was drawn for raw modes, and frames that were rehearsed, are kept.
    """

    def __init__(self, lens: LensData, stack: Path | None = None) -> None:
        self.lens = lens
        self._stack = None if stack is None else Stack(stack)
        self._light = (SCENE_KELVIN, 1.0)
        self._controls = {c.id: c for c in lens.descriptor.controls}
        self._values = {c.id: c.default for c in lens.descriptor.controls}
        self._born = time.monotonic()
        self._changed = threading.Condition()
        self._version = 0
        self._rendered: dict[Kind, tuple[int, Rendered | Exposed]] = {}
        self._renderer: tuple[Kind, Renderer | RawRenderer] | None = None
        self._selected: Mode | None = None
        self._composer: Player | None = None
        self._rendering = threading.Lock()
        self._rehearsing = threading.Lock()
        self._rehearsed: RawRenderer | None = None
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

    def shine(self, kelvin: int, level: float) -> None:
        """Change the light on the scene: its temperature, and its strength as a multiple of what is usual."""
        with self._changed:
            self._light = kelvin, level
            self._version += 1
            self._changed.notify_all()

    def prepare(self, budget_s: float = PREPARE_S) -> None:
        """Render pictures at the present settings, the smallest first; others until ``budget_s`` seconds have
        passed."""
        until = time.monotonic() + budget_s
        kinds = {kind_of(mode): self.descriptor.with_facts(mode) for mode in self.descriptor.modes}
        for kind in sorted(kinds, key=lambda k: (k[0] * k[1], k[2])):
            self._render(kinds[kind], self._is_closed)
            if time.monotonic() > until:
                return

    def rehearsal(self, mode: Mode) -> tuple[int, int]:
        """How many positions of focus a raw mode has at the present settings, and how many bytes their frames take.
        ``WrongState`` where there is no stack; ``MaglensError`` where it has no room for them."""
        if self._stack is None:
            raise WrongState("there is nowhere to keep pictures", hint="run it as a service, or set STATE_DIRECTORY")
        positions = len(self._rehearser(mode).positions(self._optics()))
        nbytes = positions * takes_of(mode) * mode.nbytes
        if nbytes > self._stack.max_bytes:
            room = f"{self._stack.max_bytes / 1e9:.1f} GB there are"
            raise MaglensError(
                f"{positions} positions of focus take {nbytes / 1e9:.1f} GB, more than the {room}",
                hint="close the iris, which takes fewer positions, or choose a smaller size",
            )
        return positions, nbytes

    def rehearse(self, mode: Mode, position: int) -> None:
        """Keep the frames of one of :meth:`rehearsal`'s positions at the present settings: focus there then plays
        them. ``IndexError`` if there is no such position (any more)."""
        with self._rehearsing:
            renderer = self._rehearser(mode)
            positions = renderer.positions(self._optics())
            if position not in range(len(positions)):
                raise IndexError(position)
            renderer.rehearse(positions[position], self._is_closed)
            if position == len(positions) - 1:
                self._rehearsed = None  # what it holds is large

    def _rehearser(self, mode: Mode) -> RawRenderer:
        """A renderer beside the one that draws what is shown."""
        if self._rehearsed is None or self._rehearsed.mode != mode:
            assert self.descriptor.sensor is not None
            self._rehearsed = RawRenderer(self.descriptor.sensor, mode, self._stack)
        return self._rehearsed

    def select(self, mode: Mode) -> None:
        """Choose the mode of the frames to come. Nothing is drawn yet."""
        with self._changed:
            self._selected = mode
            self._changed.notify_all()  # what is being drawn for another mode is given up

    def begin(self, give_up: GiveUp = never) -> None:
        """Have a picture of the selected mode; :class:`Abandoned` once ``give_up()``, or another mode is selected.

        Takes no longer than a copy where the picture has been rendered before; else, where any has, than to scale
        that: frames are then coarse until the thread has rendered it.
        """
        with self._changed:
            mode, composer = self._selected, self._composer
            if mode is None:
                raise ValueError("no mode was selected")
            if composer is not None and composer.mode == mode:
                return
            kind = kind_of(mode)
            missing = kind not in self._rendered
        if missing:
            self._provide(mode, lambda: give_up() or self._is_unwanted(kind))
        with self._changed:
            picture = self._rendered[kind][1]
        made = player(picture, mode)
        with self._changed:
            self._composer = made
            if self._thread is None and self._open:
                self._thread = threading.Thread(target=self._keep_rendering, name="render", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def compose(self, view: memoryview, mark: Mark) -> tuple[int, Meta]:
        """Write the picture as it is now into ``view``; its length in bytes and the settings it shows. The first of
        a mode takes as long as :meth:`begin`."""
        self.begin()
        composer = self._composer
        assert composer is not None
        return composer.compose(view, time.monotonic() - self._born, mark), composer.rendered.meta

    def settled(self, timeout_s: float) -> bool:
        """Wait until the picture shows the present settings; whether it did within ``timeout_s`` seconds."""
        if self._selected is not None:
            self.begin()
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

    def _optics(self) -> Optics:
        """Settings and light as they are now."""
        with self._changed:
            optics = Optics.of(self.descriptor, self._values)
            return replace(optics, light_kelvin=self._light[0], light_level=self._light[1])

    def _provide(self, mode: Mode, give_up: GiveUp) -> None:
        """Some picture, without waiting for a rendering that is under way."""
        if mode.fourcc in RAW:
            picture: Rendered | Exposed = self._coarse(mode, give_up)
        else:
            with self._changed:
                others = [picture for _, picture in self._rendered.values() if isinstance(picture, Rendered)]
            if not others:
                self._render(mode, give_up)
                return
            picture = scaled(max(others, key=lambda r: r.luma.size), mode.width, mode.height)
        with self._changed:
            self._rendered.setdefault(kind_of(mode), (_PROVISIONAL, picture))

    def _coarse(self, mode: Mode, give_up: GiveUp) -> Exposed:
        optics = self._optics()
        if mode.width * mode.height > MAX_COARSE:
            return flat(mode, optics)
        assert self.descriptor.sensor is not None
        renderer = RawRenderer(self.descriptor.sensor, mode, shrink=COARSE)
        until = time.monotonic() + COARSE_S
        try:
            return renderer.render(optics, lambda: give_up() or time.monotonic() > until)
        except Abandoned:
            if give_up():
                raise
            return flat(mode, optics)

    def _make_renderer(self, mode: Mode) -> Renderer | RawRenderer:
        if mode.fourcc not in RAW:
            return Renderer(mode.width, mode.height, self.descriptor.lens.name)
        assert self.descriptor.sensor is not None
        return RawRenderer(self.descriptor.sensor, mode, self._stack)

    def _render(self, mode: Mode, give_up: GiveUp) -> None:
        kind = kind_of(mode)
        with self._rendering:
            with self._changed:
                version = self._version
            optics = self._optics()
            if self._renderer is None or self._renderer[0] != kind:
                self._renderer = kind, self._make_renderer(mode)
            picture = self._renderer[1].render(optics, give_up)
            with self._changed:
                self._rendered[kind] = version, picture

    def _is_closed(self) -> bool:
        return not self._open

    def _is_unwanted(self, kind: Kind) -> bool:
        selected = self._selected
        return not self._open or selected is None or kind_of(selected) != kind

    def _stale(self) -> bool:
        composer = self._composer
        if composer is None:
            return False
        kind = kind_of(composer.mode)
        return not self._is_unwanted(kind) and self._rendered[kind][0] != self._version

    def _keep_rendering(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._open or self._stale())
                composer = self._composer
            if not self._open or composer is None:
                return
            kind = kind_of(composer.mode)
            try:
                self._render(composer.mode, partial(self._is_unwanted, kind))
            except Abandoned:
                continue
            with self._changed:
                current = self._composer
                if current is not None and kind_of(current.mode) == kind:
                    self._composer = player(self._rendered[kind][1], current.mode)
                self._changed.notify_all()
