# SPDX-License-Identifier: MIT
"""Raw picture: a scene as a raw sensor sees it at one setting, several times over with other noise, and its mark."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from maglens_driver.color import neutral
from maglens_driver.frame import Meta
from maglens_driver.link.descriptor import Sensor
from maglens_driver.mode import Mode
from maglens_driver.virtual.bayer import Bytes, Samples, bits_of, cfa_of, pack
from maglens_driver.virtual.canvas import GiveUp
from maglens_driver.virtual.mark import CELLS, Mark, cells, strip_height
from maglens_driver.virtual.optics import Optics
from maglens_driver.virtual.render import Renderer
from maglens_driver.virtual.scene import LAYERS
from maglens_driver.virtual.sensor import SensorModel
from maglens_driver.virtual.stack import Stack

TAKES: Final = ((1 << 21, 4), (1 << 24, 2))  # up to so many pixels, so many takes with other noise; else one
MAX_DRAWN: Final = 4096  # a wider picture is drawn smaller, and enlarged
COARSE: Final = 4  # how much smaller a picture is drawn that is wanted at once
FOCUS_STEP: Final = 0.5  # pixels of blur between drawn positions of focus ...
FOCUS_SHARE: Final = 0.125  # ... or so much of it
_GREY: Final = 0.18
_MARK_WHITE: Final = 0.75  # of the sensor's range
_MARK_BLACK: Final = 0.01


@dataclass(frozen=True, slots=True)
class Exposed:
    """``takes``: packed frames (flat) without marks, the same but for their noise. ``kelvin``: the light's."""

    takes: tuple[Bytes, ...]
    meta: Meta
    kelvin: int


class RawComposer:
    """Plays one :class:`Exposed` as frames of one mode. Not for several threads at once."""

    def __init__(self, exposed: Exposed, mode: Mode) -> None:
        self.rendered = exposed
        self.mode = mode
        self._rows = strip_height(mode.height)
        self._lines = _cell_rows(mode, exposed.kelvin)
        per_byte = np.arange(mode.stride) * 8 // bits_of(mode) // 4 * 4  # samples packed together share a cell
        self._cell_of_byte = np.minimum(per_byte * CELLS // mode.width, CELLS - 1)

    def compose(self, view: memoryview, _seconds: float, mark: Mark) -> int:
        """Write a frame with ``mark`` into ``view``; its length in bytes."""
        mode, takes = self.mode, self.rendered.takes
        flat = np.frombuffer(view, np.uint8, mode.nbytes)
        np.copyto(flat, takes[mark.number % len(takes)])
        frame = flat.reshape(mode.height, mode.stride)
        for strip, rows in zip(cells(mark), (frame[: self._rows], frame[-self._rows :]), strict=True):
            white = strip[self._cell_of_byte].astype(bool)
            for phase in (0, 1):
                rows[phase::2] = np.where(white, self._lines[1, phase], self._lines[0, phase])
        return mode.nbytes


class RawRenderer:
    """Renders for one raw mode; ``shrink`` draws that many times smaller. Not for several threads at once."""

    def __init__(self, sensor: Sensor, mode: Mode, stack: Stack | None = None, shrink: int = 1) -> None:
        while mode.width // shrink > MAX_DRAWN:
            shrink *= 2
        self.mode = mode
        self._stack = stack
        self._shrink = shrink
        self._renderer = Renderer(mode.width // shrink, mode.height // shrink, "")
        self._sensor = SensorModel(sensor, mode)
        self._light: tuple[str, Samples] | None = None
        self._grid: tuple[tuple[float, ...], npt.NDArray[np.float64]] | None = None

    def positions(self, optics: Optics) -> list[Optics]:
        """These settings at every focus that light is drawn for, from near to infinity: between neighbours the
        sharpest layer's blur changes by half a pixel, or by an eighth where it is wide."""
        found, focus, width = [], optics.nearest_dpt, self.mode.width
        per_dpt = max(replace(optics, focus_dpt=0.0).blur_pixels(1.0, width), 1e-6)
        while True:
            at = replace(optics, focus_dpt=max(0.0, focus))
            found.append(at)
            if focus <= 0:
                return found
            sharpest = min(at.blur_pixels(layer.distance_m, width) for layer in LAYERS)
            focus -= max(FOCUS_STEP, sharpest * FOCUS_SHARE) / per_dpt

    def _snapped(self, optics: Optics) -> Optics:
        """The nearest of :meth:`positions`."""
        kind = optics.focal_mm, optics.sensor_mm, optics.fnumber, optics.nearest_dpt
        if self._grid is None or self._grid[0] != kind:
            self._grid = kind, np.array([p.focus_dpt for p in self.positions(optics)])
        grid = self._grid[1]
        return replace(optics, focus_dpt=float(grid[np.abs(grid - optics.focus_dpt).argmin()]))

    def light(self, optics: Optics, give_up: GiveUp, keep: bool = True) -> Samples:
        """Light on the sensor; from the stack where it was drawn before, and else put there if it is to be kept.
        ``Abandoned`` once ``give_up()``."""
        optics = self._snapped(optics)
        key = self._key(optics)
        if self._light is not None and self._light[0] == key:
            return self._light[1]
        mode = self.mode
        found = None if self._stack is None else self._stack.find(key, (mode.height, mode.width), np.uint16)
        if found is None:
            picture, _ = self._renderer.scene(optics, give_up)
            found = self._sensor.seen(np.asarray(picture), optics.light_kelvin, self._shrink)
            if self._stack is not None and keep:
                found = self._stack.keep(key, found)
        self._light = key, found
        return found

    def _key(self, optics: Optics) -> str:
        facts = self._sensor.facts
        parts = (
            drawn_by(),
            self.mode.width,
            self.mode.height,
            self._shrink,
            optics.focal_mm / optics.sensor_mm,
            self._renderer.blurs(optics),
            optics.light_kelvin,
            self._sensor.cfa,
            facts.illuminants,
            facts.vignetting,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def render(self, optics: Optics, give_up: GiveUp) -> Exposed:
        """The frames at these settings; those that were rehearsed are neither drawn nor exposed. ``Abandoned`` once
        ``give_up()``."""
        takes = self._rehearsed(optics)
        if takes is None:
            takes = self._exposed(self.light(optics, give_up), optics)
        return Exposed(tuple(takes), optics.meta(), optics.light_kelvin)

    def rehearse(self, optics: Optics, give_up: GiveUp) -> None:
        """Keep the frames at these settings, for :meth:`render` to play. Needs a stack."""
        assert self._stack is not None
        if self._rehearsed(optics) is None:
            takes = self._exposed(self.light(optics, give_up, keep=False), optics)
            self._stack.keep(self._frames_key(optics), takes)

    @property
    def _shape(self) -> tuple[int, int]:
        """Of all takes of one picture: their number, bytes of each."""
        return takes_of(self.mode), self.mode.nbytes

    def _exposed(self, light: Samples, optics: Optics) -> Bytes:
        takes = np.empty(self._shape, np.uint8)
        for take in takes:
            self._sensor.expose(light, optics, take)
        return takes

    def _rehearsed(self, optics: Optics) -> Bytes | None:
        return None if self._stack is None else self._stack.find(self._frames_key(optics), self._shape, np.uint8)

    def _frames_key(self, optics: Optics) -> str:
        facts = self._sensor.facts
        exposed = optics.brightness(), optics.gain, self.mode.fourcc, self._shape, facts.black, facts.white
        return hashlib.sha256(repr((self._key(self._snapped(optics)), exposed)).encode()).hexdigest()


def takes_of(mode: Mode) -> int:
    """How many frames a picture is shown by, in turn."""
    return next((count for most, count in TAKES if mode.width * mode.height <= most), 1)


@cache
def drawn_by() -> str:
    """What the picture's content follows from, besides settings: the code that draws it."""
    here = Path(__file__).parent
    names = ("canvas.py", "scene.py", "render.py", "sensor.py", "optics.py")
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in names)).hexdigest()


@lru_cache(maxsize=8)
def _cell_rows(mode: Mode, kelvin: int) -> npt.NDArray[np.uint8]:
    """Packed rows of one colour under the scene's light, black then white: shape (2, 2 phases, bytes)."""
    return np.stack([_grey_rows(mode, kelvin, level) for level in (_MARK_BLACK, _MARK_WHITE)])


def _grey_rows(mode: Mode, kelvin: int, level: float) -> npt.NDArray[np.uint8]:
    """Two packed rows of a grey under that light, ``level`` of the sensor's range where it is strongest."""
    facts, bits = mode.raw, bits_of(mode)
    assert facts is not None
    white = neutral(facts, kelvin)
    colors = facts.black + white / white.max() * level * (facts.white - facts.black)
    samples = np.empty((2, mode.width), np.uint16)
    for place, channel in enumerate(cfa_of(mode)):
        samples[place // 2, place % 2 :: 2] = round(float(colors[channel]))
    rows = np.zeros((2, mode.stride), np.uint8)
    pack(samples, bits, rows)
    return rows


def flat(mode: Mode, optics: Optics) -> Exposed:
    """A grey picture, in no time."""
    rows = _grey_rows(mode, optics.light_kelvin, _GREY)
    return Exposed((np.tile(rows.reshape(-1), mode.height // 2),), optics.meta(), optics.light_kelvin)
