# SPDX-License-Identifier: GPL-2.0-or-later
"""Gpio: lines of the kernel's GPIO character devices, by libgpiod 2.

A line is named as ``CHIP:LINE``, where CHIP is a device (``gpiochip0``) or a label (``pinctrl-rp1``; numbers of
devices change between kernels, labels do not) and LINE an offset or a line's name; or by the line's name alone.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from maglens_daemon.board.inputs import Edge
from maglens_driver.errors import MaglensError, MissingDependency
from maglens_driver.packages import Need, install

if TYPE_CHECKING:
    import gpiod

CONSUMER: Final = "maglens"  # what `gpioinfo` shows for our lines


class LineError(MaglensError):
    """A configured line that cannot be had."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line is: the chip's device, the offset, and who uses it already (empty: nobody)."""

    chip: Path
    offset: int
    consumer: str


def _library() -> None:
    try:
        import gpiod
    except ImportError as error:
        raise MissingDependency(
            f"the configuration names GPIO lines, and gpiod cannot be imported: {error}",
            hint=install(Need.GPIOD),
        ) from error
    if not hasattr(gpiod, "request_lines"):
        raise MissingDependency(
            f"gpiod {gpiod.__version__} is too old; version 2 is needed",
            hint="sudo make install with a network, in the sources of maglens",
        )


def _chips(root: Path) -> Iterator[Path]:
    yield from sorted((root / "dev").glob("gpiochip*"), key=lambda path: (len(path.name), path.name))


def find(name: str, root: Path = Path("/")) -> Place:
    """The place of a line; raises :class:`LineError` and ``MissingDependency``."""
    _library()
    import gpiod

    chip_name, colon, line_name = name.rpartition(":")
    seen = []
    for device in _chips(root):
        try:
            with gpiod.Chip(str(device)) as chip:
                label = chip.get_info().label
                seen.append(f"{device.name} ({label})")
                if colon and chip_name not in (device.name, label, str(device)):
                    continue
                try:
                    offset = chip.line_offset_from_id(int(line_name) if line_name.isdecimal() else line_name)
                except (OSError, ValueError):
                    if colon:
                        raise LineError(
                            f"{device.name} ({label}) has no line {line_name!r}", hint=f"gpioinfo -c {device.name}"
                        ) from None
                    continue
                info = chip.get_line_info(offset)
                return Place(device, offset, info.consumer or "in the kernel" if info.used else "")
        except PermissionError as error:
            raise LineError(
                f"{device}: {error.strerror}", hint="sudo usermod -aG gpio $USER, then log in again"
            ) from error
        except OSError as error:
            seen.append(f"{device.name}: {error.strerror}")
    what = f"no chip {chip_name!r}" if colon else f"no line {name!r}"
    raise LineError(f"there is {what}; there is {', '.join(seen) or 'no GPIO chip at all'}", hint="gpioinfo")


def _free(name: str, root: Path) -> Place:
    place = find(name, root)
    if place.consumer:
        raise LineError(f"line {name} is in use: {place.consumer}", hint="gpioinfo")
    return place


class GpioInput:
    """A line that is listened to, both edges, without the kernel's own debounce: the edges are counted."""

    poll_mask = select.POLLIN

    def __init__(self, name: str, active_low: bool, root: Path = Path("/")) -> None:
        place = _free(name, root)
        import gpiod

        self._offset = place.offset
        line = gpiod.LineSettings(
            direction=gpiod.line.Direction.INPUT,
            edge_detection=gpiod.line.Edge.BOTH,
            active_low=active_low,
            event_clock=gpiod.line.Clock.MONOTONIC,
        )
        self._request: gpiod.LineRequest = gpiod.request_lines(
            str(place.chip), consumer=CONSUMER, config={place.offset: line}
        )
        self._rising = gpiod.EdgeEvent.Type.RISING_EDGE

    def fileno(self) -> int:
        return int(self._request.fd)

    def level(self) -> bool:
        import gpiod

        return bool(self._request.get_value(self._offset) is gpiod.line.Value.ACTIVE)

    def read(self) -> Sequence[Edge]:
        if not self._request.wait_edge_events(0):
            return ()
        events = self._request.read_edge_events()
        return [Edge(event.event_type is self._rising, event.timestamp_ns / 1e9) for event in events]

    def close(self) -> None:
        self._request.release()


class GpioOutput:
    """A line that is driven. It starts as the line is, so that a restart of the service does not blink."""

    def __init__(self, name: str, active_low: bool, root: Path = Path("/")) -> None:
        place = _free(name, root)
        import gpiod

        self._offset = place.offset
        with gpiod.Chip(str(place.chip)) as chip:
            info = chip.get_line_info(place.offset)
        as_is = gpiod.LineSettings(active_low=active_low)
        self._request: gpiod.LineRequest = gpiod.request_lines(
            str(place.chip), consumer=CONSUMER, config={place.offset: as_is}
        )
        on = info.direction is gpiod.line.Direction.OUTPUT and self.get()
        driven = gpiod.LineSettings(
            direction=gpiod.line.Direction.OUTPUT,
            active_low=active_low,
            output_value=gpiod.line.Value.ACTIVE if on else gpiod.line.Value.INACTIVE,
        )
        self._request.reconfigure_lines({place.offset: driven})

    def get(self) -> bool:
        import gpiod

        return bool(self._request.get_value(self._offset) is gpiod.line.Value.ACTIVE)

    def set(self, active: bool) -> None:
        import gpiod

        value = gpiod.line.Value.ACTIVE if active else gpiod.line.Value.INACTIVE
        self._request.set_value(self._offset, value)

    def close(self) -> None:
        self._request.release()
