# SPDX-License-Identifier: MIT
"""FunctionFS: a USB function in user space (linux/usb/functionfs.h): descriptors, endpoint files, events."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import select
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maglens_driver.errors import MaglensError
from maglens_driver.names import USB_CLASS, USB_INTERFACE_STRING, USB_PROTOCOL, USB_SUBCLASS

_DESCRIPTORS_MAGIC_V2 = 3
_STRINGS_MAGIC = 2
_HAS_FS, _HAS_HS, _HAS_SS, _ALL_CTRL_RECIPIENTS = 1, 2, 4, 64
_BULK, _INTERRUPT = 2, 3
_BULK_IN, _INTERRUPT_IN = 0x81, 0x82  # a controller may move them; the endpoint files keep this order
_EVENT = struct.Struct("<BBHHHB3x")  # usb_functionfs_event: setup packet, type, padding
_EVENT_ROOM = 8
_ENGLISH = 0x409
# Of a read of endpoint 0: nothing is there; or the request before was not answered, and the host has given it up
# (EIDRM), this read has stalled it (EL2HLT) or may not (ESRCH), or the host has left and DISABLE is still to come
# (ESHUTDOWN).
_NO_EVENTS: Final = (errno.EAGAIN, errno.EIDRM, errno.EL2HLT, errno.ESRCH, errno.ESHUTDOWN)

OUR_INTERFACE: Final = USB_INTERFACE_STRING
EVENT_PACKET: Final = 64
BULK_PACKET: Final = 1024  # the largest, at super speed; a multiple of the others


class Ep0EventType(enum.IntEnum):
    """enum usb_functionfs_event_type."""

    BIND = 0
    UNBIND = 1
    ENABLE = 2
    DISABLE = 3
    SETUP = 4
    SUSPEND = 5
    RESUME = 6


@dataclass(frozen=True, slots=True)
class Setup:
    """A control request's eight bytes."""

    request_type: int
    request: int
    value: int
    index: int
    length: int

    @property
    def to_host(self) -> bool:
        """Whether its data stage goes to the host."""
        return bool(self.request_type & 0x80)


@dataclass(frozen=True, slots=True)
class Ep0Event:
    """One event; ``setup`` only with SETUP."""

    type: Ep0EventType
    setup: Setup | None = None


def _interface() -> bytes:
    return struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 2, USB_CLASS, USB_SUBCLASS, USB_PROTOCOL, 1)


def _endpoint(address: int, attributes: int, packet: int, interval: int) -> bytes:
    return struct.pack("<BBBBHB", 7, 5, address, attributes, packet, interval)


def _companion(burst: int, bytes_per_interval: int = 0) -> bytes:
    return struct.pack("<BBBBH", 6, 48, burst, 0, bytes_per_interval)


def descriptor_block() -> bytes:
    """Full, high and super speed descriptors: one interface, bulk IN, interrupt IN, with companions."""
    full = _interface() + _endpoint(_BULK_IN, _BULK, 64, 0) + _endpoint(_INTERRUPT_IN, _INTERRUPT, EVENT_PACKET, 8)
    high = _interface() + _endpoint(_BULK_IN, _BULK, 512, 0) + _endpoint(_INTERRUPT_IN, _INTERRUPT, EVENT_PACKET, 7)
    best = (
        _interface()
        + _endpoint(_BULK_IN, _BULK, BULK_PACKET, 0)
        + _companion(15)
        + _endpoint(_INTERRUPT_IN, _INTERRUPT, EVENT_PACKET, 7)
        + _companion(0, EVENT_PACKET)
    )
    body = struct.pack("<III", 3, 3, 5) + full + high + best
    flags = _HAS_FS | _HAS_HS | _HAS_SS | _ALL_CTRL_RECIPIENTS
    return struct.pack("<III", _DESCRIPTORS_MAGIC_V2, 12 + len(body), flags) + body


def string_block(interface: str) -> bytes:
    """The interface's name, in English."""
    body = struct.pack("<H", _ENGLISH) + interface.encode() + b"\0"
    return struct.pack("<IIII", _STRINGS_MAGIC, 16 + len(body), 1, 1) + body


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def mount(name: str, where: Path) -> None:
    """Mount the FunctionFS instance ``name``. Raises ``OSError``."""
    where.mkdir(parents=True, exist_ok=True)
    if _libc().mount(name.encode(), os.fsencode(where), b"functionfs", 0, b""):
        number = ctypes.get_errno()
        raise OSError(number, f"mount functionfs {name}: {os.strerror(number)}")


def unmount(where: Path) -> None:
    """Unmount; nothing to do where nothing is mounted."""
    if _libc().umount2(os.fsencode(where), 2) and ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        number = ctypes.get_errno()
        raise OSError(number, f"umount {where}: {os.strerror(number)}")


class FunctionFs:
    """The files of one function. ``bulk`` and ``interrupt`` are the endpoints' file descriptors.

    Endpoint 0 is opened non-blocking and polled: a read that waits for events holds a lock that unbinding wants.
    """

    def __init__(self, directory: Path, interface: str) -> None:
        self.ep0 = os.open(directory / "ep0", os.O_RDWR | os.O_NONBLOCK)
        self.bulk = self.interrupt = -1
        self._wake, self._waker = os.pipe()
        try:
            os.write(self.ep0, descriptor_block())
            os.write(self.ep0, string_block(interface))
            self.bulk = os.open(directory / "ep1", os.O_RDWR)
            self.interrupt = os.open(directory / "ep2", os.O_RDWR)
        except OSError:
            self.close()
            raise
        self._poll = select.poll()
        self._poll.register(self.ep0, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def events(self) -> list[Ep0Event]:
        """Wait for the next events; an empty list after :meth:`wake`."""
        ready = {fd for fd, _ in self._poll.poll()}
        if self._wake in ready:
            os.read(self._wake, 1)
            return []
        try:
            raw = os.read(self.ep0, _EVENT.size * _EVENT_ROOM)
        except OSError as error:
            if error.errno in _NO_EVENTS:
                return []
            raise
        return [_event(raw, at) for at in range(0, len(raw), _EVENT.size)]

    def wake(self) -> None:
        """Let :meth:`events` return, now or the next time. Any thread."""
        os.write(self._waker, b"\0")

    def reply(self, payload: bytes) -> None:
        """Serve the data stage of the request to the host that was read last. Raises ``OSError`` if it is gone."""
        os.write(self.ep0, payload)

    def receive(self, length: int) -> bytes:
        """Take the data stage of the request to the module that was read last. Raises ``OSError`` if it is gone."""
        if length == 0:
            os.read(self.ep0, 0)
            return b""
        return os.read(self.ep0, length)

    def stall(self, setup: Setup) -> None:
        """Refuse the request that was read last: data in the wrong direction is a STALL."""
        try:
            if setup.to_host:
                os.read(self.ep0, 0)
            else:
                os.write(self.ep0, b"")
        except OSError as error:
            if error.errno not in _NO_EVENTS:
                raise

    def halt_bulk(self) -> bool:
        """Halt the bulk endpoint until the host clears it: reading from an IN endpoint does that. False while the
        controller has bytes that were written and that the host has not taken (``usb_ep_set_halt``)."""
        try:
            os.read(self.bulk, 1)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return False
            if error.errno != errno.EBADMSG:
                raise
        return True

    def close(self) -> None:
        """Close all files. Idempotent."""
        for fd in (self.bulk, self.interrupt, self.ep0, self._wake, self._waker):
            if fd >= 0:
                os.close(fd)
        self.bulk = self.interrupt = self.ep0 = self._wake = self._waker = -1


def _event(raw: bytes, at: int) -> Ep0Event:
    request_type, request, value, index, length, kind = _EVENT.unpack_from(raw, at)
    try:
        event = Ep0EventType(kind)
    except ValueError as error:
        raise MaglensError(f"FunctionFS sent the unknown event {kind}") from error
    if event is not Ep0EventType.SETUP:
        return Ep0Event(event)
    return Ep0Event(event, Setup(request_type, request, value, index, length))
