# SPDX-License-Identifier: GPL-2.0-or-later
"""Orientation: how a camera was mounted, and the converter that sets its pictures upright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from maglens_driver.errors import Refused
from maglens_driver.frame import Frame
from maglens_driver.mode import NV12, Mode, make_mode
from maglens_v4l2._pixels import turn
from maglens_v4l2.convert import Converter, PictureConverter, make_converter, same_layout
from maglens_v4l2.recipe_book import Measured, RecipeBook

if TYPE_CHECKING:
    from collections.abc import Callable

QUARTERS: Final = (0, 90, 180, 270)


@dataclass(frozen=True, slots=True)
class Orientation:
    """``rotate``: degrees clockwise by which pictures are turned; ``mirror``: left and right are swapped after it."""

    rotate: int = 0
    mirror: bool = False

    def turned(self, mode: Mode) -> Mode:
        """What frames of ``mode`` become: tight NV12."""
        return make_mode(NV12, *self._size(mode), mode.interval)

    def unturned(self, node: Mode) -> Mode:
        """What would fill a node of this format: its size as the camera sees it. As it is where nothing is turned."""
        width, height = self._size(node)
        return node if width == node.width else make_mode(node.fourcc, width, height, node.interval)

    def _size(self, mode: Mode) -> tuple[int, int]:
        return (mode.height, mode.width) if self.rotate % 180 else (mode.width, mode.height)


UPRIGHT: Final = Orientation()


class TurnConverter:
    """To NV12 of the source's size, turned, then to the node's layout and size; steps that change nothing are left
    out. Two frames of memory, made once."""

    def __init__(
        self, src: Mode, dst: Mode, orientation: Orientation, make: Callable[[Mode, Mode], Converter | None]
    ) -> None:
        self._orientation = orientation
        plain = make_mode(NV12, src.width, src.height, src.interval)
        turned = orientation.turned(src)
        direct = src.fourcc == NV12 and src.stride % 2 == 0 and src.ycbcr is None
        self._source = src if direct else plain
        self._first = None if direct else make(src, plain)
        self._plain = memoryview(bytearray(plain.nbytes if self._first is not None else 0))
        self._turned = dst if same_layout(turned, dst) else turned
        self._last = None if same_layout(turned, dst) else PictureConverter(turned, dst)
        self._upright = memoryview(bytearray(turned.nbytes if self._last is not None else 0))

    def run(self, frame: Frame, dst: memoryview) -> str | None:
        cause = None
        picture = frame.lease.view[: frame.nbytes]
        if self._first is not None:
            cause = self._first.run(frame, self._plain)
            picture = self._plain
        upright = dst if self._last is None else self._upright
        src, by = self._source, self._orientation
        turn(src.width, src.height, src.stride, picture, self._turned.stride, upright, by.rotate, by.mirror)
        if self._last is not None:
            self._last.scale(self._upright, dst)
        return cause


def upright_converter(
    src: Mode,
    dst: Mode,
    orientation: Orientation = UPRIGHT,
    book: RecipeBook | None = None,
    measured: Measured | None = None,
) -> Converter | None:
    """As :func:`maglens_v4l2.convert.make_converter`, for a camera that was mounted in some way."""
    if orientation == UPRIGHT:
        return make_converter(src, dst, book, measured)
    try:
        return TurnConverter(src, dst, orientation, lambda a, b: make_converter(a, b, book, measured))
    except ValueError as error:
        raise Refused("mode", f"cannot turn {src.describe()}: {error}") from error
