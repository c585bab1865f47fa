# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames: how host and guest agent talk over a virtio serial port.

A frame is a head (big-endian: magic, session, kind, length) and `length` bytes. A session is one command:
OPEN (JSON: argv, cwd, env) is answered by ACCEPT, then STDIN and SIGNAL go to the guest, STDOUT and STDERR
to the host, until EXIT (JSON: status). The session number lets each side drop what a broken-off predecessor
left in the buffers.
"""

import enum
import struct
from dataclasses import dataclass

HEAD = struct.Struct(">4sIBI")
MAGIC = b"\xf5ML\xfa"
LARGEST = 1 << 20
"""Ceiling of a frame's payload, in bytes."""

CHUNK = 1 << 16
"""What one STDIN, STDOUT or STDERR frame carries at most, in bytes."""

PORTS = 6
"""Serial ports of a machine, and so commands that can run side by side."""


def port_name(index: int) -> str:
    """The name of the index-th port, the same on both sides."""
    return f"org.maglens.lab.{index}"


class Kind(enum.IntEnum):
    """What a frame is; see the module's description."""

    OPEN = 1
    ACCEPT = 2
    STDIN = 3
    STDIN_END = 4
    STDOUT = 5
    STDERR = 6
    SIGNAL = 7
    EXIT = 8


KINDS = frozenset(int(kind) for kind in Kind)


@dataclass(frozen=True, slots=True)
class LabFrame:
    """A decoded frame."""

    session: int
    kind: Kind
    data: bytes


def encode(session: int, kind: Kind, data: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return HEAD.pack(MAGIC, session, kind, len(data)) + data


class Decoder:
    """Cuts a byte stream into frames; what is no frame is skipped up to the next magic."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[LabFrame]:
        """Add bytes; the frames that are complete now."""
        self._data += data
        frames: list[LabFrame] = []
        while True:
            start = self._data.find(MAGIC)
            # Without a magic, the last bytes may still be the beginning of one.
            del self._data[: max(0, len(self._data) - len(MAGIC) + 1) if start < 0 else start]
            if start < 0 or len(self._data) < HEAD.size:
                return frames
            _, session, kind, length = HEAD.unpack_from(self._data)
            if length > LARGEST or kind not in KINDS:
                del self._data[: len(MAGIC)]
                continue
            if len(self._data) < HEAD.size + length:
                return frames
            frames.append(LabFrame(session, Kind(kind), bytes(self._data[HEAD.size : HEAD.size + length])))
            del self._data[: HEAD.size + length]
