# SPDX-License-Identifier: GPL-2.0-or-later
"""Terminal: a picture in coloured half blocks, where there is no display or no program for a window."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import sys
import time
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TextIO

import numpy as np
import numpy.typing as npt

from maglens_driver.errors import MaglensError, Refused
from maglens_driver.mode import NV12, YUYV, Mode
from maglens_v4l2.reader import Reader

PICTURES_PER_S: Final = 10
WAIT_S: Final = 1.0
_HALF: Final = "\u2580"  # upper half block: foreground above, background below
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"  # another screen, no cursor, empty
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_PLAIN: Final = "\x1b[0m"
_CLEAR_LINE: Final = "\x1b[K"

Pixels = npt.NDArray[np.uint8]


def small(picture: memoryview, mode: Mode, columns: int, rows: int) -> Pixels:
    """An NV12 or YUYV picture as RGB of shape (height, width, 3): ``columns`` wide and twice ``rows`` high, or less
    where the picture has another shape."""
    scale = min(columns / mode.width, 2 * rows / mode.height)
    width, height = max(1, int(mode.width * scale)), max(2, int(mode.height * scale) // 2 * 2)
    y = (np.arange(height) * mode.height // height)[:, None]
    x = (np.arange(width) * mode.width // width)[None, :]
    flat = np.frombuffer(picture, np.uint8, mode.nbytes)
    if mode.fourcc == NV12:
        luma = flat[y * mode.stride + x]
        chroma = mode.stride * mode.height + y // 2 * mode.stride + x // 2 * 2
        blue, red = flat[chroma], flat[chroma + 1]
    else:
        at = y * mode.stride + x // 2 * 4
        luma, blue, red = flat[at + x % 2 * 2], flat[at + 1], flat[at + 3]
    return _rgb(luma, blue, red)


def _rgb(luma: Pixels, blue: Pixels, red: Pixels) -> Pixels:
    """BT.601, video range."""
    y = 1.164 * (luma.astype(np.float32) - 16)
    u, v = blue.astype(np.float32) - 128, red.astype(np.float32) - 128
    planes = (y + 1.596 * v, y - 0.392 * u - 0.813 * v, y + 2.017 * u)
    rgb: Pixels = np.clip(np.rint(np.stack(planes, axis=2)), 0, 255).astype(np.uint8)
    return rgb


def drawn(pixels: Pixels) -> str:
    """As lines of half blocks with 24-bit colours; a colour is written where it changes."""
    lines = []
    for above, below in zip(pixels[0::2], pixels[1::2], strict=True):
        line, before = [], ""
        for (r, g, b), (r2, g2, b2) in zip(above.tolist(), below.tolist(), strict=True):
            color = f"\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m"
            line.append(_HALF if color == before else color + _HALF)
            before = color
        lines.append("".join(line) + _PLAIN + _CLEAR_LINE)
    return "\n".join(lines)


def fitting(line: str, columns: int) -> str:
    """As much of a line as fits: letters of East Asia take two columns, accents that stand alone none."""
    for place, letter in enumerate(line):
        columns -= 0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        if columns < 0:
            return line[:place]
    return line


class Screen:
    """The terminal, while it shows pictures. ``show`` leaves out what comes too soon."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._next_s = 0.0

    def show(self, picture: memoryview, mode: Mode, words: str) -> None:
        """The picture, and ``words`` below it."""
        now = time.monotonic()
        if now < self._next_s:
            return
        self._next_s = now + 1 / PICTURES_PER_S
        size = shutil.get_terminal_size()
        lines = words.splitlines()
        pixels = small(picture, mode, size.columns, max(1, size.lines - len(lines) - 1))
        text = "".join(f"\n{fitting(line, size.columns)}{_CLEAR_LINE}" for line in lines)
        self._out.write(_HOME + drawn(pixels) + text + "\x1b[J")
        self._out.flush()


@contextlib.contextmanager
def screen(out: TextIO | None = None) -> Iterator[Screen]:
    """A screen of its own, that leaves the terminal as it was."""
    stream = out or sys.stdout
    stream.write(_ENTER)
    try:
        yield Screen(stream)
    finally:
        stream.write(_LEAVE)
        stream.flush()


def _opened(node: str) -> tuple[Reader, Mode]:
    """The node, streaming. Raises ``Refused`` where its format is a compressed one, where another app has it or this
    user may not open it, and ``MaglensError``."""
    with contextlib.ExitStack() as undo:
        try:
            reader = Reader(node)
            undo.callback(reader.close)
            mode = reader.format()
            if mode.fourcc not in (NV12, YUYV):
                raise Refused("format", f"{node} has {mode.describe()}", hint="maglens preview, with a display")
            reader.start()
        except OSError as error:
            raise _said(node, error) from error
        undo.pop_all()
        return reader, mode


def _said(node: str, error: OSError) -> MaglensError:
    if isinstance(error, PermissionError):
        return Refused("ACCESS", f"{node}: you may not open it", hint="maglens doctor")
    if error.errno == errno.EBUSY:
        return Refused("BUSY", f"{node}: another app has it", hint="close that app; maglens.ko shows it to several")
    return MaglensError(f"{node}: {error.strerror}", hint="maglens doctor")


async def play(node: str, words: Callable[[], str], seconds: float) -> None:
    """Show the node until cancelled, or for so many seconds (0: no end). Raises ``Gone`` when the node has gone,
    ``Refused`` and ``MaglensError`` where it cannot be shown."""
    reader, mode = await asyncio.to_thread(_opened, node)
    try:
        with screen() as shown:
            async for picture in _pictures(reader, seconds):
                shown.show(picture, mode, words())
    finally:
        reader.close()


async def _pictures(reader: Reader, seconds: float) -> AsyncIterator[memoryview]:
    end = time.monotonic() + seconds if seconds else None
    while end is None or time.monotonic() < end:
        picture = await asyncio.to_thread(reader.newest, WAIT_S)
        if picture is not None:
            yield picture
