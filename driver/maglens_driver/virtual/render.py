# SPDX-License-Identifier: MIT
"""Renderer: scene and optics to a :class:`Rendered` picture of one size. What has not changed is not made again."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from maglens_driver.virtual.canvas import Abandoned, Canvas, GiveUp
from maglens_driver.virtual.optics import Optics
from maglens_driver.virtual.picture import Rendered, Sprite
from maglens_driver.virtual.scene import DRIFTERS, LAYERS, Drifter

_GAMMA: Final = 2.2
_KNEE: Final = 0.7  # linear light above which highlights are rolled off
_MAX_BLUR: Final = 1 / 6  # of the picture's height: beyond that a layer is a veil anyway
_SPRITE_LIMIT: Final = 0.75  # of the picture's height: a balloon blurred wider than that is left out
_BLUR_STEP: Final = 0.25  # pixels; a smaller change of blur is not seen
_LEAST_SIGMA: Final = 0.06  # pixels; below the first step of blur
_FONT: Final = "DejaVuSans-Bold.ttf"

Bytes = npt.NDArray[np.uint8]


def _blurred(layer: Image.Image, diameter: float) -> Image.Image:
    """Blur as a disc of ``diameter`` pixels does: a Gaussian of the same variance. Wide ones at less detail."""
    sigma = diameter / 4
    if sigma < _LEAST_SIGMA:
        return layer
    shrink = 1
    while sigma / shrink > 4:
        shrink *= 2
    if shrink == 1:
        return layer.filter(ImageFilter.GaussianBlur(sigma))
    width, height = layer.size
    small = layer.resize((max(1, width // shrink), max(1, height // shrink)), Image.Resampling.BOX)
    return small.filter(ImageFilter.GaussianBlur(sigma / shrink)).resize(layer.size, Image.Resampling.BICUBIC)


def _tone(optics: Optics) -> list[int]:
    """Look-up of three times 256 values: exposure and white balance in linear light."""
    table: list[int] = []
    for gain in optics.color_gains():
        light = (np.arange(256) / 255) ** _GAMMA * optics.brightness() * gain
        room = 1 - _KNEE
        bright = _KNEE + room * (1 - np.exp(-(light - _KNEE) / room))
        light = np.where(light > _KNEE, bright, light)
        table += np.rint(255 * light ** (1 / _GAMMA)).astype(int).tolist()
    return table


_VIDEO_LUMA = [round(16 + v * 219 / 255) for v in range(256)]
_VIDEO_CHROMA = [round(128 + (v - 128) * 224 / 255) for v in range(256)]
_VIDEO_RANGE: Final = _VIDEO_LUMA + 2 * _VIDEO_CHROMA


def _planes(rgb: Image.Image) -> tuple[Bytes, Bytes]:
    """Video-range BT.601 luma (h, w) and chroma (h/2, w/2, 2) of an RGB image of even size."""
    ycc = rgb.convert("YCbCr").point(_VIDEO_RANGE)
    luma = np.array(ycc.getchannel(0))
    chroma = np.stack([np.asarray(ycc.getchannel(i).reduce(2)) for i in (1, 2)], axis=2)
    return luma, chroma


def _share(cover: Bytes) -> npt.NDArray[np.int16]:
    """Coverage 0 to 255 as 0 to 128."""
    return ((cover.astype(np.int16) + 1) >> 1).astype(np.int16)


def _halved(cover: Bytes) -> npt.NDArray[np.int16]:
    """The same for chroma samples, with an axis to spread over Cb and Cr."""
    return np.repeat(_share(np.asarray(Image.fromarray(cover).reduce(2)))[:, :, None], 2, axis=2)


class Renderer:
    """Renders for one size. Drawings and blurs are kept, so that a change of exposure costs only its own work.

    Not for several threads at once.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = width, height
        self._title = title
        self._scale = 0.0
        self._sharp: list[Image.Image] = []
        self._soft: dict[int, tuple[float, Image.Image]] = {}

    def render(self, optics: Optics, give_up: GiveUp) -> Rendered:
        """The picture at these settings. :class:`Abandoned` soon after ``give_up()`` has become true."""
        picture, clear = self.scene(optics, give_up)
        scale, table = self._scale, _tone(optics)
        toned = picture.point(table)
        self._caption(toned, optics)
        luma, chroma = _planes(toned)
        gap = np.asarray(clear)
        return Rendered(
            luma, chroma, _share(gap), _halved(gap), self._sprites(optics, scale, table), scale, optics.meta()
        )

    def blurs(self, optics: Optics) -> tuple[float, ...]:
        """Diameters of the circles of confusion of the layers: all that focus and iris do to the picture."""
        return tuple(self._blur(layer.distance_m, optics) for layer in LAYERS)

    def scene(self, optics: Optics, give_up: GiveUp) -> tuple[Image.Image, Image.Image]:
        """The layers through the lens, as drawn, and how much of the farthest each pixel shows (0 to 255)."""
        scale = self._size[0] * optics.focal_mm / optics.sensor_mm
        if scale != self._scale:
            self._sharp.clear()
            self._soft.clear()
            self._scale = scale
        picture: Image.Image | None = None
        clear: Image.Image | None = None
        for index in range(len(LAYERS)):
            if give_up():
                raise Abandoned
            if index == len(self._sharp):
                self._sharp.append(self._drawn(index, scale, give_up))
            layer = self._layer(index, self._blur(LAYERS[index].distance_m, optics))
            red, green, blue, cover = layer.split()
            color = Image.merge("RGB", (red, green, blue))
            if picture is None or clear is None:
                picture, clear = color, Image.new("L", self._size, 255)
                continue
            through = cover.point([255 - v for v in range(256)])
            picture = _over(color, through, picture)
            clear = Image.composite(clear, Image.new("L", self._size), through)
        assert picture is not None and clear is not None
        return picture, clear

    def _blur(self, distance_m: float, optics: Optics) -> float:
        blur = min(optics.blur_pixels(distance_m, self._size[0]), self._size[1] * _MAX_BLUR * 4)
        return round(blur / _BLUR_STEP) * _BLUR_STEP

    def _drawn(self, index: int, scale: float, give_up: GiveUp) -> Image.Image:
        canvas = Canvas(*self._size, scale, give_up=give_up)
        LAYERS[index].draw(canvas)
        return canvas.finish()

    def _layer(self, index: int, blur: float) -> Image.Image:
        kept = self._soft.get(index)
        if kept is not None and kept[0] == blur:
            return kept[1]
        soft = _blurred(self._sharp[index], blur)
        self._soft[index] = blur, soft
        return soft

    def _sprites(self, optics: Optics, scale: float, table: list[int]) -> tuple[Sprite, ...]:
        made = (self._sprite(d, optics, scale, table) for d in DRIFTERS)
        return tuple(s for s in made if s is not None)

    def _sprite(self, drifter: Drifter, optics: Optics, scale: float, table: list[int]) -> Sprite | None:
        blur = self._blur(math.inf, optics)
        side = 2 * math.ceil(drifter.radius * 1.25 * scale + blur * 0.75 + 1)
        if side > self._size[1] * _SPRITE_LIMIT:
            return None
        canvas = Canvas(side, side, scale)
        drifter.draw(canvas)
        layer = _blurred(canvas.finish(), blur)
        cover = np.asarray(layer.getchannel(3))
        premultiplied = np.asarray(layer).astype(np.uint16)[:, :, :3]
        color = np.minimum(255, premultiplied * 255 // np.maximum(1, cover)[:, :, None].astype(np.uint16))
        luma, chroma = _planes(Image.fromarray(color.astype(np.uint8)).point(table))
        return Sprite(drifter, luma.astype(np.int16), chroma.astype(np.int16), _share(cover), _halved(cover))

    def _caption(self, image: Image.Image, optics: Optics) -> None:
        """Name and settings at the lower left, above the mark."""
        height = self._size[1]
        big, small = _font(height // 16), _font(height // 28)
        focus = f"{1 / optics.focus_dpt:.2f} m" if optics.focus_dpt else "infinity"
        settings = f"f/{optics.fnumber:.1f}   1/{max(1, round(1 / optics.exposure_s))} s   focus {focus}"
        pad = height // 60
        bottom = height - height // 48 - 2 * pad
        middle, top = bottom - height // 18, bottom - height // 18 - height // 11
        draw = ImageDraw.Draw(image, "RGBA")
        wide = max(draw.textlength(self._title, font=big), draw.textlength(settings, font=small))
        box = (2 * pad, top - pad, round(4 * pad + wide), bottom + pad // 2)
        draw.rectangle(box, fill=(16, 20, 28, 170))
        draw.text((3 * pad, top), self._title, font=big, fill=(255, 255, 255, 255))
        draw.text((3 * pad, middle), settings, font=small, fill=(255, 222, 140, 255))


def scaled(picture: Rendered, width: int, height: int) -> Rendered:
    """Another size of a picture, quickly and without its balloons; cropped where the shapes differ."""
    have_height, have_width = picture.luma.shape
    scale = max(width / have_width, height / have_height)
    left, top = (have_width - width / scale) / 2, (have_height - height / scale) / 2
    box = left, top, have_width - left, have_height - top

    def plane(values: Bytes, shrink: int) -> Bytes:
        part = (box[0] / shrink, box[1] / shrink, box[2] / shrink, box[3] / shrink)
        size = width // shrink, height // shrink
        return np.array(Image.fromarray(values).resize(size, Image.Resampling.NEAREST, part))

    chroma = np.stack([plane(np.ascontiguousarray(picture.chroma[:, :, i]), 2) for i in (0, 1)], axis=2)
    empty = np.zeros((0, 0), np.int16)
    return Rendered(plane(picture.luma, 1), chroma, empty, empty, (), picture.scale * scale, picture.meta)


def _over(color: Image.Image, through: Image.Image, below: Image.Image) -> Image.Image:
    """Premultiplied ``color`` over ``below``, of which ``through`` (0 to 255) is let through."""
    seen = ImageChops.multiply(below, Image.merge("RGB", (through, through, through)))
    return ImageChops.add(seen, color)


def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.truetype(_FONT, pixels)
    except OSError:
        pass
    try:
        return ImageFont.load_default(pixels)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()
