# SPDX-License-Identifier: GPL-2.0-or-later
"""Modes: what a capture device offers, of the formats that the bridge can show."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from maglens_driver.mode import MJPG, NV12, YUYV, Mode, frame_bytes, make_mode
from maglens_driver.v4l2 import colours
from maglens_driver.v4l2.binding import GONE, linuxpy

log = logging.getLogger(__name__)

FORMATS = (NV12, YUYV, MJPG)
SIZES = ((640, 480), (1280, 720), (1920, 1080), (3840, 2160))  # asked for where a device takes any size
RATE = Fraction(1, 30)  # assumed where a device tells none
MAX_MODES = 256  # a device that enumerates more is not asked further
MAX_DENOMINATOR = 100_000  # linuxpy gives rates as floating point; 30000/1001 survives


def read_modes(fd: int) -> tuple[Mode, ...]:
    """In the device's own order, but of each size the fastest rate first; at most ``MAX_MODES``. Strides and sizes
    are settled by :func:`set_mode`."""
    v4l2 = linuxpy()
    modes: list[Mode] = []
    for offered in v4l2.iter_read_formats(fd, v4l2.BufferType.VIDEO_CAPTURE):
        code = int(offered.pixel_format)
        if code not in FORMATS:
            continue
        for width, height in _sizes(v4l2, fd, code):
            if width % 2 or height % 2:
                continue
            for interval in sorted(_intervals(v4l2, fd, code, width, height)):
                mode = _mode(code, width, height, interval)
                if mode not in modes:
                    modes.append(mode)
                if len(modes) == MAX_MODES:
                    return tuple(modes)
    return tuple(modes)


def try_mode(fd: int, mode: Mode) -> Mode:
    """What the device would make of ``mode``, changing nothing."""
    v4l2 = linuxpy()
    wanted = _raw_format(v4l2, fd, mode)
    v4l2.try_raw_format(fd, wanted)
    return _settled(wanted, mode)


def set_mode(fd: int, mode: Mode) -> Mode:
    """Choose ``mode``; the answer has the device's stride, size, rate and colours."""
    v4l2 = linuxpy()
    wanted = _raw_format(v4l2, fd, mode)
    v4l2.set_raw_format(fd, wanted)
    settled = _settled(wanted, mode)
    kind = v4l2.BufferType.VIDEO_CAPTURE
    try:
        v4l2.set_fps(fd, kind, 1 / mode.interval)
    except OSError as error:  # a device without a rate to set sends at its own, and may say which
        if error.errno in GONE:
            raise
    try:
        rate = v4l2.get_fps(fd, kind)
    except ZeroDivisionError:  # linuxpy's, at an interval of 0 s
        return settled
    except OSError as error:
        if error.errno in GONE:
            raise
        return settled
    return replace(settled, interval=1 / rate) if rate else settled


def settle_rates(fd: int, modes: Sequence[Mode]) -> dict[Mode, Mode]:
    """Each mode at the rate that the device makes of it, and the mode to ask for: V4L2 has no way to try a rate, so
    each is set. A mode that is not taken is left out. ``OSError`` EBUSY where another program uses the device."""
    found: dict[Mode, Mode] = {}
    for mode in modes:
        try:
            settled = set_mode(fd, mode)
        except OSError as error:
            if error.errno in (*GONE, errno.EBUSY):
                raise
            log.info("%s is left out: %s", mode.describe(), error)
            continue
        found.setdefault(replace(mode, interval=settled.interval), mode)
    return found


def _mode(code: int, width: int, height: int, interval: Fraction) -> Mode:
    if code == MJPG:
        return Mode(code, width, height, 0, width * height * 2, interval)
    return make_mode(code, width, height, interval)


def _sizes(v4l2: Any, fd: int, code: int) -> Iterator[tuple[int, int]]:
    for size in v4l2.iter_read_frame_sizes(fd, code):
        if size.type == v4l2.FrameSizeType.DISCRETE:
            yield size.info.width, size.info.height
            continue
        info = size.info
        for width, height in SIZES:
            if info.min_width <= width <= info.max_width and info.min_height <= height <= info.max_height:
                yield width, height


def _intervals(v4l2: Any, fd: int, code: int, width: int, height: int) -> Iterator[Fraction]:
    found = []
    try:
        for offered in v4l2.iter_read_frame_intervals(fd, code, width, height):
            # Discrete ones come alone; of a range, from its ends, the fastest rate is what apps want.
            rate = max(Fraction(offered.min_fps), Fraction(offered.max_fps)).limit_denominator(MAX_DENOMINATOR)
            found.append(1 / rate if rate else RATE)
    except ZeroDivisionError:  # linuxpy's, at an interval of 0 s: what came before it is what there is
        found = found or [RATE]
    yield from found


def _raw_format(v4l2: Any, fd: int, mode: Mode) -> Any:
    wanted = v4l2.raw.v4l2_format()
    wanted.type = v4l2.BufferType.VIDEO_CAPTURE
    pix = wanted.fmt.pix
    pix.width, pix.height, pix.pixelformat, pix.field = mode.width, mode.height, mode.fourcc, v4l2.Field.ANY
    colours.ask(fd, pix)
    return wanted


def _settled(answer: Any, mode: Mode) -> Mode:
    pix = answer.fmt.pix
    stride = 0 if pix.pixelformat == MJPG else pix.bytesperline
    exact = frame_bytes(pix.pixelformat, stride, pix.height)
    return replace(
        mode,
        fourcc=pix.pixelformat,
        width=pix.width,
        height=pix.height,
        stride=stride,
        nbytes=min(pix.sizeimage, exact) if exact else pix.sizeimage,  # drivers round it up, as to whole pages
        ycbcr=colours.made_by(pix),
    )
