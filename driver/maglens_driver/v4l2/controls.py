# SPDX-License-Identifier: GPL-2.0-or-later
"""Controls of a capture device, by V4L2's id and range as the device has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from maglens_driver.control import ControlFlag, ControlInfo, ControlType
from maglens_driver.errors import Gone, Refused
from maglens_driver.v4l2.binding import GONE, linuxpy
from maglens_driver.v4l2.identity import printable

MAX_MENU = 64  # entries of one menu that are read
# V4L2_CTRL_FLAG_*
_DISABLED, _READ_ONLY, _INACTIVE, _WRITE_ONLY, _HAS_PAYLOAD = 0x0001, 0x0004, 0x0010, 0x0040, 0x0100
_VALUE_CHANGED, _FLAGS_CHANGED = 0x0001, 0x0002  # V4L2_EVENT_CTRL_CH_*
_TYPES = frozenset(int(kind) for kind in ControlType)


@dataclass(frozen=True, slots=True)
class Change:
    """What has become of a control; None for what has not changed."""

    id: int
    value: int | None
    active: bool | None


def read_controls(fd: int) -> tuple[ControlInfo, ...]:
    """Every control of a type that an app could show: no arrays, none disabled or (but for buttons) write-only."""
    v4l2 = linuxpy()
    found = []
    for info in v4l2.iter_read_controls(fd):
        if info.type not in _TYPES or info.flags & (_DISABLED | _HAS_PAYLOAD):
            continue
        kind = ControlType(info.type)
        if info.flags & _WRITE_ONLY and kind is not ControlType.BUTTON:
            continue
        found.append(_control_info(v4l2, fd, info, kind))
    return tuple(found)


def read_values(fd: int, controls: Sequence[ControlInfo]) -> dict[int, int]:
    """Present values; a control that cannot be read now is left out. ``OSError`` when the device is gone."""
    v4l2 = linuxpy()
    values = {}
    for control in controls:
        if control.type is ControlType.BUTTON:
            continue
        try:
            values[control.id] = _read(v4l2, fd, control)
        except OSError as error:
            if error.errno in GONE:
                raise
    return values


def with_flags(fd: int, controls: Sequence[ControlInfo]) -> tuple[ControlInfo, ...]:
    """The same controls, active or not as they are now: drivers make those inactive that an automatic drives."""
    inactive = {info.id: bool(info.flags & _INACTIVE) for info in linuxpy().iter_read_controls(fd)}
    return tuple(marked(control, active=not inactive.get(control.id, False)) for control in controls)


def marked(control: ControlInfo, active: bool) -> ControlInfo:
    """The control as active, or not."""
    rest = control.flags & ~ControlFlag.INACTIVE
    return replace(control, flags=rest if active else rest | ControlFlag.INACTIVE)


def write_values(fd: int, controls: Sequence[ControlInfo], values: Mapping[int, int]) -> dict[int, int]:
    """Write clamped values in the given order; the answer holds what the device made of them.

    Raises ``Refused`` for an unknown id, and when the device does not take one; those before it were written.
    """
    v4l2 = linuxpy()
    known = {control.id: control for control in controls}
    for control in values:
        if control not in known:
            raise Refused("control", f"the device has no control 0x{control:08x}")
    written = {}
    for control, value in values.items():
        info = known[control]
        clamped = info.clamp(value)
        try:
            v4l2.set_control(fd, control, clamped)
            written[control] = clamped if info.type is ControlType.BUTTON else _read(v4l2, fd, info)
        except OSError as error:
            if error.errno in GONE:
                raise Gone("the device was unplugged") from error
            raise Refused("control", f"the device does not take {clamped} for {info.name}: {error}") from error
    return written


def watch_controls(fd: int, controls: Sequence[ControlInfo]) -> None:
    """Ask for an event whenever one changes by another's hand; where a driver has none, changes stay unseen."""
    v4l2 = linuxpy()
    for control in controls:
        try:
            v4l2.subscribe_event(fd, v4l2.EventType.CTRL, control.id)
        except OSError as error:
            if error.errno in GONE:
                raise


def next_change(fd: int) -> Change | None:
    """The next pending change; None for an event of another kind. ``OSError`` ENOENT when there is none."""
    v4l2 = linuxpy()
    event = v4l2.deque_event(fd)
    if event.type != v4l2.EventType.CTRL:
        return None
    told = event.u.ctrl
    value = told.value if told.changes & _VALUE_CHANGED else None
    return Change(event.id, value, not told.flags & _INACTIVE if told.changes & _FLAGS_CHANGED else None)


def _read(v4l2: Any, fd: int, control: ControlInfo) -> int:
    value = int(v4l2.get_control(fd, control.id))
    return value & 0xFFFFFFFF if control.type is ControlType.BITMASK else value


def _control_info(v4l2: Any, fd: int, info: Any, kind: ControlType) -> ControlInfo:
    flags = ControlFlag.NONE
    if info.flags & _READ_ONLY:
        flags |= ControlFlag.READ_ONLY
    if info.flags & _INACTIVE:
        flags |= ControlFlag.INACTIVE
    return ControlInfo(
        id=info.id,
        name=printable(info.name.decode("utf-8", "replace")),
        type=kind,
        minimum=info.minimum,
        maximum=info.maximum,
        step=info.step,
        default=info.default_value,
        flags=flags,
        menu=_menu(v4l2, fd, info, kind),
    )


def _menu(v4l2: Any, fd: int, info: Any, kind: ControlType) -> tuple[tuple[int, str], ...]:
    if kind not in (ControlType.MENU, ControlType.INTEGER_MENU):
        return ()
    entries = []
    bounds = SimpleNamespace(minimum=info.minimum, maximum=min(info.maximum, info.minimum + MAX_MENU - 1), step=1)
    for item in v4l2.iter_read_menu(fd, SimpleNamespace(id=info.id, _info=bounds)):
        text = item.name.decode("utf-8", "replace") if kind is ControlType.MENU else str(item.value)
        entries.append((int(item.index), printable(text)))
    return tuple(entries)
