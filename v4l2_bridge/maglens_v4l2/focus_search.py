# SPDX-License-Identifier: GPL-2.0-or-later
"""Focus search: where contrast peaks, found in few positions, coarse to fine.

Positions are in circles of confusion: a thin lens focused ``z`` away from a thing draws its points ``|z|`` circles
wide, whichever the lens (:class:`FocusScale`). Blur of width ``b`` leaves of a scene's contrast about
1 / (1 + (b / b0)^2), since pictures of the world have as much contrast in one octave of detail as in the next. So
the inverse of contrast, above what noise alone gives, is a parabola around the best focus, and three positions
anywhere on its flanks tell where that is. Each guess is tried and the parabola drawn anew through the best positions,
until it is narrow.

Far from focus, contrast is nearly all noise, and in dim light what little of the scene is left drowns in it. So each
position is looked at for as many frames as it takes to see what is sought: in the sweep, what a scene has left half
a step away from focus; then, what has been found to rise above the rest. A peak that does not rise from its narrow
parabola by more than noise would make it is none: the noise itself is uneven, being less where blur brings in light.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

CONFUSION_PER_DIAGONAL: Final = 1 / 1500  # the usual circle of confusion
MAX_POSITIONS: Final = 15  # evaluated, from anywhere
COARSE_PIXELS: Final = 40.0  # steps of the first sweep, as blur
MAX_COARSE: Final = 7
NEAR_PIXELS: Final = 40.0  # of the two positions tried first where focus should not be far
NARROW_PIXELS: Final = 3.0  # a parabola this wide on either side is trusted ...
NARROW_CIRCLES: Final = 3.0  # ... or this, where pixels are coarser than the circle ...
NARROW_SHARE: Final = 6  # ... or this part of a short way: what is least sharp there is far from noise alone
WIDE: Final = 1.5  # such parabolas wide a gap between positions is too wide
SAME: Final = 0.05  # of them apart, two positions are one
MARGIN: Final = 0.15  # of a gap: as close as a guess comes to a position that is not the best
DOUBT: Final = 3.0  # standard deviations of a difference of contrasts that is not noise
SURE: Final = 12.0  # standard deviations of a frame's noise that make one frame at a position enough
USUAL: Final = 1e-5  # contrast that scenes have left half a coarse step from focus: neighbours differ by 2.5 %
MOST_FRAMES: Final = 8  # at a position
THREE: Final = 3  # positions make a parabola


@dataclass(frozen=True, slots=True)
class FocusScale:
    """From FOCUS_FINE's millionths of a dioptre to circles of confusion and back.

    ``focal_m`` focal length and ``confusion_m`` circle of confusion in metres; ``fnumber`` the aperture in force.
    """

    focal_m: float
    fnumber: float
    confusion_m: float

    @property
    def _circles_per_dioptre(self) -> float:
        return self.focal_m**2 / (self.fnumber * self.confusion_m)

    def circles(self, udpt: float) -> float:
        """The lens's extension, which blur is proportional to, in circles."""
        dioptres = udpt / 1e6
        return self._circles_per_dioptre * dioptres / (1 - self.focal_m * dioptres)

    def reaches(self, udpt: float) -> bool:
        """Whether a lens could be focused so near: nothing nearer than its focal length is ever sharp."""
        return self.focal_m * udpt / 1e6 < 1

    def udpt(self, circles: float) -> float:
        """The inverse."""
        extension = circles / self._circles_per_dioptre
        return 1e6 * extension / (1 + self.focal_m * extension)


@dataclass(frozen=True, slots=True)
class Sample:
    """Contrast at position ``z``, on average over so many ``frames``."""

    z: float
    contrast: float
    frames: int


Triple = tuple[Sample, Sample, Sample]  # by position


class FocusSearch:
    """One search in ``low`` to ``high`` circles. ``pixel`` is the picture's pixel in circles; ``start``: where focus
    is now, and ``near`` that the best focus should not be far; ``noise``: of one frame's contrast there, as
    :class:`Measurement` has it; ``step``: the motor's, at its widest. Ask :meth:`next` where to go, look for so many
    :attr:`frames`, tell :meth:`add` what was seen there on average, until it says None.
    """

    def __init__(
        self,
        low: float,
        high: float,
        start: float,
        pixel: float,
        noise: float,
        near: bool = False,
        step: float = 0.0,
    ) -> None:
        self._noise = noise  # of one frame, the least so far: sharp contrast is not noise
        self._grain = math.inf  # that, relative to the root of contrast
        self.frames = 1
        self._low, self._high = low, high
        narrow = min(max(NARROW_PIXELS * pixel, NARROW_CIRCLES), (high - low) / NARROW_SHARE)
        self._narrow = max(narrow, 1.0, step)
        steps = min(max(math.ceil((high - low) / (COARSE_PIXELS * pixel)), 2), MAX_COARSE - 1)
        sweep = [low + (high - low) * k / steps for k in range(steps + 1)]
        self._sweep = sweep if start - low <= high - start else sweep[::-1]
        self._local = near
        start = self._known(start)
        around = (start, max(low, start - NEAR_PIXELS * pixel), min(high, start + NEAR_PIXELS * pixel))
        near_by = list(dict.fromkeys(around))
        if len(near_by) < len(around):  # at an end
            near_by.append((near_by[0] + near_by[-1]) / 2)
        self._plan = near_by if near else self._sweep
        self._samples: list[Sample] = []
        self._evaluated = 0
        self.best: float | None = None  # once :meth:`next` has answered None: the peak, None where there is none

    @property
    def positions(self) -> int:
        """How many were evaluated."""
        return self._evaluated

    def add(self, z: float, contrast: float, noise: float) -> None:
        """What was seen at ``z``, which is where the motor's steps came nearest to what was asked for: ``contrast``
        on average, ``noise`` of one frame."""
        self._evaluated += 1
        contrast = max(contrast, 1e-12)
        self._noise, self._grain = min(self._noise, noise), min(self._grain, noise / math.sqrt(contrast))
        z = self._known(z)
        before = [s for s in self._samples if abs(s.z - z) < SAME * self._narrow]
        self._samples = [s for s in self._samples if s not in before]
        self._samples.append(Sample(z, contrast, self.frames))
        self._samples.sort(key=lambda sample: sample.z)

    def _known(self, z: float) -> float:
        """``z``, or the end that it cannot be told from."""
        return next((end for end in (self._low, self._high) if abs(z - end) < SAME * self._narrow), z)

    def next(self) -> float | None:
        """The next position to evaluate; None at the end."""
        z = self._chosen()
        if z is None and self.best is not None:
            others = self._samples if len(self._samples) < THREE else self._around()
            self.best = self.best if self._has_drop(others) else None
        return z

    def _chosen(self) -> float | None:
        if not self._plan and self._local:
            self._local = False
            self._plan = self._widened()
        if self._plan:
            self.frames = self._enough(USUAL / DOUBT / math.sqrt(2))
            return self._plan.pop(0)
        best, worst = self._best(), self._worst()
        if not self._has_drop((worst,)):
            return None
        if len(self._samples) < THREE:  # a motor that has no more positions: the better one
            self.best = best.z
            return None
        around = self._around()
        self.frames = self._enough((best.contrast - worst.contrast) / SURE)
        left, middle, right = around
        self.best = self._vertex(around)
        if self.positions >= MAX_POSITIONS:
            return None
        if best is left and best.z > self._low:  # the slope goes on beyond what was seen
            return max(self._low, best.z - (middle.z - best.z))
        if best is right and best.z < self._high:
            return min(self._high, best.z + (best.z - middle.z))
        if best is not middle:
            return self._inwards(best, around)
        gap_left, gap_right = middle.z - left.z, right.z - middle.z
        if max(gap_left, gap_right) <= WIDE * self._narrow:
            return None
        if abs(self.best - middle.z) > self._narrow:
            return self.best
        # The peak is near the best position: close in on it from the wider side.
        side = middle.z - self._narrow if gap_left > gap_right else middle.z + self._narrow
        return min(max(side, self._low), self._high)

    def _inwards(self, end: Sample, around: Triple) -> float | None:
        """The best is an end of the range: the parabola's other two positions shall be close to it."""
        step = self._narrow if end.z == self._low else -self._narrow
        others = sorted((s.z for s in around if s is not end), key=lambda z: abs(z - end.z))
        for k, z in enumerate(others, 1):
            if abs(z - end.z) > WIDE * k * self._narrow:
                return end.z + k * step
        return None

    def _widened(self) -> list[float]:
        """What is left of the whole sweep; nothing where the peak lies among the positions nearby."""
        if len(self._samples) >= THREE:
            best, (left, middle, right) = self._best(), self._around()
            inside = best is middle or best.z in (self._low, self._high)
            if inside and self._has_drop((left, right)):
                return []
        apart = abs(self._sweep[1] - self._sweep[0]) / 3
        return [z for z in self._sweep if all(abs(z - s.z) > apart for s in self._samples)]

    def _floor(self) -> float:
        """What noise contributes: no more than the least that was seen."""
        return 0.97 * self._worst().contrast

    def _has_drop(self, others: Iterable[Sample]) -> bool:
        """Whether noise alone would not make the best so much sharper than one of ``others``. The variance of a sum
        of squares goes with the product of signal and noise, so that noise goes with the root of contrast."""
        best = self._best()
        return any(
            best.contrast - s.contrast
            > DOUBT * self._grain * math.sqrt(best.contrast / best.frames + s.contrast / s.frames)
            for s in others
        )

    def _enough(self, noise: float) -> int:
        """Frames whose mean has no more than so much noise."""
        return min(math.ceil((self._noise / noise) ** 2 + 1e-9), MOST_FRAMES)

    def _best(self) -> Sample:
        """The sharpest so far."""
        return max(self._samples, key=lambda sample: sample.contrast)

    def _worst(self) -> Sample:
        """The least sharp so far."""
        return min(self._samples, key=lambda sample: sample.contrast)

    def _around(self) -> Triple:
        """The best sample between its neighbours, or as an end of the three outermost. There are three."""
        k = min(max(self._samples.index(self._best()), 1), len(self._samples) - 2)
        return self._samples[k - 1], self._samples[k], self._samples[k + 1]

    def _vertex(self, around: Triple) -> float:
        """Where the parabola through three inverse contrasts is lowest: inside them, but for an end that is best."""
        left, middle, right = around
        floor, best = self._floor(), self._best()
        y = [1 / max(s.contrast - floor, 1e-3 * best.contrast) for s in around]
        a, b = middle.z - left.z, middle.z - right.z
        top = a * a * (y[1] - y[2]) - b * b * (y[1] - y[0])
        bottom = a * (y[1] - y[2]) - b * (y[1] - y[0])
        if bottom == 0:
            return best.z
        z = middle.z - top / bottom / 2
        lowest = left.z if best is left else left.z + MARGIN * a
        highest = right.z if best is right else right.z + MARGIN * b
        return min(max(z, lowest), highest)
