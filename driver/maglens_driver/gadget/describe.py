# SPDX-License-Identifier: MIT
"""Describe: the descriptor of a camera behind a lens file: modes and controls of the one, the rest of the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from maglens_driver.control import ControlFlag, ControlInfo, ControlType
from maglens_driver.errors import MaglensError, Refused
from maglens_driver.link import limits
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import MJPG, Mode, frame_bytes, min_stride
from maglens_driver.source import Source
from maglens_driver.virtual.lens import JPEG_BITS_PER_PIXEL, LensData, Price, link_mbit
from maglens_driver.ycbcr import TOLD

log = logging.getLogger(__name__)

_I32: Final = 0x7FFFFFFF


async def describe(data: LensData, source: Source, serial: str) -> Descriptor:
    """The module's descriptor. ``MaglensError`` where nothing can be offered.

    Each mode is tried first: a camera may round sizes, and pads rows as it likes.
    """
    modes: list[Mode] = []
    for offered in source.modes:
        if len(modes) == limits.MAX_MODES:
            log.info("only the first %d modes are offered", limits.MAX_MODES)
            break
        try:
            mode = priced(await source.configure(offered, test_only=True), data.price)
        except (Refused, OSError) as error:
            log.info("%s is left out: %s", offered.describe(), error)
            continue
        known = {(m.fourcc, m.width, m.height, m.interval) for m in modes}
        if allowed(mode) and (mode.fourcc, mode.width, mode.height, mode.interval) not in known:
            modes.append(mode)
    if not modes:
        hint = "v4l2-ctl --list-formats-ext: NV12, YUYV or MJPEG of an even size is wanted"
        raise MaglensError(f"{source.identity} has no mode that the link protocol allows", hint=hint)
    for made in {mode.ycbcr for mode in modes if mode.ycbcr is not None}:
        told = source.identity, made.describe(), TOLD.describe()
        log.warning("%s sends %s, modules %s: its colours will be off", *told)
    descriptor = replace(
        data.with_serial(serial).descriptor,
        modes=tuple(modes),
        controls=carried(source.controls),
        power=replace(data.descriptor.power, peak_mw=max(data.descriptor.power.peak_mw, *(m.mw for m in modes))),
    )
    return Descriptor.unpack(descriptor.pack())


def priced(mode: Mode, price: Price) -> Mode:
    """The mode with its price in Mbit/s and mW. A compressed one is taken for what its pictures usually need."""
    nbytes = mode.nbytes
    if mode.fourcc == MJPG:
        nbytes = min(nbytes, mode.width * mode.height * JPEG_BITS_PER_PIXEL // 8)
    mbit_s = link_mbit(nbytes, mode.interval)
    return replace(mode, mbit_s=mbit_s, mw=price.of(mbit_s) or mode.mw)


def allowed(mode: Mode) -> bool:
    """Whether the protocol can carry it."""
    sides = (mode.width, mode.height)
    return (
        all(2 <= side <= limits.MAX_WIDTH and side % 2 == 0 for side in sides)
        and (mode.fourcc != MJPG or mode.width * mode.height <= limits.MAX_JPEG_PIXELS)
        and 0 < mode.nbytes <= limits.MAX_FRAME_BYTES
        and mode.stride >= min_stride(mode.fourcc, mode.width)
        and mode.nbytes == (frame_bytes(mode.fourcc, mode.stride, mode.height) or mode.nbytes)
        and 1 / limits.MAX_RATE_FPS <= mode.interval <= limits.MAX_INTERVAL_S
        and mode.mbit_s <= limits.MAX_MODE_MBIT_S
        and mode.mw <= limits.MAX_POWER_MW
    )


def carried(controls: Sequence[ControlInfo]) -> tuple[ControlInfo, ...]:
    """Those that fit into a descriptor; the others are named in the log."""
    fitting: dict[int, ControlInfo] = {}
    for control in controls:
        shown = _shown(control)
        if shown is not None and len(fitting) < limits.MAX_CONTROLS:
            fitting.setdefault(control.id, shown)
        else:
            log.info("the control %s (%#010x) is left out: it does not fit the protocol", control.name, control.id)
    return tuple(fitting.values())


def _shown(control: ControlInfo) -> ControlInfo | None:
    numbers = (control.minimum, control.maximum, control.default)
    name = _cut(control.name.strip())
    if not name.isprintable() or not name or not all(-_I32 - 1 <= n <= _I32 for n in numbers):
        return None
    if not control.minimum <= control.default <= control.maximum or len(control.menu) > limits.MAX_MENU_ITEMS:
        return None
    choices = control.type in (ControlType.MENU, ControlType.INTEGER_MENU)
    if choices and control.default not in dict(control.menu):
        return None
    menu = tuple((value, _cut(text)) for value, text in control.menu)
    if not all(text.isprintable() and text for _, text in menu):
        return None
    step = 0 if control.type is ControlType.BUTTON else min(max(1, control.step), _I32)
    # Inactive is what it is at this moment, under an automatic for one; a descriptor says it for good.
    shown = replace(control, name=name, step=step, menu=menu, flags=control.flags & ~ControlFlag.INACTIVE)
    return replace(shown, default=shown.clamp(shown.default))  # some cameras' are off their own steps


def _cut(text: str) -> str:
    return text.encode()[: limits.MAX_TEXT_BYTES].decode(errors="ignore")
