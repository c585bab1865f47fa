# SPDX-License-Identifier: GPL-2.0-or-later
"""UdevWatch: udev events (after the rules have run) from a moment on."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pyudev

from tests.vm.guest.limits import EVENT_S


class UdevWatch:
    """Events of one subsystem since this was opened."""

    def __init__(self, subsystem: str, device_type: str | None = None) -> None:
        self._what = subsystem
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
        self._monitor.filter_by(subsystem, device_type)
        self._monitor.start()
        self.seen: list[pyudev.Device] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._monitor

    def next(
        self,
        action: str,
        match: Callable[[pyudev.Device], bool] = lambda _: True,
        deadline_s: float = EVENT_S,
    ) -> pyudev.Device:
        """The next event with that action that matches; TimeoutError with what came instead."""
        end = time.monotonic() + deadline_s
        while (left := end - time.monotonic()) > 0:
            device = self._monitor.poll(left)
            if device is None:
                continue  # the time is over, or what woke us was a message that is not for us
            self.seen.append(device)
            if device.action == action and match(device):
                return device
        came = ", ".join(f"{device.action} {device.sys_path}" for device in self.seen)
        raise TimeoutError(f"no udev event {self._what} {action} within {deadline_s} s; came: {came or 'none'}")
