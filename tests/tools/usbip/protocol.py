# SPDX-License-Identifier: GPL-2.0-or-later
"""USB/IP on the wire, as vhci-hcd speaks it after an import (Documentation/usb/usbip_protocol.rst).

Big-endian. Every message has a head of 48 bytes; a submission to the device (OUT) is followed by its data, a return
of one from the device (IN) likewise. The setup packet of endpoint 0 lies in the head, little-endian as on USB.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 48
MAX_TRANSFER: Final = 1 << 20
"""Ceiling of a transfer's data, in bytes; uvcvideo asks for 32 packets at most."""

_BASIC: Final = struct.Struct(">IIIII")  # command, seqnum, devid, direction, endpoint
_SUBMIT: Final = struct.Struct(">IiiiI8s")  # flags, length, start frame, packets, interval, setup
_RETURN: Final = struct.Struct(">iiiii8x")  # status, length, start frame, packets, errors


class Command(enum.IntEnum):
    """Kinds of message."""

    SUBMIT = 1
    UNLINK = 2
    RETURN_SUBMIT = 3
    RETURN_UNLINK = 4


class Errno(enum.IntEnum):
    """What an URB can end with (linux/errno.h)."""

    OK = 0
    PIPE = -32  # stalled
    CONNRESET = -104  # unlinked


class ProtocolError(Exception):
    """What came is no USB/IP."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A control request."""

    request_type: int
    request: int
    value: int
    index: int
    length: int

    @classmethod
    def unpack(cls, raw: bytes) -> Setup:
        """From the eight bytes on the bus."""
        return cls(*struct.unpack("<BBHHH", raw))

    @property
    def to_host(self) -> bool:
        """Whether its data goes to the host."""
        return bool(self.request_type & 0x80)


@dataclass(frozen=True, slots=True)
class Submit:
    """The host submits an URB. ``length`` is how much it wants (IN) or sends (OUT, then ``data`` holds it)."""

    seqnum: int
    endpoint: int
    to_host: bool
    length: int
    setup: Setup
    data: bytes


@dataclass(frozen=True, slots=True)
class Unlink:
    """The host takes back the URB ``target``."""

    seqnum: int
    target: int


class Decoder:
    """Cuts the stream into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Submit | Unlink]:
        """Add bytes; the messages that are complete now."""
        self._data += data
        while len(self._data) >= HEAD_BYTES:
            command, seqnum, _, direction, endpoint = _BASIC.unpack_from(self._data)
            if command == Command.UNLINK:
                (target,) = struct.unpack_from(">I", self._data, _BASIC.size)
                del self._data[:HEAD_BYTES]
                yield Unlink(seqnum, target)
                continue
            if command != Command.SUBMIT:
                raise ProtocolError(f"command {command:#x} is none that a host sends")
            _, length, _, _, _, setup = _SUBMIT.unpack_from(self._data, _BASIC.size)
            if not 0 <= length <= MAX_TRANSFER or endpoint > 15 or direction > 1:
                raise ProtocolError(f"an URB of {length} bytes for endpoint {endpoint}")
            behind = 0 if direction else length
            if len(self._data) < HEAD_BYTES + behind:
                return
            payload = bytes(self._data[HEAD_BYTES : HEAD_BYTES + behind])
            del self._data[: HEAD_BYTES + behind]
            yield Submit(seqnum, endpoint, bool(direction), length, Setup.unpack(setup), payload)


def submitted(seqnum: int, status: int, actual: int) -> bytes:
    """Head of the answer to a :class:`Submit`; for IN the ``actual`` bytes of data follow it."""
    return _BASIC.pack(Command.RETURN_SUBMIT, seqnum, 0, 0, 0) + _RETURN.pack(status, actual, 0, 0, 0)


def unlinked(seqnum: int, status: int) -> bytes:
    """The answer to an :class:`Unlink`: CONNRESET if the URB was still ours, OK if it had been returned."""
    return _BASIC.pack(Command.RETURN_UNLINK, seqnum, 0, 0, 0) + struct.pack(">i24x", status)
