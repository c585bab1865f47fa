# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel node offers to apps, whatever module is there: formats and controls, fixed when it is created.

No event tells an open app of a new control or format, so the lists hold everything that any module may bring; what
the present one lacks is inactive. Ranges here are the widest; the module's own are pushed when it comes.
"""

from __future__ import annotations

from fractions import Fraction

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.mode import MJPG, NV12, YUYV, Mode, make_mode

SIZES = ((640, 480), (1280, 720), (1920, 1080), (3840, 2160))
FULL_HD = 1920 * 1080  # pixels
RATES = (30, 60, 25, 24, 15, 10, 5)
LAYOUTS = (NV12, YUYV)
JPEG_BITS_PER_PIXEL = 8  # of the largest picture that fits; cameras send one to four
INPUTS = 8  # Automatic, and as many sources as can be pinned

_BOOL, _INT, _MENU = ControlType.BOOLEAN, ControlType.INTEGER, ControlType.MENU
_READ_ONLY = ControlFlag.READ_ONLY
_EXPOSURE_AUTO = ((0, "Auto Mode"), (1, "Manual Mode"), (2, "Shutter Priority Mode"), (3, "Aperture Priority Mode"))
_MAINS = ((0, "Disabled"), (1, "50 Hz"), (2, "60 Hz"), (3, "Auto"))
_ISO_AUTO = ((0, "Manual"), (1, "Auto"))
_ISO = tuple((index, str(1000 * 50 * 2**index)) for index in range(12))  # ISO 50 to 102400; V4L2 counts thousandths
_PATTERNS = ((0, "Disabled"), *((index, f"Pattern {index}") for index in range(1, 32)))


def _menu(control: Cid, name: str, menu: tuple[tuple[int, str], ...], default: int) -> ControlInfo:
    return ControlInfo(control, name, _MENU, 0, menu[-1][0], 1, default, menu=menu)


CONTROLS: tuple[ControlInfo, ...] = (
    ControlInfo(Cid.BRIGHTNESS, "Brightness", _INT, -32768, 32767, 1, 0),
    ControlInfo(Cid.CONTRAST, "Contrast", _INT, 0, 65535, 1, 128),
    ControlInfo(Cid.SATURATION, "Saturation", _INT, 0, 65535, 1, 128),
    ControlInfo(Cid.AUTO_WHITE_BALANCE, "White Balance, Automatic", _BOOL, 0, 1, 1, 0),
    ControlInfo(Cid.AUTOGAIN, "Gain, Automatic", _BOOL, 0, 1, 1, 0),
    ControlInfo(Cid.GAIN, "Gain", _INT, 0, 1_000_000, 1, 1000),
    ControlInfo(Cid.HFLIP, "Horizontal Flip", _BOOL, 0, 1, 1, 0),
    ControlInfo(Cid.VFLIP, "Vertical Flip", _BOOL, 0, 1, 1, 0),
    _menu(Cid.POWER_LINE_FREQUENCY, "Power Line Frequency", _MAINS, 0),
    ControlInfo(Cid.WHITE_BALANCE_TEMPERATURE, "White Balance Temperature", _INT, 1000, 40_000, 1, 5600),
    _menu(Cid.EXPOSURE_AUTO, "Auto Exposure", _EXPOSURE_AUTO, 1),
    ControlInfo(Cid.EXPOSURE_ABSOLUTE, "Exposure Time, Absolute", _INT, 1, 1_000_000, 1, 80),
    ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus, Absolute", _INT, 0, 10_000, 1, 0),
    ControlInfo(Cid.FOCUS_AUTO, "Focus, Automatic Continuous", _BOOL, 0, 1, 1, 0),
    ControlInfo(Cid.ZOOM_ABSOLUTE, "Zoom, Absolute", _INT, 1, 100_000, 1, 350),
    ControlInfo(Cid.IRIS_ABSOLUTE, "Iris, Absolute", _INT, 0, 4000, 1, 0),
    ControlInfo(Cid.ISO_SENSITIVITY, "ISO Sensitivity", ControlType.INTEGER_MENU, 0, len(_ISO) - 1, 1, 1, menu=_ISO),
    _menu(Cid.ISO_SENSITIVITY_AUTO, "ISO Sensitivity, Auto", _ISO_AUTO, 0),
    ControlInfo(Cid.AUTO_FOCUS_START, "Auto Focus, Start", ControlType.BUTTON, 0, 0, 0, 0),
    ControlInfo(Cid.AUTO_FOCUS_STOP, "Auto Focus, Stop", ControlType.BUTTON, 0, 0, 0, 0),
    ControlInfo(Cid.AUTO_FOCUS_STATUS, "Auto Focus, Status", ControlType.BITMASK, 0, 7, 0, 0, _READ_ONLY),
    _menu(Cid.TEST_PATTERN, "Test Pattern", _PATTERNS, 0),
)


def formats(first: Mode, mjpeg: bool = False, most: int = FULL_HD) -> tuple[Mode, ...]:
    """Every layout, size and rate that apps may choose; ``first`` leads, and no size has more pixels than it or
    ``most``.

    The ring is made for the largest, so a board that is never asked for 4K need not pay for it. ``mjpeg``: those too,
    last; nobody here makes them, so that only sources that do can play then.
    """
    most = max(first.width * first.height, most)
    sizes = [(first.width, first.height), *(size for size in SIZES if size[0] * size[1] <= most)]
    layouts = [first.fourcc, *LAYOUTS]
    rates = [first.interval, *(Fraction(1, rate) for rate in RATES)]
    if mjpeg:
        layouts.append(MJPG)
    found = [
        make_mode(layout, width, height, interval) if layout != MJPG else _jpeg(width, height, interval)
        for layout in dict.fromkeys(layouts)
        for width, height in dict.fromkeys(sizes)
        for interval in dict.fromkeys(rates)
    ]
    return tuple(found)


def _jpeg(width: int, height: int, interval: Fraction) -> Mode:
    return Mode(MJPG, width, height, 0, width * height * JPEG_BITS_PER_PIXEL // 8, interval)
