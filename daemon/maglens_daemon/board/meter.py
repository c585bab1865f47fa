# SPDX-License-Identifier: GPL-2.0-or-later
"""Meter: a current and voltage monitor by hwmon (INA219, INA226 and their kin: driver ``ina2xx``).

hwmon's numbers change from boot to boot, so a meter is configured as its device, as
``/sys/bus/i2c/devices/1-0040``. Attributes are those of the kernel's ``Documentation/hwmon/sysfs-interface``:
``in1_input`` in mV (bus voltage), ``curr1_input`` in mA, ``power1_input`` in microwatts, ``*_alarm``.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from maglens_daemon.board.hardware import Draw
from maglens_daemon.board.inputs import Edge, edge_now
from maglens_driver.errors import MaglensError

ALARMS: Final = (
    "curr1_crit_alarm",
    "curr1_max_alarm",
    "power1_crit_alarm",
    "power1_max_alarm",
    "in0_crit_alarm",  # ina2xx before 6.12 watches the shunt's voltage, which is the current
)
_MICROWATTS: Final = 1000


class MeterError(MaglensError):
    """A configured meter that cannot be had."""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OSError(f"{path}: {error}") from error


class Meter:
    """The hwmon device below a device's directory. Reading takes a bus transfer of about a millisecond."""

    def __init__(self, device: str, root: Path = Path("/")) -> None:
        where = root / device.lstrip("/")
        found = sorted((where / "hwmon").glob("hwmon*")) or [where]
        self._path = found[0]
        if not (self._path / "curr1_input").exists():
            raise MeterError(
                f"{device} is no current meter: it has no curr1_input", hint="ls /sys/class/hwmon/*/device"
            )
        self._alarms = [self._path / name for name in ALARMS if (self._path / name).exists()]

    def read(self) -> Draw:
        """One sample; ``OSError`` where the meter does not answer."""
        ma = _number(self._path / "curr1_input") or 0
        mv = _number(self._path / "in1_input") or 0
        microwatts = _number(self._path / "power1_input")
        mw = mv * ma // 1000 if microwatts is None else microwatts // _MICROWATTS
        return Draw(mv, ma, mw, any(_number(alarm) == 1 for alarm in self._alarms))

    def alarms(self) -> list[AlarmInput]:
        """The alarms that can be waited for; only drivers that notify wake for them. ``OSError`` where the meter does
        not answer; then nothing is open."""
        with ExitStack() as opened:
            alarms = []
            for path in self._alarms:
                alarms.append(AlarmInput(path))
                opened.callback(alarms[-1].close)
            opened.pop_all()
            return alarms


class AlarmInput:
    """An alarm attribute: drivers that call ``hwmon_notify_event`` wake its reader."""

    poll_mask = select.POLLPRI

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._was = self._take()
        except OSError:  # the meter does not answer
            self.close()
            raise

    def fileno(self) -> int:
        return self._fd

    def level(self) -> bool:
        # By another descriptor: reading takes the wake-up that the waiting one should have.
        return _number(self._path) == 1

    def _take(self) -> bool:
        return os.pread(self._fd, 16, 0).strip() == b"1"

    def read(self) -> Sequence[Edge]:
        level = self._take()
        if level is self._was:
            return ()
        self._was = level
        return (edge_now(level),)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
