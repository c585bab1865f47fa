# SPDX-License-Identifier: MIT
"""Mark: source, generation and number of a frame, written into the picture so that a recording tells what was seen.

A strip of 64 black or white cells spans the picture's whole width at its top edge, a second one (data inverted,
other sync) at its bottom edge. Each holds 8 sync cells, 48 bits (source 8, generation 8, number 24, CRC-8), 8 sync
cells. Both begin and end white, so that a reader finds the picture's left and right edge in a letterboxed frame
without knowing the scale. A picture is whole only if both copies say the same.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from maglens_driver.mode import NV12, YUYV, Mode

CELLS: Final = 64
DATA_BITS: Final = 48
STRIPS_PER_HEIGHT: Final = 48  # a strip takes 1/48 of the picture's height
MIN_CELL_PIXELS: Final = 3  # narrower cells cannot be read
MIN_CONTRAST: Final = 48  # luma steps between black and white cells

_BLACK, _WHITE, _NEUTRAL = 24, 220, 128
_SYNC_CELLS = (CELLS - DATA_BITS) // 2
_TOP_SYNC: Final = (0b10110100, 0b00101011)
_BOTTOM_SYNC: Final = (0b11001010, 0b01010011)
_POWERS = 1 << np.arange(_SYNC_CELLS - 1, -1, -1)
_CRC_POLYNOMIAL = 0x07  # CRC-8/SMBUS

Luma = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Mark:
    """``source`` (8 bit) says which module, ``generation`` (8 bit) which stay of it, ``number`` (24 bit) which frame.

    The values wrap: build it from a longer count with :meth:`wrapped`.
    """

    source: int
    generation: int
    number: int

    @classmethod
    def wrapped(cls, source: int, generation: int, number: int) -> Mark:
        """The mark for counts of any size, reduced to the bits there are."""
        return cls(source & 0xFF, generation & 0xFF, number & 0xFFFFFF)

    def pack(self) -> bytes:
        """Six bytes: source, generation, number (big-endian), CRC-8. ``OverflowError`` for values too large."""
        raw = bytes((self.source, self.generation)) + self.number.to_bytes(3, "big")
        return raw + bytes((_crc8(raw),))


@dataclass(frozen=True, slots=True)
class Mixed:
    """A picture put together from different frames: the marks read at its top and at its bottom (none: no mark)."""

    top: tuple[Mark, ...]
    bottom: tuple[Mark, ...]


def _crc_table() -> bytes:
    table = bytearray(256)
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = crc << 1 ^ (_CRC_POLYNOMIAL if crc & 0x80 else 0)
        table[value] = crc & 0xFF
    return bytes(table)


_CRC_TABLE: Final = _crc_table()


def _crc8(raw: bytes) -> int:
    crc = 0
    for byte in raw:
        crc = _CRC_TABLE[crc ^ byte]
    return crc


def strip_height(height: int) -> int:
    """Rows that one strip takes of a picture ``height`` rows high; even, for the chroma rows of 4:2:0."""
    return max(2, 2 * round(height / STRIPS_PER_HEIGHT / 2))


def cells(mark: Mark) -> tuple[Luma, Luma]:
    """The 64 cells of the upper and of the lower strip: 1 for white, 0 for black."""
    data = np.unpackbits(np.frombuffer(mark.pack(), np.uint8))
    strips = []
    for sync, bits in ((_TOP_SYNC, data), (_BOTTOM_SYNC, 1 - data)):
        ends = np.unpackbits(np.array(sync, np.uint8))
        strips.append(np.concatenate((ends[:_SYNC_CELLS], bits, ends[_SYNC_CELLS:])))
    return strips[0], strips[1]


class Painter:
    """Draws marks into luma planes of one width and height. Nothing is allocated per frame but 64 cells."""

    def __init__(self, width: int, height: int) -> None:
        if width < CELLS * MIN_CELL_PIXELS:
            raise ValueError(f"a mark needs at least {CELLS * MIN_CELL_PIXELS} pixels, not {width}")
        self.rows = strip_height(height)
        self._cell_of_x = np.arange(width) * CELLS // width
        self._row = np.empty(width, np.uint8)

    def draw(self, luma: npt.NDArray[np.uint8], mark: Mark) -> None:
        """Write both strips into ``luma``, shape (height, width), of any strides."""
        for strip, rows in zip(cells(mark), (luma[: self.rows], luma[-self.rows :]), strict=True):
            np.take(strip * np.uint8(_WHITE - _BLACK) + np.uint8(_BLACK), self._cell_of_x, out=self._row)
            rows[:] = self._row


@functools.lru_cache(maxsize=16)
def _painter(width: int, height: int) -> Painter:
    return Painter(width, height)


def luma_plane(view: memoryview | bytearray, mode: Mode) -> Luma:
    """The luma of an NV12 or YUYV picture as a view of shape (height, width); ``ValueError`` for other formats."""
    flat = np.frombuffer(view, np.uint8)
    rows = flat[: mode.stride * mode.height].reshape(mode.height, mode.stride)
    if mode.fourcc == NV12:
        return rows[:, : mode.width]
    if mode.fourcc == YUYV:
        return rows[:, : 2 * mode.width : 2]
    raise ValueError(f"{mode.describe()} has no luma plane to draw into")


def draw(view: memoryview | bytearray, mode: Mode, mark: Mark) -> None:
    """Write ``mark`` into an NV12 or YUYV picture and make the chroma under it neutral."""
    painter = _painter(mode.width, mode.height)
    painter.draw(luma_plane(view, mode), mark)
    flat = np.frombuffer(view, np.uint8)
    if mode.fourcc == NV12:
        chroma = flat[mode.stride * mode.height : mode.nbytes].reshape(mode.height // 2, mode.stride)
        rows = painter.rows // 2
    else:
        chroma = flat[: mode.stride * mode.height].reshape(mode.height, mode.stride)[:, 1 : 2 * mode.width : 2]
        rows = painter.rows
    chroma[:rows] = _NEUTRAL
    chroma[-rows:] = _NEUTRAL


def _decode(luma: Luma, sync: tuple[int, int], flip: int) -> tuple[Mark, ...]:
    """The different marks with a right sync and CRC in the rows of ``luma``, shape (rows, width). One in a single row
    does not count beside others: where a strip blends with the picture, cells are misread, and a CRC of eight bits
    lets one row in 256 of those pass."""
    low, high = luma.min(axis=1).astype(np.int16), luma.max(axis=1).astype(np.int16)
    keep = high - low >= MIN_CONTRAST
    luma, middle = luma[keep], ((low + high) // 2)[keep]
    if not len(luma):
        return ()
    width = luma.shape[1]
    bright = luma > middle[:, None]
    first = bright.argmax(axis=1)
    span = width - bright[:, ::-1].argmax(axis=1) - first
    keep = span >= CELLS * MIN_CELL_PIXELS
    luma, middle, first, span = luma[keep], middle[keep], first[keep], span[keep]
    centres = (first[:, None] + (np.arange(CELLS) + 0.5) * span[:, None] / CELLS).astype(np.intp)
    total = np.zeros(centres.shape, np.int16)
    for step in (-1, 0, 1):
        total += np.take_along_axis(luma, np.clip(centres + step, 0, width - 1), axis=1)
    bits = total > 3 * middle[:, None]
    left, right = bits[:, :_SYNC_CELLS] @ _POWERS, bits[:, -_SYNC_CELLS:] @ _POWERS
    found = bits[(left == sync[0]) & (right == sync[1])]
    rows: Counter[Mark] = Counter()
    for raw in np.packbits(found[:, _SYNC_CELLS:-_SYNC_CELLS] ^ bool(flip), axis=1):
        packed = raw.tobytes()
        if _crc8(packed[:-1]) == packed[-1]:
            rows[Mark(packed[0], packed[1], int.from_bytes(packed[2:5], "big"))] += 1
    several = max(rows.values(), default=0) > 1
    return tuple(mark for mark, count in rows.items() if count > several)


def read(luma: Luma) -> Mark | Mixed | None:
    """Read the mark of a picture: uint8 luma of shape (height, width), full or video range.

    The picture may have been scaled and letterboxed, as long as it reaches over the frame's middle row. None: no mark
    at either edge. :class:`Mixed`: the two edges do not both say the same.
    """
    half = luma.shape[0] // 2
    top = _decode(luma[:half], _TOP_SYNC, 0)
    bottom = _decode(luma[half:], _BOTTOM_SYNC, 1)
    if not top and not bottom:
        return None
    if len(top) == 1 and top == bottom:
        return top[0]
    return Mixed(top, bottom)
