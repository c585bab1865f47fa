# SPDX-License-Identifier: GPL-2.0-or-later
"""Hall: a switch of an input device (evdev ``SW_*``), as ``gpio-keys`` makes one of a Hall sensor.

Read by the kernel's own interface (``linux/input.h``): forty lines, no library.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from maglens_daemon.board.inputs import Edge
from maglens_driver import names
from maglens_driver.errors import MaglensError

SWITCHES: Final = {  # linux/input-event-codes.h
    "SW_LID": 0x00,
    "SW_TABLET_MODE": 0x01,
    "SW_JACK_PHYSICAL_INSERT": 0x07,
    "SW_DOCK": 0x05,
    "SW_CAMERA_LENS_COVER": 0x09,
    "SW_FRONT_PROXIMITY": 0x0B,
    "SW_MACHINE_COVER": 0x10,
}
_EVENT: Final = struct.Struct("@llHHi")  # struct input_event of a 64-bit kernel
_EV_SYN, _EV_SW, _SYN_DROPPED = 0, 5, 3
_CLOCK_MONOTONIC: Final = 1
_READ: Final = _EVENT.size * 64
_SW_BYTES: Final = 8
_LIST: Final = "ls -l /dev/input/by-path"


def _ioc(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("E") << 8 | number


_EVIOCGSW: Final = _ioc(2, 0x1B, _SW_BYTES)
_EVIOCSCLOCKID: Final = _ioc(1, 0xA0, 4)
_EVIOCGBIT_SW: Final = _ioc(2, 0x20 + _EV_SW, _SW_BYTES)


class HallError(MaglensError):
    """A configured input switch that cannot be had."""


class HallSwitch:
    """One switch of the input device at a path that stays the same, as /dev/input/by-path/platform-hall-event."""

    poll_mask = select.POLLIN

    def __init__(self, path: str, switch: str, inverted: bool = False, root: Path = Path("/")) -> None:
        self._code, self._inverted = SWITCHES[switch], inverted
        device = root / path.lstrip("/")
        self._fd = self._state_fd = -1
        try:
            # Asking for the present state throws away what waits in the same descriptor's queue: two of them.
            self._fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._state_fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            self.close()
            hint = f"sudo usermod -aG maglens $USER, then log in again; its name has to be {names.HALL_NAME_GLOB}"
            raise HallError(f"{device}: {error.strerror}", hint=hint) from error
        except OSError as error:
            self.close()
            raise HallError(f"{device}: {error.strerror}", hint=_LIST) from error
        try:
            if not self._bit(_EVIOCGBIT_SW):
                raise HallError(f"{device} has no switch {switch}", hint=f"sudo evtest {device}")
            fcntl.ioctl(self._fd, _EVIOCSCLOCKID, struct.pack("i", _CLOCK_MONOTONIC))
        except OSError as error:
            self.close()
            raise HallError(f"{device} is no input device: {error.strerror}", hint=_LIST) from error
        except HallError:
            self.close()
            raise

    def _bit(self, request: int) -> bool:
        bits = int.from_bytes(fcntl.ioctl(self._state_fd, request, bytes(_SW_BYTES)), "little")
        return bool(bits >> self._code & 1)

    def fileno(self) -> int:
        return self._fd

    def level(self) -> bool:
        return self._bit(_EVIOCGSW) is not self._inverted

    def read(self) -> Sequence[Edge]:
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return ()
        edges = []
        for seconds, micros, kind, code, value in _EVENT.iter_unpack(data):
            at_s = seconds + micros / 1e6
            if kind == _EV_SW and code == self._code:
                edges.append(Edge(bool(value) is not self._inverted, at_s))
            elif kind == _EV_SYN and code == _SYN_DROPPED:  # the kernel's queue was full: what counts is the level
                edges.append(Edge(self.level(), at_s))
        return edges

    def close(self) -> None:
        for number in (self._fd, self._state_fd):
            if number >= 0:
                os.close(number)
        self._fd = self._state_fd = -1
