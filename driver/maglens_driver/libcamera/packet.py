# SPDX-License-Identifier: GPL-2.0-or-later
"""Packet: what the libcamera child and its parent say to each other, one datagram each.

They share a ``SOCK_SEQPACKET`` pair, so a datagram is a message: a head (magic, kind, request) and a body whose
exact size follows from the kind; only texts vary, up to ``MAX_TEXT`` bytes. The parent asks (``LIST`` to ``SET``)
under a request number; the child answers with any number of packets that carry it, the last of which is ``DONE``
or ``REFUSED``. ``GIVE_BACK``, ``FRAME``, ``SPOILED`` and ``BROKEN``
belong to no request. Pictures never come this way: ``BUFFER``
passes file descriptors once, ``FRAME`` names one of them.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from maglens_driver.errors import BadModule
from maglens_driver.link.message import Message, i64, message, u8, u16, u32, u64

_M = TypeVar("_M", bound=Message)

MAGIC: Final = 0x6C63  # "cl" on the wire
MAX_TEXT: Final = 256
"""Ceiling of a text, in bytes of UTF-8: camera ids are firmware paths."""

MAX_CAMERAS: Final = 32
MAX_NODES: Final = 6
MAX_BUFFERS: Final = 32
MAX_PLANES: Final = 3
MAX_ANSWERS: Final = 256
"""Ceiling of the packets that answer one request."""


class Kind(enum.IntEnum):
    """What a packet is. The parent sends the first block, the child the second."""

    LIST = 0x01  # which cameras are there: CAMERA for each, and DEVICE for each of its video nodes
    OPEN = 0x02  # text: camera id. Answer: TEXT (its model), MODE and CONTROL for each
    CONFIGURE = 0x03  # MODE body. Answer: MODE as it will be, and unless test-only a BUFFER for each buffer
    START = 0x04
    STOP = 0x05
    SET = 0x06  # VALUE body. Answer: VALUE for what now holds
    GIVE_BACK = 0x07  # the parent is done with a buffer

    CAMERA = 0x81
    TEXT = 0x82
    MODE = 0x83
    CONTROL = 0x84
    VALUE = 0x85
    BUFFER = 0x86
    FRAME = 0x87
    DONE = 0x88
    REFUSED = 0x89  # code and text
    SPOILED = 0x8A  # a frame was lost inside libcamera
    DEVICE = 0x8C  # a video node of the camera told of last
    BROKEN = 0x8B  # text: the camera has ended by itself; the child exits


FROM_PARENT: Final = frozenset(kind for kind in Kind if kind < 0x80)
FROM_CHILD: Final = frozenset(kind for kind in Kind if kind >= 0x80)


class Refusal(enum.IntEnum):
    """Why the child said no."""

    FAILED = 1  # libcamera did not do it
    NO_LIBRARY = 2  # the bindings cannot be imported
    NO_CAMERA = 3  # no camera of that id
    WRONG_STATE = 4
    INVALID = 5
    NO_FORMAT = 6  # no format of the camera is one of ours
    BUSY = 7  # another program uses it


@message(size=8)
class Head(Message):
    """Begins every packet."""

    magic: int = u16("MAGIC")
    kind: int = u8("Kind")
    zero: int = u8("0", default=0)
    request: int = u32("number of the request, 0 for none", default=0)


@message(size=48)
class ModeBody(Message):
    """A mode, in CONFIGURE and MODE."""

    fourcc: int = u32("V4L2 pixel format")
    width: int = u32("pixels")
    height: int = u32("pixels")
    stride: int = u32("bytes of a row")
    nbytes: int = u64("bytes of a frame")
    numerator: int = u32("interval, seconds")
    denominator: int = u32("interval, seconds")
    test_only: int = u32("1: do not change anything", default=0)
    epoch: int = u32("which set of buffers it has, in the answer", default=0)
    matrix: int = u32("V4L2's number of the matrix; 0: as apps are told", default=0)
    full: int = u32("1: full range", default=0)


@message(size=40)
class ControlBody(Message):
    """A control's range; name and type follow from the id."""

    minimum: int = i64("least value")
    maximum: int = i64("greatest value")
    step: int = i64("step")
    default: int = i64("default")
    id: int = u32("V4L2 control id")
    zero: int = u32("0", default=0)


@message(size=12)
class ValueBody(Message):
    """A control's value, in SET and VALUE."""

    id: int = u32("V4L2 control id")
    value: int = i64("value")


@message(size=40)
class BufferBody(Message):
    """One buffer; plane n lies in the n-th file descriptor that comes with the packet."""

    epoch: int = u32("set of buffers")
    index: int = u32("its number in the set, counted from 0")
    planes: int = u32("1 to MAX_PLANES")
    zero: int = u32("0", default=0)
    offset0: int = u32("bytes", default=0)
    length0: int = u32("bytes", default=0)
    offset1: int = u32("bytes", default=0)
    length1: int = u32("bytes", default=0)
    offset2: int = u32("bytes", default=0)
    length2: int = u32("bytes", default=0)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Offset and length of each plane, in bytes."""
        every = ((self.offset0, self.length0), (self.offset1, self.length1), (self.offset2, self.length2))
        return every[: self.planes]


@message(size=8)
class GiveBackBody(Message):
    """Which buffer the parent is done with."""

    epoch: int = u32("set of buffers")
    index: int = u32("number in the set")


@message(size=56)
class FrameBody(Message):
    """A buffer was filled. Zero in the last six fields means not known."""

    epoch: int = u32("set of buffers")
    index: int = u32("number in the set")
    nbytes: int = u64("bytes filled")
    sequence: int = u64("the camera's own number; gaps are lost frames")
    timestamp_ns: int = u64("start of exposure as libcamera tells it")
    exposure_us: int = u32("microseconds", default=0)
    gain_milli: int = u32("thousandths", default=0)
    focus_cdpt: int = u32("hundredths of a dioptre, plus one", default=0)
    temperature_k: int = u32("kelvin", default=0)
    focus_state: int = u32("AfState plus one", default=0)
    focal_um: int = u32("micrometres", default=0)


@message(size=8)
class SpoiledBody(Message):
    """A frame that libcamera gave up."""

    sequence: int = u64("the camera's own number")


@message(size=8)
class DeviceBody(Message):
    """The number of a device node."""

    major: int = u32("of the driver")
    minor: int = u32("of the device")


Body = Message | str | None

_FIXED: Final[dict[Kind, type[Message]]] = {
    Kind.CONFIGURE: ModeBody,
    Kind.SET: ValueBody,
    Kind.GIVE_BACK: GiveBackBody,
    Kind.MODE: ModeBody,
    Kind.CONTROL: ControlBody,
    Kind.VALUE: ValueBody,
    Kind.BUFFER: BufferBody,
    Kind.FRAME: FrameBody,
    Kind.SPOILED: SpoiledBody,
    Kind.DEVICE: DeviceBody,
}
_TEXTS: Final = frozenset((Kind.OPEN, Kind.CAMERA, Kind.TEXT, Kind.BROKEN))

MAX_PACKET: Final = Head.SIZE + 4 + MAX_TEXT
"""Ceiling of a datagram, in bytes."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A decoded datagram. ``body`` has the type that its kind asks for; ``code`` is set in REFUSED only."""

    kind: Kind
    request: int = 0
    body: Body = None
    code: int = 0


def encode(packet: Packet) -> bytes:
    """The datagram. A text that is too long is cut: it is for people."""
    head = Head(magic=MAGIC, kind=packet.kind, request=packet.request).pack()
    if isinstance(packet.body, Message):
        return head + packet.body.pack()
    text = cut(packet.body or "")
    return head + (packet.code.to_bytes(4, "little") if packet.kind == Kind.REFUSED else b"") + text


def decode(raw: bytes, allowed: frozenset[Kind]) -> Packet:
    """Read a datagram: length, magic, kind, then the body. Anything odd raises ``BadModule``."""
    head = Head.unpack(raw)
    if head.magic != MAGIC:
        raise BadModule("child_magic", f"the libcamera child sent magic {head.magic:#06x}")
    if head.kind not in allowed or head.zero:
        raise BadModule("child_kind", f"the libcamera child sent kind {head.kind:#04x}")
    kind = Kind(head.kind)
    rest = raw[Head.SIZE :]
    shape = _FIXED.get(kind)
    if shape is not None:
        _expect(len(rest) == shape.SIZE, kind)
        return Packet(kind, head.request, shape.unpack(rest))
    if kind in _TEXTS:
        return Packet(kind, head.request, _text(rest, kind))
    if kind == Kind.REFUSED:
        _expect(len(rest) >= 4, kind)
        return Packet(kind, head.request, _text(rest[4:], kind), int.from_bytes(rest[:4], "little"))
    _expect(not rest, kind)
    return Packet(kind, head.request)


def cut(text: str) -> bytes:
    """At most ``MAX_TEXT`` bytes of it as UTF-8, at a character's end."""
    return text.encode(errors="replace")[:MAX_TEXT].decode(errors="ignore").encode()


def bodies(packets: Sequence[Packet], kind: type[_M]) -> list[_M]:
    """The bodies of one type among the packets of an answer, in order."""
    return [packet.body for packet in packets if isinstance(packet.body, kind)]


def _text(raw: bytes, kind: Kind) -> str:
    _expect(len(raw) <= MAX_TEXT, kind)
    text = raw.decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _expect(right: bool, kind: Kind) -> None:
    if not right:
        raise BadModule("child_length", f"the libcamera child sent a {kind.name} of the wrong length")
