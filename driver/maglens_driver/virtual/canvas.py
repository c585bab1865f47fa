# SPDX-License-Identifier: MIT
"""Canvas: draws shapes given in tangents of the viewing angle, so that every focal length gets its own detail.

x runs to the right and y up, 0 at the optical axis; 0.1 is 10 cm at a distance of one metre.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLE: Final = 2
Color = tuple[int, int, int]
Point = tuple[float, float]
GiveUp = Callable[[], bool]


class Abandoned(Exception):
    """The picture is not wanted any more."""


def never() -> bool:
    """Nobody gives up."""
    return False


class Canvas:
    """A layer ``width`` x ``height`` pixels at ``scale`` pixels per unit, its centre at ``centre``, empty at first.

    The four bands are red, green, blue and coverage, with colour premultiplied. Pillow's CMYK mode serves as their
    container because it filters its bands independently. Every stroke raises :class:`Abandoned` once ``give_up()``.
    """

    def __init__(
        self, width: int, height: int, scale: float, centre: Point = (0.0, 0.0), give_up: GiveUp = never
    ) -> None:
        self.size = width, height
        self._scale = scale * SUPERSAMPLE
        self._x = width * SUPERSAMPLE / 2 - centre[0] * self._scale
        self._y = height * SUPERSAMPLE / 2 + centre[1] * self._scale
        self._image = Image.new("CMYK", (width * SUPERSAMPLE, height * SUPERSAMPLE))
        self._pen = ImageDraw.Draw(self._image)
        self._give_up = give_up

    @property
    def _draw(self) -> ImageDraw.ImageDraw:
        """The pen for one stroke. Pillow keeps Python's lock while it draws, so whoever waits is heard in between."""
        if self._give_up():
            raise Abandoned
        return self._pen

    def _at(self, point: Point) -> Point:
        return self._x + point[0] * self._scale, self._y - point[1] * self._scale

    def finish(self) -> Image.Image:
        """The layer, smoothed down to its size."""
        return self._image.reduce(SUPERSAMPLE)

    def sees(self, x: float, y: float, radius: float) -> bool:
        """Whether any of a circle is in view."""
        px, py = self._at((x, y))
        r = radius * self._scale
        return -r < px < self._image.width + r and -r < py < self._image.height + r

    def polygon(self, points: Iterable[Point], color: Color) -> None:
        """A filled polygon."""
        self._draw.polygon([self._at(p) for p in points], fill=(*color, 255))

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        """A line of ``width`` units with round ends; at least a third of a pixel wide."""
        thick = max(1, round(width * self._scale))
        self._draw.line([self._at(p) for p in points], fill=(*color, 255), width=thick, joint="curve")
        if thick > 3:
            for point in (points[0], points[-1]):
                self.circle(point, width / 2, color)

    def circle(self, centre: Point, radius: float, color: Color) -> None:
        """A filled circle."""
        self.ellipse(centre, radius, radius, color)

    def ellipse(self, centre: Point, rx: float, ry: float, color: Color) -> None:
        """A filled ellipse with its axes upright."""
        x, y = self._at(centre)
        rx, ry = rx * self._scale, ry * self._scale
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=(*color, 255))

    def box(self, left: float, bottom: float, right: float, top: float, color: Color, radius: float = 0.0) -> None:
        """A filled rectangle with corners rounded by ``radius``."""
        x0, y0 = self._at((left, top))
        x1, y1 = self._at((right, bottom))
        if x1 < x0 + 1 or y1 < y0 + 1:
            self._draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), fill=(*color, 255))
        else:
            self._draw.rounded_rectangle((x0, y0, x1, y1), radius * self._scale, fill=(*color, 255))

    def petal(self, root: Point, angle: float, length: float, width: float, color: Color) -> None:
        """A leaf shape from ``root`` outwards, ``angle`` in radians from the x axis."""
        along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
        outline = []
        for i in range(21):
            t = i / 20
            outline.append((t, math.sin(math.pi * t**1.5) / 2))
        outline += [(t, -w) for t, w in reversed(outline)]
        self.polygon(
            [
                (root[0] + t * length * along[0] + w * width * across[0],
                 root[1] + t * length * along[1] + w * width * across[1])
                for t, w in outline
            ],
            color,
        )  # fmt: skip

    def fan(self, centre: Point, radius: float, sectors: int, color: Color) -> None:
        """Every second of ``2 * sectors`` sectors of a circle: a Siemens star."""
        x, y = self._at(centre)
        r = radius * self._scale
        step = 180 / sectors
        for i in range(sectors):
            self._draw.pieslice((x - r, y - r, x + r, y + r), 2 * i * step, (2 * i + 1) * step, fill=(*color, 255))

    def gradient(self, bottom: float, top: float, stops: Sequence[tuple[float, Color]]) -> None:
        """Fill the whole width between two heights; ``stops`` are (height, colour), rising."""
        rows = np.arange(self._image.height)
        heights = (self._y - rows) / self._scale
        inside = np.flatnonzero((heights <= top) & (heights >= bottom))
        if not len(inside):
            return
        at = [s[0] for s in stops]
        bands = [np.interp(heights[inside], at, [s[1][i] for s in stops]) for i in range(3)]
        column = np.stack([*bands, np.full(len(inside), 255.0)], axis=1).round().astype(np.uint8)
        strip = Image.frombuffer("CMYK", (1, len(inside)), column.tobytes(), "raw", "CMYK", 0, 1)
        self._image.paste(strip.resize((self._image.width, len(inside))), (0, int(inside[0])))
