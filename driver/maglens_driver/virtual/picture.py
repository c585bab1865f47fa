# SPDX-License-Identifier: MIT
"""Picture: a scene as one lens at one setting sees it; only balloons and the mark are added per frame."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from maglens_driver.frame import Meta
from maglens_driver.mode import MJPG, NV12, YUYV, Mode
from maglens_driver.virtual.mark import Mark, draw
from maglens_driver.virtual.scene import Drifter

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.int16]

JPEG_QUALITIES: Final = (85, 70, 50, 30, 10)  # the first whose file fits the mode is taken
_COVER_BITS: Final = 7  # so that a difference times a coverage fits 16 bits


@dataclass(frozen=True, slots=True)
class Sprite:
    """A balloon as it comes out of the lens: luma (h, w), chroma (h/2, w/2, 2), and the coverage of each in 1/128."""

    drifter: Drifter
    luma: Words
    chroma: Words
    cover: Words
    chroma_cover: Words


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture before it takes a pixel format.

    ``luma`` (height, width) and ``chroma`` (height/2, width/2, 2: Cb, Cr) are video-range BT.601; ``clear`` and
    ``chroma_clear``, in 1/128, say how much of the background each pixel lets through; ``scale`` is pixels per
    tangent.
    """

    luma: Bytes
    chroma: Bytes
    clear: Words
    chroma_clear: Words
    sprites: tuple[Sprite, ...]
    scale: float
    meta: Meta


class Composer:
    """Turns one :class:`Rendered` into frames of one mode. Not for several threads at once."""

    def __init__(self, rendered: Rendered, mode: Mode) -> None:
        self.rendered = rendered
        self.mode = mode
        if mode.fourcc == YUYV:
            self._base: Bytes = _yuyv(rendered)
        else:
            self._base = np.concatenate((rendered.luma.reshape(-1), rendered.chroma.reshape(-1)))
        largest = max((s.luma.size for s in rendered.sprites), default=0)
        self._work = np.empty(largest, np.int16)
        self._cover = np.empty(largest, np.int16)
        self._scratch = np.empty(0 if mode.fourcc != MJPG else len(self._base), np.uint8)

    def compose(self, view: memoryview, seconds: float, mark: Mark) -> int:
        """Write the frame of time ``seconds`` with ``mark`` into ``view``; its length in bytes."""
        mode = self.mode
        if mode.fourcc == MJPG:
            return self._jpeg(view, seconds, mark)
        flat = np.frombuffer(view, np.uint8, mode.nbytes)
        flat[:] = self._base
        pixels = mode.width * mode.height
        if mode.fourcc == NV12:
            luma = flat[:pixels].reshape(mode.height, mode.width)
            chroma = flat[pixels:].reshape(mode.height // 2, mode.width // 2, 2)
            self._drift(luma, (chroma,), seconds)
        else:
            rows = flat.reshape(mode.height, mode.width // 2, 4)
            luma = flat[::2].reshape(mode.height, mode.width)
            self._drift(luma, (rows[::2, :, 1::2], rows[1::2, :, 1::2]), seconds)
        draw(view, mode, mark)
        return mode.nbytes

    def _drift(self, luma: Bytes, chromas: tuple[Bytes, ...], seconds: float) -> None:
        r = self.rendered
        height, width = luma.shape
        for sprite in r.sprites:
            x, y = sprite.drifter.position(seconds)
            h, w = sprite.luma.shape
            left = round(width / 2 + x * r.scale - w / 2) & ~1
            top = round(height / 2 - y * r.scale - h / 2) & ~1
            x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
            if x0 >= x1 or y0 >= y1:
                continue
            there = slice(y0, y1), slice(x0, x1)
            here = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            self._blend(luma[there], sprite.luma[here], sprite.cover[here], r.clear[there])
            there = slice(y0 // 2, y1 // 2), slice(x0 // 2, x1 // 2)
            here = (slice((y0 - top) // 2, (y1 - top) // 2), slice((x0 - left) // 2, (x1 - left) // 2))
            for chroma in chromas:
                self._blend(chroma[there], sprite.chroma[here], sprite.chroma_cover[here], r.chroma_clear[there])

    def _blend(self, onto: Bytes, color: Words, cover: Words, clear: Words) -> None:
        work = self._work[: color.size].reshape(color.shape)
        share = self._cover[: cover.size].reshape(cover.shape)
        np.multiply(cover, clear, out=share)
        share >>= _COVER_BITS
        np.subtract(color, onto, out=work)
        work *= share
        work >>= _COVER_BITS
        work += onto
        onto[:] = work

    def _jpeg(self, view: memoryview, seconds: float, mark: Mark) -> int:
        mode = self.mode
        flat = self._scratch
        flat[:] = self._base
        pixels = mode.width * mode.height
        luma = flat[:pixels].reshape(mode.height, mode.width)
        chroma = flat[pixels:].reshape(mode.height // 2, mode.width // 2, 2)
        self._drift(luma, (chroma,), seconds)
        raw_mode = Mode(NV12, mode.width, mode.height, mode.width, len(flat), mode.interval)
        draw(flat.data, raw_mode, mark)
        image = _full_range(luma, chroma)
        for quality in JPEG_QUALITIES:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=quality)
            if file.tell() <= mode.nbytes:
                break
        else:
            raise ValueError(f"no JPEG of {mode.describe()} fits {mode.nbytes} bytes")
        view[: file.tell()] = file.getbuffer()
        return file.tell()


def _yuyv(rendered: Rendered) -> Bytes:
    height, width = rendered.luma.shape
    out = np.empty((height, width // 2, 4), np.uint8)
    out[:, :, 0::2] = rendered.luma.reshape(height, width // 2, 2)
    out[0::2, :, 1::2] = rendered.chroma
    out[1::2, :, 1::2] = rendered.chroma
    return out.reshape(-1)


_Y_FULL = [round(min(255, max(0, (v - 16) * 255 / 219))) for v in range(256)]
_C_FULL = [round(min(255, max(0, (v - 128) * 255 / 224 + 128))) for v in range(256)]


def _full_range(luma: Bytes, chroma: Bytes) -> Image.Image:
    """The YCbCr image of video-range planes, for JPEG (which is full range, BT.601)."""
    size = luma.shape[1], luma.shape[0]
    bands = [Image.fromarray(luma).point(_Y_FULL)]
    for i in range(2):
        band = Image.fromarray(np.ascontiguousarray(chroma[:, :, i])).point(_C_FULL)
        bands.append(band.resize(size, Image.Resampling.NEAREST))
    return Image.merge("YCbCr", bands)
