# SPDX-License-Identifier: MIT
"""Scene: what stands before a virtual lens, as layers at four distances and balloons that drift across.

Mountains at infinity, a village with a clock tower at 20 m, a tin robot with a focus star at 2 m, flowers at 0.5 m.
Every layer reaches into the middle four degrees, so that a long telephoto too has something of each to focus on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from maglens_driver.virtual.canvas import Canvas, Color, Point

_WIDE: Final = 0.62  # drawn to this far left and right; a 24 mm lens sees 0.36


@dataclass(frozen=True, slots=True)
class Layer:
    """Things at one ``distance_m``; ``draw`` paints them on a canvas."""

    name: str
    distance_m: float
    draw: Callable[[Canvas], None]


@dataclass(frozen=True, slots=True)
class Drifter:
    """A balloon at infinity on a slow figure of eight: middle and half extent of its path, radius, and periods in
    seconds."""

    centre: Point
    extent: Point
    radius: float
    periods_s: tuple[float, float]
    colors: tuple[Color, Color]

    def position(self, seconds: float) -> Point:
        """Where its middle is at a time."""
        x = math.sin(2 * math.pi * seconds / self.periods_s[0])
        y = math.sin(2 * math.pi * seconds / self.periods_s[1])
        return self.centre[0] + x * self.extent[0], self.centre[1] + y * self.extent[1]

    def draw(self, canvas: Canvas) -> None:
        """Paint it with its middle at 0, 0; it fits a circle of 1.25 radii."""
        r = self.radius
        envelope = [(0.78 * r * math.sin(t) * (1 - 0.16 * (1 - math.cos(t))), 0.3 * r + 0.9 * r * math.cos(t))
                    for t in np.linspace(0, 2 * math.pi, 48)]  # fmt: skip
        canvas.line([(-0.3 * r, -0.45 * r), (-0.13 * r, -0.95 * r)], (90, 70, 60), 0.03 * r)
        canvas.line([(0.3 * r, -0.45 * r), (0.13 * r, -0.95 * r)], (90, 70, 60), 0.03 * r)
        canvas.polygon(envelope, self.colors[0])
        for share in (0.62, 0.2):
            width = [(x * share, y) for x, y in envelope]
            canvas.polygon(width, self.colors[1] if share > 0.5 else self.colors[0])
        canvas.box(-0.15 * r, -1.18 * r, 0.15 * r, -0.93 * r, (126, 84, 48), 0.04 * r)


def _ridge(points: Sequence[Point], rough: float, seed: int, rounds: int = 7) -> list[Point]:
    """A mountain's outline: midpoint displacement between given points."""
    rng = np.random.default_rng(seed)
    line = list(points)
    for _ in range(rounds):
        finer = [line[0]]
        for (x0, y0), (x1, y1) in itertools.pairwise(line):
            middle = (y0 + y1) / 2 + float(rng.normal()) * rough * math.hypot(x1 - x0, y1 - y0)
            finer += [((x0 + x1) / 2, middle), (x1, y1)]
        line = finer
    return line


def _fill_down(canvas: Canvas, line: Sequence[Point], floor: float, color: Color) -> None:
    canvas.polygon([*line, (line[-1][0], floor), (line[0][0], floor)], color)


_FAR = _ridge(
    [(-_WIDE, 0.05), (-0.42, 0.085), (-0.3, 0.05), (-0.2, 0.08), (-0.08, 0.045), (0.09, 0.06), (0.2, 0.10),
     (0.31, 0.06), (0.44, 0.085), (_WIDE, 0.05)], 0.13, 3)  # fmt: skip
_MASSIF = _ridge(
    [(-0.20, -0.01), (-0.13, 0.022), (-0.085, 0.05), (-0.052, 0.062), (-0.022, 0.105), (0.012, 0.068),
     (0.05, 0.078), (0.11, 0.04), (0.17, 0.03), (0.24, -0.01)], 0.11, 11)  # fmt: skip
_FOREST = _ridge(
    [(-_WIDE, 0.01), (-0.3, 0.022), (-0.17, 0.006), (-0.06, -0.004), (0.08, -0.006), (0.2, 0.014), (0.36, 0.004),
     (_WIDE, 0.02)], 0.05, 5, 6)  # fmt: skip


def _infinity(canvas: Canvas) -> None:
    canvas.gradient(-1, 1, [(-0.02, (255, 226, 178)), (0.035, (252, 208, 168)), (0.085, (214, 196, 200)),
                            (0.17, (122, 165, 214)), (0.3, (62, 112, 184))])  # fmt: skip
    for radius, color in ((0.05, (253, 214, 172)), (0.036, (254, 224, 180)), (0.022, (255, 246, 220))):
        canvas.circle((-0.155, 0.088), radius, color)
    _fill_down(canvas, _FAR, -0.2, (158, 170, 204))
    _fill_down(canvas, _MASSIF, -0.2, (104, 118, 158))
    _snow(canvas)
    _fill_down(canvas, _FOREST, -0.2, (66, 98, 88))
    for i, (x, y) in enumerate(_FOREST[::3]):
        tall = 0.0055 + 0.003 * math.sin(i * 2.4)
        canvas.polygon([(x - 0.0022, y - 0.004), (x + 0.0022, y - 0.004), (x, y + tall)], (52, 84, 74))
    canvas.gradient(-1, -0.018, [(-0.08, (150, 182, 96)), (-0.018, (124, 158, 104))])


def _snow(canvas: Canvas) -> None:
    """Snow on the massif's heights with a ragged lower edge, its shaded flanks, and the hut below the summit."""
    rng = np.random.default_rng(8)
    top = [(x, y) for x, y in _MASSIF if y > 0.048]
    lower = [(x, y - (y - 0.047) * (0.6 + 0.8 * float(rng.random()))) for x, y in top]
    canvas.polygon([*top, *reversed(lower)], (246, 244, 248))
    shade = [(x, y) for x, y in top if -0.022 < x < 0.02]
    ragged = [(x, y - (y - 0.047) * (0.35 + 0.4 * float(rng.random()))) for x, y in shade]
    canvas.polygon([*shade, *reversed(ragged)], (186, 198, 224))
    for x0, slant in ((-0.058, -0.4), (-0.036, 0.15), (-0.012, -0.25), (0.03, 0.3), (0.068, -0.3), (0.11, 0.25)):
        spur = _ridge(
            [(x0, 0.046), (x0 + slant * 0.03, 0.018), (x0 + slant * 0.06, -0.01)], 0.16, int(x0 * 1e4) + 999
        )
        back = [(x + 0.007 * (0.05 - y) / 0.05 + 0.002, y) for x, y in spur]
        canvas.polygon([*spur, *reversed(back)], (84, 98, 138))
        canvas.line(spur, (214, 222, 238), 0.0007)
    canvas.box(-0.0205, 0.0885, -0.0135, 0.0925, (124, 72, 44))
    canvas.polygon([(-0.0218, 0.0922), (-0.0122, 0.0922), (-0.017, 0.0962)], (150, 46, 38))


_WALLS: Final = ((240, 222, 190), (226, 164, 120), (190, 208, 220), (238, 206, 140))
_ROOFS: Final = ((168, 72, 52), (120, 62, 58), (176, 92, 60), (104, 84, 96))


def _house(canvas: Canvas, x: float, y: float, width: float, style: int) -> None:
    """A house of two floors, lower left corner at x, y."""
    height = width * 0.72
    wall, roof = _WALLS[style % 4], _ROOFS[style % 4]
    canvas.box(x, y, x + width, y + height, wall)
    eave = width * 0.08
    ridge = y + height + width * 0.42
    canvas.polygon([(x - eave, y + height), (x + width + eave, y + height), (x + width * 0.82, ridge),
                    (x + width * 0.18, ridge)], roof)  # fmt: skip
    for i in range(1, 7):
        level = y + height + (ridge - y - height) * i / 7
        inset = (width * 0.18 + eave) * i / 7
        shade = (roof[0] - 22, roof[1] - 16, roof[2] - 14)
        canvas.line([(x - eave + inset, level), (x + width + eave - inset, level)], shade, width * 0.008)
    canvas.box(x + width * 0.66, ridge - width * 0.1, x + width * 0.76, ridge + width * 0.14, (134, 84, 70))
    for row in (0.12, 0.56):
        for column in (0.12, 0.42, 0.72):
            _window(canvas, x + column * width, y + row * height, width * 0.16, height * 0.28)
    canvas.box(x + 0.42 * width, y, x + 0.58 * width, y + 0.4 * height, (110, 64, 40))


def _window(canvas: Canvas, x: float, y: float, w: float, h: float) -> None:
    canvas.box(x - w * 0.12, y - h * 0.1, x + w * 1.12, y + h * 1.1, (250, 246, 236))
    canvas.box(x, y, x + w, y + h, (70, 92, 120))
    canvas.line([(x + w / 2, y), (x + w / 2, y + h)], (250, 246, 236), w * 0.08)
    canvas.line([(x, y + h / 2), (x + w, y + h / 2)], (250, 246, 236), w * 0.08)


def _tree(canvas: Canvas, x: float, y: float, size: float) -> None:
    canvas.box(x - size * 0.05, y, x + size * 0.05, y + size * 0.5, (98, 68, 44))
    rng = np.random.default_rng(int(abs(x) * 1e4) + 3)
    for color, shift in (((58, 104, 52), 0.0), (((84, 134, 62)), 0.06), ((116, 164, 78), 0.12)):
        for _ in range(14):
            angle, far = float(rng.random()) * 2 * math.pi, float(rng.random()) ** 0.5 * 0.27 * size
            centre = (x + far * math.cos(angle) - shift * size, y + size * (0.68 + shift) + far * math.sin(angle))
            canvas.circle(centre, size * (0.11 - shift * 0.3), color)


def _tower(canvas: Canvas) -> None:
    """The clock tower, its clock a little right of the optical axis."""
    left, right, foot, top = -0.001, 0.041, -0.07, 0.034
    canvas.box(left, foot, right, top, (216, 196, 168))
    courses = 52
    for row in range(courses):
        y = foot + (top - foot) * row / courses
        canvas.line([(left, y), (right, y)], (188, 166, 138), 0.00018)
        for column in range(8):
            x = left + (right - left) * (column + row % 2 / 2) / 8
            canvas.line([(x, y), (x, y + (top - foot) / courses)], (188, 166, 138), 0.00018)
    canvas.box(left - 0.002, top, right + 0.002, top + 0.004, (238, 224, 200))
    canvas.polygon([(left - 0.003, top + 0.004), (right + 0.003, top + 0.004), (0.02, 0.088)], (150, 62, 52))
    canvas.polygon([(0.02, 0.088), (right + 0.003, top + 0.004), (0.03, top + 0.004)], (124, 48, 44))
    canvas.line([(0.02, 0.087), (0.02, 0.098)], (230, 190, 90), 0.0009)
    canvas.circle((0.02, 0.098), 0.0016, (244, 206, 104))
    for x in (0.006, 0.026):
        _window(canvas, x, -0.05, 0.008, 0.016)
    centre = (0.02, 0.008)
    canvas.circle(centre, 0.0152, (92, 70, 56))
    canvas.circle(centre, 0.0140, (252, 248, 236))
    for minute in range(60):
        angle = math.pi * minute / 30
        inner, width = (0.0108, 0.0008) if minute % 5 == 0 else (0.0123, 0.00025)
        canvas.line([(centre[0] + r * math.sin(angle), centre[1] + r * math.cos(angle)) for r in (inner, 0.0131)],
                    (52, 48, 52), width)  # fmt: skip
    for angle, length, width in ((-0.95, 0.0078, 0.0012), (0.95, 0.0112, 0.0008)):
        tip = (centre[0] + length * math.sin(angle), centre[1] + length * math.cos(angle))
        canvas.line([centre, tip], (36, 34, 40), width)
    canvas.circle(centre, 0.0011, (190, 60, 44))


def _village(canvas: Canvas) -> None:
    meadow = [
        (x, -0.058 + 0.006 * math.sin(x * 17) + 0.003 * math.sin(x * 41)) for x in np.linspace(-_WIDE, _WIDE, 90)
    ]
    _fill_down(canvas, meadow, -1, (138, 176, 84))
    for i in range(9):
        low = -0.075 - 0.03 * i
        band = [(x, low + 0.004 * math.sin(x * 23 + i * 2)) for x in np.linspace(-_WIDE, _WIDE, 60)]
        _fill_down(canvas, band, -1, (132 - 7 * i, 170 - 9 * i, 80 - 4 * i))
    for x, y, width, style in (
        (-0.43, -0.068, 0.1, 3),
        (-0.27, -0.07, 0.085, 2),
        (-0.155, -0.064, 0.07, 1),
        (0.062, -0.068, 0.075, 0),
        (0.165, -0.064, 0.08, 3),
        (0.3, -0.07, 0.1, 1),
    ):
        _house(canvas, x, y, width, style)
    for x, y, size in ((-0.315, -0.074, 0.1), (-0.062, -0.07, 0.062), (0.152, -0.074, 0.07), (0.272, -0.072, 0.11)):
        _tree(canvas, x, y, size)
    _tower(canvas)
    for i in range(60):
        x = -0.56 + i * 0.019
        if not -0.01 < x < 0.05:
            canvas.box(x, -0.088, x + 0.003, -0.07, (250, 244, 230), 0.0008)
    for y in (-0.084, -0.076):
        canvas.line([(-0.56, y), (-0.012, y)], (250, 244, 230), 0.0016)
        canvas.line([(0.053, y), (0.56, y)], (250, 244, 230), 0.0016)


def _robot(canvas: Canvas) -> None:
    x = -0.118
    tin, dark, light = (112, 150, 168), (72, 104, 124), (164, 196, 206)
    red, ink = (206, 72, 54), (40, 46, 56)
    for side in (-1, 1):
        canvas.box(x + side * 0.019 - 0.011, -0.36, x + side * 0.019 + 0.011, -0.105, dark, 0.004)
    canvas.line([(x - 0.04, -0.03), (x - 0.062, -0.075), (x - 0.055, -0.115)], dark, 0.013)
    canvas.circle((x - 0.055, -0.12), 0.010, red)
    canvas.line([(x + 0.04, -0.03), (x + 0.066, -0.062), (x + 0.091, -0.044)], dark, 0.013)
    canvas.box(x - 0.043, -0.118, x + 0.043, -0.008, tin, 0.012)
    canvas.box(x - 0.036, -0.110, x - 0.030, -0.016, light, 0.003)
    canvas.box(x - 0.026, -0.068, x + 0.032, -0.024, (236, 226, 200), 0.006)
    canvas.circle((x - 0.010, -0.046), 0.0145, ink)
    canvas.circle((x - 0.010, -0.046), 0.0125, (250, 248, 240))
    canvas.line([(x - 0.010, -0.046), (x - 0.002, -0.037)], red, 0.0016)
    for i, color in enumerate(((214, 78, 60), (240, 190, 70), (92, 170, 110))):
        canvas.circle((x + 0.018, -0.033 - 0.0115 * i), 0.0042, color)
    for i in range(9):
        for y in (-0.014, -0.112):
            canvas.circle((x - 0.036 + i * 0.009, y), 0.0014, light)
    for i in range(5):
        canvas.line([(x - 0.022, -0.080 - i * 0.006), (x + 0.022, -0.080 - i * 0.006)], dark, 0.0018)
    canvas.box(x - 0.012, -0.01, x + 0.012, 0.004, dark)
    canvas.box(x - 0.036, 0.002, x + 0.036, 0.056, tin, 0.014)
    canvas.box(x - 0.030, 0.008, x - 0.025, 0.050, light, 0.002)
    for side in (-1, 1):
        eye = (x + side * 0.0145, 0.033)
        canvas.circle(eye, 0.0105, ink)
        canvas.circle(eye, 0.0085, (255, 236, 170))
        canvas.circle((eye[0] + 0.0025, eye[1] - 0.001), 0.0042, ink)
        canvas.circle((eye[0] + 0.004, eye[1] + 0.001), 0.0012, (255, 255, 255))
        canvas.box(x + side * 0.040 - 0.005, 0.02, x + side * 0.040 + 0.005, 0.04, red, 0.003)
    canvas.box(x - 0.015, 0.010, x + 0.015, 0.0165, ink, 0.002)
    for i in range(6):
        canvas.line([(x - 0.0125 + 0.005 * i, 0.0105), (x - 0.0125 + 0.005 * i, 0.016)], light, 0.0008)
    canvas.line([(x, 0.056), (x, 0.078)], dark, 0.003)
    canvas.circle((x, 0.081), 0.0062, red)
    canvas.line([(-0.027, -0.075), (-0.027, -0.012)], (124, 88, 52), 0.0032)
    canvas.circle((-0.027, -0.046), 0.0072, red)
    star = (-0.027, -0.004)
    canvas.circle(star, 0.0136, (206, 72, 54))
    canvas.circle(star, 0.0122, (252, 250, 244))
    canvas.fan(star, 0.0116, 18, (24, 24, 28))
    canvas.circle(star, 0.0011, (252, 250, 244))


def _daisy(canvas: Canvas, centre: Point, radius: float, petals: int, colors: tuple[Color, Color, Color]) -> None:
    for ring, color in ((0.0, colors[1]), (0.5, colors[0])):
        for i in range(petals):
            angle = 2 * math.pi * (i + ring) / petals
            canvas.petal(centre, angle, radius * (1.0 - 0.12 * ring), radius * 0.36, color)
    canvas.circle(centre, radius * 0.30, (196, 132, 30))
    canvas.circle(centre, radius * 0.27, colors[2])
    for i in range(90):
        far, angle = radius * 0.26 * math.sqrt(i / 90), i * 2.39996
        spot = (centre[0] + far * math.cos(angle), centre[1] + far * math.sin(angle))
        canvas.circle(spot, radius * 0.013, (206, 140, 24))


def _blade(canvas: Canvas, foot: Point, tip: Point, width: float, color: Color) -> None:
    """A blade of grass that bends towards its tip."""
    steps = np.linspace(0, 1, 14)
    spine = [(foot[0] + (tip[0] - foot[0]) * t**1.8, foot[1] + (tip[1] - foot[1]) * t) for t in steps]
    left = [(x - width / 2 * (1 - t) ** 0.7, y) for (x, y), t in zip(spine, steps, strict=True)]
    right = [(x + width / 2 * (1 - t) ** 0.7, y) for (x, y), t in zip(spine, steps, strict=True)]
    canvas.polygon([*left, *reversed(right)], color)


def _flowers(canvas: Canvas) -> None:
    rng = np.random.default_rng(4)
    greens = ((60, 116, 50), (84, 146, 62), (116, 174, 78), (48, 96, 46))
    for i in range(46):
        x = 0.06 + float(rng.random()) * 0.42 if i % 3 else -0.44 + float(rng.random()) * 0.2
        tip = (x + float(rng.normal()) * 0.02, -0.16 + 0.075 * float(rng.random()))
        _blade(canvas, (x, -0.5), tip, 0.012, greens[i % 4])
    for centre, foot in (((0.118, -0.048), 0.15), ((0.205, -0.098), 0.22), ((-0.325, -0.105), -0.31)):
        bend = [(foot + (centre[0] - foot) * t**1.5, -0.4 + (centre[1] + 0.4) * t) for t in np.linspace(0, 1, 12)]
        canvas.line(bend, (70, 126, 54), 0.007)
    canvas.petal((0.142, -0.17), 2.3, 0.075, 0.022, (92, 156, 66))
    canvas.petal((0.205, -0.2), 0.9, 0.08, 0.024, (76, 138, 58))
    _daisy(canvas, (0.118, -0.048), 0.046, 15, ((255, 253, 248), (224, 226, 238), (252, 202, 60)))
    _daisy(canvas, (0.205, -0.098), 0.036, 9, ((236, 92, 84), (204, 62, 66), (92, 52, 60)))
    _daisy(canvas, (-0.325, -0.105), 0.034, 11, ((178, 132, 220), (146, 100, 196), (250, 208, 80)))
    _blade(canvas, (0.075, -0.5), (0.024, -0.006), 0.011, (104, 166, 70))
    _blade(canvas, (0.082, -0.5), (0.052, -0.045), 0.009, (72, 132, 56))
    _ladybird(canvas, (0.0265, -0.0185))


def _ladybird(canvas: Canvas, at: Point) -> None:
    x, y = at
    canvas.circle((x, y + 0.0044), 0.0024, (30, 28, 32))
    for side in (-1, 1):
        canvas.line([(x + side * 0.001, y + 0.006), (x + side * 0.0028, y + 0.0088)], (30, 28, 32), 0.0004)
        for shift in (-0.003, 0.0, 0.003):
            canvas.line([(x, y + shift), (x + side * 0.0064, y + shift - 0.0006)], (30, 28, 32), 0.0005)
    canvas.ellipse(at, 0.0052, 0.0056, (214, 46, 38))
    canvas.line([(x, y - 0.0055), (x, y + 0.0054)], (30, 28, 32), 0.0005)
    for dx, dy in ((0.0024, 0.0026), (0.0028, -0.001), (0.0018, -0.0036)):
        canvas.circle((x + dx, y + dy), 0.0011, (30, 28, 32))
        canvas.circle((x - dx, y + dy), 0.0011, (30, 28, 32))


LAYERS: Final = (
    Layer("mountains", math.inf, _infinity),
    Layer("village", 20.0, _village),
    Layer("robot", 2.0, _robot),
    Layer("flowers", 0.5, _flowers),
)
"""Farthest first; the first covers the whole picture."""

DRIFTERS: Final = (
    Drifter((-0.014, 0.0165), (0.016, 0.0045), 0.0075, (9.0, 4.5), ((222, 64, 58), (250, 214, 110))),
    Drifter((0.09, 0.115), (0.085, 0.008), 0.024, (26.0, 13.0), ((62, 122, 190), (244, 244, 236))),
)
