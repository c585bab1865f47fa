# SPDX-License-Identifier: GPL-2.0-or-later
"""The monitor for what is no USB module: who hears of which uevent, and of lost ones."""

from __future__ import annotations

import asyncio
import errno
import os
from types import SimpleNamespace

import pytest
import pyudev

from maglens_daemon.system_watch import watch_devices


class Monitor:
    """udev's, with uevents of ours: subsystems, or an error."""

    def __init__(self) -> None:
        self.filters: list[str] = []
        self.queue: list[str | OSError] = []
        self.reading, self.writing = os.pipe()

    def filter_by(self, subsystem: str) -> None:
        self.filters.append(subsystem)

    def start(self) -> None:
        pass

    def fileno(self) -> int:
        return self.reading

    def poll(self, timeout: float) -> object:
        del timeout
        if not self.queue:
            return None
        os.read(self.reading, 1)
        head = self.queue.pop(0)
        if isinstance(head, OSError):
            raise head
        return SimpleNamespace(subsystem=head, action="change", sys_path=f"/sys/{head}")

    def send(self, what: str | OSError) -> None:
        self.queue.append(what)
        os.write(self.writing, b"!")


@pytest.mark.asyncio
async def test_one_monitor_and_a_handler_for_each_subsystem(monkeypatch: pytest.MonkeyPatch) -> None:
    monitors: list[Monitor] = []
    begun = asyncio.Event()

    def from_netlink(context: object, source: str) -> Monitor:
        assert source == "udev"  # when it has given the rights
        monitors.append(Monitor())
        begun.set()
        return monitors[-1]

    monkeypatch.setattr(pyudev.Monitor, "from_netlink", from_netlink)
    heard: asyncio.Queue[str] = asyncio.Queue()

    def appeared() -> None:
        heard.put_nowait("appeared")

    def supply() -> None:
        heard.put_nowait("supply")

    watching = asyncio.create_task(watch_devices({"video4linux": appeared, "misc": appeared, "thermal": supply}))
    try:
        await asyncio.wait_for(begun.wait(), 5)
        (monitor,) = monitors
        assert monitor.filters == ["video4linux", "misc", "thermal"]
        for subsystem, who in (("misc", "appeared"), ("thermal", "supply"), ("video4linux", "appeared")):
            monitor.send(subsystem)
            assert await asyncio.wait_for(heard.get(), 5) == who
        monitor.send(OSError(errno.ENOBUFS, "lost"))
        assert {await asyncio.wait_for(heard.get(), 5) for _ in range(2)} == {"appeared", "supply"}
        assert heard.empty(), "each once, however many subsystems it has"
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        for monitor in monitors:
            os.close(monitor.reading)
            os.close(monitor.writing)
