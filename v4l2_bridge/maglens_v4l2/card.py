# SPDX-License-Identifier: GPL-2.0-or-later
"""Card: the picture that says what is going on while no camera plays."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from maglens_driver.errors import Refused
from maglens_driver.mode import MJPG, NV12, YUYV, Mode

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

BACKGROUND = (17, 20, 26)
BAND = (25, 30, 38)
RING = (74, 222, 205)
TITLE = (240, 244, 248)
TEXT = (158, 170, 184)
PROJECT = "maglens"
# Tried in this order; Pillow's built-in face where none is installed.
FACES = ("DejaVuSans.ttf", "DejaVuSansCondensed.ttf", "LiberationSans-Regular.ttf")
BOLD_FACES = ("DejaVuSans-Bold.ttf", "DejaVuSansCondensed-Bold.ttf", "LiberationSans-Bold.ttf")
MAX_LINES = 5
MAX_TEXT = 120  # characters of a title or a line; more is cut
CACHED = 4  # cards kept as bytes: one is 3 MB at 1080p
MJPEG_QUALITY = 85
# From full range (ITU-T T.871) to limited: 16-235 and 16-240 around 128.
LUMA = [round(16 + value * 219 / 255) for value in range(256)]
CHROMA = [round(128 + (value - 128) * 112 / 127.5) for value in range(256)]


@dataclass(frozen=True, slots=True)
class Card:
    """A title and up to five lines of text. ``passing``: it tells of what is under way, and is not worth drawing for
    a moment."""

    title: str
    lines: tuple[str, ...] = ()
    passing: bool = False


@functools.lru_cache(maxsize=CACHED)
def render(card: Card, mode: Mode) -> bytes:
    """The card as exactly one frame of ``mode`` (of at most ``mode.nbytes`` for MJPG).

    Raises ``Refused`` for a format that apps are never offered.
    """
    return _encode(draw(card, mode.width, mode.height), mode)


def black(mode: Mode) -> bytes:
    """A black frame, for the moment before the first card is drawn. Errors as :func:`render`."""
    return _encode(Image.new("RGB", (mode.width, mode.height)), mode)


def _encode(image: Image.Image, mode: Mode) -> bytes:
    if mode.fourcc == MJPG:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=MJPEG_QUALITY)
        return out.getvalue()
    if mode.fourcc not in (NV12, YUYV):
        raise Refused("mode", f"no card in {mode.describe()}")
    return pack(image, mode)


def draw(card: Card, width: int, height: int) -> Image.Image:
    """The card as RGB, ``width`` x ``height``."""
    image = Image.new("RGB", (width, height), BACKGROUND)
    pen = ImageDraw.Draw(image)
    unit = min(width / 16, height / 9)
    margin = round(unit * 1.2)
    room = width - 2 * margin
    _ring(pen, width, height, unit)

    pen.text((margin, round(unit * 0.95)), PROJECT, font=_font(BOLD_FACES, unit * 0.5), fill=RING)
    lines = [line[:MAX_TEXT] for line in card.lines[:MAX_LINES]]
    title, title_font = _fitted(pen, card.title[:MAX_TEXT], BOLD_FACES, unit * 0.95, room)
    fitted = [_fitted(pen, line, FACES, unit * 0.5, room) for line in lines]
    smallest = min((font for _, font in fitted), key=lambda font: float(getattr(font, "size", 0)), default=None)
    body = [(text, smallest) for text, _ in fitted]
    block = unit * (1.2 + 0.75 * len(body))
    top = max((height - block) / 2, unit * 1.9)
    pen.text((margin, round(top)), title, font=title_font, fill=TITLE)
    for row, (text, font) in enumerate(body):
        pen.text((margin, round(top + unit * (1.5 + 0.75 * row))), text, font=font, fill=TEXT)
    return image


def pack(image: Image.Image, mode: Mode) -> bytes:
    """RGB to ``mode`` (NV12 or YUYV): BT.601, limited range, chroma averaged, padding 0. All of it is Pillow's C,
    since a slow board draws cards while it streams: interleaving is an image of two or four bands, read as bytes."""
    luma, blue, red = image.convert("YCbCr").split()  # JPEG's: full range
    nv12 = mode.fourcc == NV12
    y = luma.point(LUMA)
    u, v = (plane.reduce((2, 2 if nv12 else 1)).point(CHROMA) for plane in (blue, red))
    if nv12:
        return y.tobytes("raw", "L", mode.stride) + Image.merge("LA", (u, v)).tobytes("raw", "LA", mode.stride)
    left, right = Image.frombytes("LA", u.size, y.tobytes()).split()
    return Image.merge("RGBA", (left, u, right, v)).tobytes("raw", "RGBA", mode.stride)


def _ring(pen: ImageDraw.ImageDraw, width: int, height: int, unit: float) -> None:
    """The magnetic ring, a quarter of it in the lower right corner, its pogo pins below where text can be."""
    x, y, radius = width - unit * 0.4, height - unit * 0.2, unit * 3.9
    for size, colour, line in ((1.12, BAND, 0.10), (1.0, BAND, 0.55), (0.62, BAND, 0.10)):
        r = radius * size
        pen.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=max(1, round(unit * line)))
    dot = unit * 0.11
    for step in range(5):
        angle = math.pi + 0.06 + step * 0.09
        cx, cy = x + radius * 0.925 * math.cos(angle), y + radius * 0.925 * math.sin(angle)
        pen.ellipse((cx - dot, cy - dot, cx + dot, cy + dot), fill=RING)


@functools.lru_cache(maxsize=16)
def _font(faces: tuple[str, ...], size: float) -> Font:
    for face in faces:
        try:
            return ImageFont.truetype(face, round(size))
        except OSError:
            continue
    return ImageFont.load_default(round(size))


def _fitted(
    pen: ImageDraw.ImageDraw, text: str, faces: tuple[str, ...], size: float, room: float
) -> tuple[str, Font]:
    """The text in the largest size that fits ``room`` pixels; below half the wanted size it is cut instead."""
    for scale in (1.0, 0.85, 0.7, 0.6, 0.5):
        font = _font(faces, size * scale)
        if pen.textlength(text, font=font) <= room:
            return text, font
    while text and pen.textlength(text + "…", font=font) > room:
        text = text[:-1]
    return text + "…", font
