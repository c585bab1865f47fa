# SPDX-License-Identifier: GPL-2.0-or-later
"""Developing: raw frames to the node's pictures, each by its recipe, and measured on the way."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

import numpy as np

from maglens_driver.color import DAYLIGHT_K, MAX_K, MIN_K
from maglens_driver.frame import Frame
from maglens_driver.mode import Mode
from maglens_v4l2._pixels import Developer
from maglens_v4l2.recipe import Recipe, recipe_for
from maglens_v4l2.recipe_book import Measured, RecipeBook
from maglens_v4l2.statistics import HISTOGRAM, ZONES, Field, Statistics

MAX_THREADS: Final = 4
PIXELS_PER_THREAD: Final = 1 << 19  # less is done before a second thread has woken up
_FALLOFF: Final = (0.25, 3.9)  # gains against vignetting that the pixel kernel takes
_LEAST_GAIN: Final = 0.01
_MOST_GAIN: Final = 3.98  # of white balance and brightness together, times full scale over (white - black)


def _srgb_curve() -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    x = np.arange(8193) / 8192
    y = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    curve: np.ndarray[tuple[int], np.dtype[np.uint16]] = np.round(y * 65535).astype(np.uint16)
    return curve


class DevelopConverter:
    """RAW10 and RAW12 to NV12 or YUYV of any even size, letterboxed, in one pass. ``ValueError`` where the module's
    facts cannot be used."""

    def __init__(self, src: Mode, dst: Mode, book: RecipeBook, measured: Measured | None = None) -> None:
        if src.raw is None:
            raise ValueError("nothing is known of its samples")
        self._facts = src.raw
        self._book = book
        self._measured = measured
        columns, rows = min(ZONES[0], src.width // 64), min(ZONES[1], src.height // 8)
        columns, rows = max(1, columns), max(1, rows)
        pixels = max(src.width * src.height, dst.width * dst.height)
        threads = max(1, min(MAX_THREADS, os.cpu_count() or 1, pixels // PIXELS_PER_THREAD))
        self._developer = Developer(
            src.fourcc, src.width, src.height, src.stride, dst.fourcc, dst.width, dst.height, dst.stride,
            threads=threads, zones=(columns, rows),
        )  # fmt: skip
        self._curve = _srgb_curve()
        falloff = np.clip(np.array(self._facts.vignetting, np.float64), *_FALLOFF)
        self._falloff = falloff if len(falloff) > 1 else None
        numbers = np.zeros(self._developer.stats_bytes // 8, np.uint64)
        self._numbers = numbers
        self._zones = numbers[:-HISTOGRAM].reshape(rows, columns, len(Field))
        self._histogram = numbers[-HISTOGRAM:]
        self._own: dict[int, Recipe] = {}
        self._applied = self._recipe(0)
        self._in_use = self._apply(self._applied)

    def run(self, frame: Frame, dst: memoryview) -> str | None:
        """See :class:`maglens_v4l2.convert.Converter`."""
        recipe = self._recipe(frame.meta.temperature_k)
        if recipe is not self._applied:
            self._in_use = self._apply(recipe)
            self._applied = recipe
        self._developer.run(frame.lease.view[: frame.nbytes], dst, self._numbers)
        if self._measured is not None:
            self._measured(
                Statistics(
                    frame.generation, frame.seq, frame.exposure_ns, frame.mode, frame.meta, self._in_use,
                    self._zones, self._histogram,
                )
            )  # fmt: skip
        return None

    def _recipe(self, kelvin: int) -> Recipe:
        given = self._book.recipe
        if given is not None:
            return given
        kelvin = min(max(kelvin, MIN_K), MAX_K) if kelvin else DAYLIGHT_K
        known = self._own.get(kelvin)
        if known is None:
            self._own.clear()
            known = self._own[kelvin] = recipe_for(self._facts, kelvin)
        return known

    def _apply(self, recipe: Recipe) -> Recipe:
        """Brightness above 1 is cut to what the pixel kernel takes, which leaves white white; then gains are. The
        answer is the recipe as it is in use, which frames are measured by."""
        facts = self._facts
        most = _MOST_GAIN * (facts.white - facts.black) / (1 << facts.bits)
        highest = max(*recipe.gains, _LEAST_GAIN)
        brightness = min(recipe.brightness, max(most / highest, 1.0))
        red, green, blue = (min(max(gain * brightness, _LEAST_GAIN), most) for gain in recipe.gains)
        self._developer.tune(facts.black, facts.white, (red, green, blue), recipe.matrix, self._curve, self._falloff)
        return replace(recipe, gains=(red / brightness, green / brightness, blue / brightness), brightness=brightness)
