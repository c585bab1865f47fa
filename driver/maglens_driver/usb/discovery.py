# SPDX-License-Identifier: GPL-2.0-or-later
"""Discovery: which modules are plugged in, and which come and go. One entry point for uevents, no polling.

The monitor listens to "udev" and not to "kernel": permissions and ID_USB_INTERFACES are then in place. The uevent of
a USB device comes before the kernel has published its interfaces, so a device that cannot be judged yet waits for its
interface's uevent.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol, Self

import pyudev

from maglens_driver.usb.device import NotAModule, NotYet, UsbDevice, Vanished, claims_class, recognise

log = logging.getLogger(__name__)


class DeviceEventKind(enum.Enum):
    """What happened to a device."""

    ADDED = "added"
    REMOVED = "removed"
    REFUSED = "refused"  # our class triple, but not a module; it was not talked to


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """One change. ``device`` is None for a refused one, which has a ``reason``; ``port`` is always there."""

    kind: DeviceEventKind
    device: UsbDevice | None
    port: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Uevent:
    """What is used of a uevent. ``kind`` is DEVTYPE; ``seen_ns`` is CLOCK_MONOTONIC."""

    action: str
    kind: str
    syspath: str
    interfaces: str
    devnode: str
    busnum: int
    devnum: int
    seen_ns: int


class UeventMonitor(Protocol):
    """Where uevents come from."""

    def fileno(self) -> int: ...

    def read(self) -> Uevent | None:
        """The next one, or None; raises ``OSError(ENOBUFS)`` once when some were lost."""
        ...

    def list(self) -> list[Uevent]:
        """All USB devices and interfaces there are, as ``add`` uevents, parents first."""
        ...

    def close(self) -> None: ...


class UdevMonitor:
    """The real monitor, by pyudev."""

    def __init__(self) -> None:
        self._context = pyudev.Context()
        self._monitor = pyudev.Monitor.from_netlink(self._context, source="udev")
        self._monitor.filter_by("usb")
        self._monitor.start()

    def fileno(self) -> int:
        """For the event loop."""
        return int(self._monitor.fileno())

    def read(self) -> Uevent | None:
        """See :class:`UeventMonitor`."""
        device = self._monitor.poll(timeout=0)
        return None if device is None else _to_uevent(device, device.action or "")

    def list(self) -> list[Uevent]:
        """See :class:`UeventMonitor`."""
        return [_to_uevent(d, "add") for d in self._context.list_devices(subsystem="usb") if d.is_initialized]

    def close(self) -> None:
        """pyudev closes the socket with the last reference."""
        del self._monitor


def _to_uevent(device: pyudev.Device, action: str) -> Uevent:
    values = device.properties
    return Uevent(
        action=action,
        kind=device.device_type or "",
        syspath=device.sys_path,
        interfaces=values.get("ID_USB_INTERFACES", ""),
        devnode=values.get("DEVNAME", ""),
        busnum=int(values.get("BUSNUM", "0")),
        devnum=int(values.get("DEVNUM", "0")),
        seen_ns=time.monotonic_ns(),
    )


class Discovery:
    """Watches for modules from ``async with`` on; nothing is lost between :meth:`present` and :meth:`events`."""

    def __init__(self, open_monitor: Callable[[], UeventMonitor] = UdevMonitor) -> None:
        self._open_monitor = open_monitor
        self._monitor: UeventMonitor | None = None
        self._known: dict[str, UsbDevice] = {}
        self._undecided: dict[str, tuple[Uevent, frozenset[str]]] = {}  # by syspath: its uevent, NotYet's
        self._events: asyncio.Queue[DeviceEvent] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._monitor = monitor = self._open_monitor()
        for uevent in monitor.list():
            self.handle(uevent)
        while not self._events.empty():  # present() tells of these
            event = self._events.get_nowait()
            if event.kind is DeviceEventKind.REFUSED:
                log.info("port %s: not a module: %s", event.port, event.reason)
        asyncio.get_running_loop().add_reader(monitor.fileno(), self._on_readable)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor.fileno())
            self._monitor.close()
            self._monitor = None

    def present(self) -> list[UsbDevice]:
        """Modules that are there now, by port."""
        return sorted(self._known.values(), key=lambda d: d.port)

    async def events(self) -> AsyncIterator[DeviceEvent]:
        """Changes since ``async with`` was entered, in order, for one reader."""
        while True:
            yield await self._events.get()

    def _on_readable(self) -> None:
        assert self._monitor is not None
        try:
            while (uevent := self._monitor.read()) is not None:
                self.handle(uevent)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            log.warning("the kernel dropped uevents; looking at all USB devices again")
            self._resync(self._monitor.list())

    def handle(self, uevent: Uevent) -> None:
        """The one entry point for uevents."""
        if uevent.kind == "usb_device":
            if uevent.action == "remove":
                self._handle_removed(uevent.syspath)
            elif uevent.action in ("add", "bind", "change") and claims_class(uevent.interfaces):
                self._handle_present(uevent, final=False)
        elif uevent.kind == "usb_interface" and uevent.action != "remove":
            self._handle_interface(uevent)

    def _handle_interface(self, uevent: Uevent) -> None:
        """Its name is in sysfs before its uevent: from now on a missing name is one that never comes."""
        waiting = self._undecided.get(uevent.syspath.rpartition("/")[0])
        if waiting is not None:
            device, interfaces = waiting
            self._handle_present(device, final=uevent.syspath.rpartition(":")[2] in interfaces)

    def _handle_present(self, uevent: Uevent, *, final: bool) -> None:
        known = self._known.get(uevent.syspath)
        if known is not None:
            if known.devnum == uevent.devnum:
                return
            self._handle_removed(uevent.syspath)  # its removal was missed
        port = uevent.syspath.rpartition("/")[2]
        try:
            device = recognise(
                uevent.syspath,
                devnode=uevent.devnode,
                busnum=uevent.busnum,
                devnum=uevent.devnum,
                added_ns=uevent.seen_ns,
                final=final,
            )
        except NotYet as why:
            self._undecided[uevent.syspath] = (uevent, why.interfaces)
            return
        except Vanished:
            log.debug("port %s: gone again before it was looked at", port)
            return
        except NotAModule as why:
            self._undecided.pop(uevent.syspath, None)
            self._events.put_nowait(DeviceEvent(DeviceEventKind.REFUSED, None, port, str(why)))
            return
        self._undecided.pop(uevent.syspath, None)
        self._known[uevent.syspath] = device
        self._events.put_nowait(DeviceEvent(DeviceEventKind.ADDED, device, port))

    def _handle_removed(self, syspath: str) -> None:
        self._undecided.pop(syspath, None)
        device = self._known.pop(syspath, None)
        if device is not None:
            self._events.put_nowait(DeviceEvent(DeviceEventKind.REMOVED, device, device.port))

    def _resync(self, present: list[Uevent]) -> None:
        """Bring what is known in line with what is there, after uevents were lost."""
        there = {u.syspath for u in present}
        for syspath in [*self._known, *self._undecided]:
            if syspath not in there:
                self._handle_removed(syspath)
        for uevent in present:
            self.handle(uevent)
