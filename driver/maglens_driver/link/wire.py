# SPDX-License-Identifier: MIT
"""Requests, replies, events and stream structures of link protocol 1 (docs/protocol.md).

Control requests are vendor requests to the interface on endpoint 0: ``bmRequestType`` 0xC1 (to the host) or 0x41
(to the module), ``bRequest`` an :class:`Op`, ``wIndex`` the interface number.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from crc32c import crc32c

from maglens_driver.errors import BadModule
from maglens_driver.link.limits import (
    MAX_CONTROL_BYTES,
    MAX_CONTROL_VALUE,
    MAX_CONTROLS,
    MAX_EVENT_BYTES,
    MAX_STRUCTURE_BYTES,
    VERSION_MAJOR,
)
from maglens_driver.link.message import Buffer, Message, i32, i64, message, u8, u16, u32, u64

REQUEST_IN: Final = 0xC1
REQUEST_OUT: Final = 0x41
CONTROL_MAGIC: Final = 0x4C4D  # "ML" on the wire
EVENT_MAGIC: Final = 0x564D  # "MV"
LEADER_MAGIC: Final = 0x444C4C4D  # "MLLD"
TRAILER_MAGIC: Final = 0x52544C4D  # "MLTR"


class Op(enum.IntEnum):
    """bRequest. IN or OUT is fixed for each; an OUT request's answer is fetched by RESULT with the same tag."""

    INFO = 0x01  # IN
    DESCRIPTOR = 0x02  # IN, wValue: block number; reply's body: that block, DESCRIPTOR_BLOCK_BYTES but for the last
    CLOCK = 0x03  # IN
    RESULT = 0x04  # IN, wValue: tag
    CONTROLS = 0x05  # IN: present values of all controls
    POWER_RECEIVE = 0x06  # IN: the module's waiting PD message, if any
    CONFIGURE = 0x10  # OUT
    START = 0x11  # OUT
    STOP = 0x12  # OUT
    FLUSH = 0x13  # OUT
    SET_CONTROLS = 0x14  # OUT
    POWER_SEND = 0x15  # OUT: a PD message to the module
    STANDBY = 0x16  # OUT
    # Reserved in version 1: a module answers UNSUPPORTED.
    STILL_CAPTURE = 0x20
    STILL_FETCH = 0x21
    FIRMWARE_BEGIN = 0x30
    FIRMWARE_WRITE = 0x31
    FIRMWARE_COMMIT = 0x32


RESERVED_OPS: Final = frozenset(
    (Op.STILL_CAPTURE, Op.STILL_FETCH, Op.FIRMWARE_BEGIN, Op.FIRMWARE_WRITE, Op.FIRMWARE_COMMIT)
)
IN_OPS: Final = frozenset((Op.INFO, Op.DESCRIPTOR, Op.CLOCK, Op.RESULT, Op.CONTROLS, Op.POWER_RECEIVE))


class Status(enum.IntEnum):
    """Outcome of a request, in the header's ``code`` of every reply. Preconditions are checked in this order."""

    OK = 0
    ADJUSTED = 1  # CONFIGURE: accepted with changes; the reply says which
    NONE = 2  # POWER_RECEIVE: nothing waits
    BAD_LENGTH = 0x10
    BAD_MAGIC = 0x11
    BAD_VERSION = 0x12
    UNSUPPORTED = 0x13  # no such request, or a reserved one
    WRONG_STATE = 0x14
    NO_CONTRACT = 0x15  # the power contract does not cover it
    INVALID = 0x16  # a field has a value that is not allowed
    BUSY = 0x17
    FAULT = 0x18


class ModuleState(enum.IntEnum):
    """State of a module as INFO tells it."""

    IDLE = 0
    CONFIGURED = 1
    STREAMING = 2
    STANDBY = 3
    FAULT = 4


class EventKind(enum.IntEnum):
    """Kinds of event on the interrupt endpoint."""

    CONTROL = 1  # id: V4L2 control id, value: new value (a hand on the ring)
    BUTTON = 2  # id: button number, value: 1 pressed, 0 released
    CAPABILITY = 3  # id: CapabilityReason, value: CapabilityLevel
    FAULT = 4  # id: fault code of the maker, value: 1 set, 0 cleared
    POWER = 5  # a PD message waits for POWER_RECEIVE


class CapabilityLevel(enum.IntEnum):
    """How much a module can do just now."""

    FULL = 0
    REDUCED = 1
    DISABLED = 2


class CapabilityReason(enum.IntEnum):
    """Why a module can do less."""

    TEMPERATURE = 1
    BATTERY = 2


class ConfigureFlag(enum.IntFlag):
    """Flags of CONFIGURE."""

    NONE = 0
    TEST_ONLY = 1


class TrailerFlag(enum.IntFlag):
    """What a module says of the payload it has just sent."""

    NONE = 0
    INCOMPLETE = 1  # read-out was cut short; the payload is padded


@message(8)
class Header(Message):
    """Head of every control payload, both ways (RESULT's too)."""

    magic: int = u16("0x4C4D")
    major: int = u8("protocol major version, 1")
    code: int = u8("to the module: bRequest once more; to the host: a status")
    length: int = u16("bytes of the whole payload, this header included")
    tag: int = u16("to the module: chosen by the host, not 0; to the host: the request's tag, 0 for plain reads")


@message(24)
class Info(Message):
    """Body of the reply to INFO."""

    minor: int = u8("protocol minor version")
    state: int = u8("the state, see States")
    flags: int = u16("0")
    descriptor_bytes: int = u32("length of the descriptor")
    descriptor_crc32c: int = u32("CRC-32C of the descriptor")
    reserved: int = u32("0")
    boot_id: int = u64("random, new at every power-up: tells a brown-out from a removal")


@message(16)
class Clock(Message):
    """Body of the reply to CLOCK: the module's time, latched while the request was handled."""

    time_ns: int = u64("module time, ns; arbitrary epoch, never goes back while powered")
    resolution_ns: int = u32("smallest step, ns")
    reserved: int = u32("0", default=0)


@message(28)
class Configure(Message):
    """Body of CONFIGURE."""

    mode: int = u16("index into the descriptor's modes")
    flags: int = u16("1: TEST_ONLY")
    fourcc: int = u32("V4L2 pixel format")
    width: int = u32("pixels")
    height: int = u32("pixels")
    interval_numerator: int = u32("seconds per frame, numerator")
    interval_denominator: int = u32("seconds per frame, denominator")
    reserved: int = u32("0", default=0)


@message(40)
class Configured(Message):
    """Body of CONFIGURE's result: what will be sent, exactly."""

    mode: int = u16("index into the descriptor's modes")
    flags: int = u16("as asked")
    fourcc: int = u32("V4L2 pixel format")
    width: int = u32("pixels")
    height: int = u32("pixels")
    interval_numerator: int = u32("seconds per frame, numerator")
    interval_denominator: int = u32("seconds per frame, denominator")
    stride: int = u32("bytes per row, 0 for MJPG")
    payload_bytes: int = u32("exact payload of every frame; for MJPG the most")
    mbit_s: int = u32("link rate it needs, Mbit/s")
    mw: int = u32("power it draws, mW")


@message(4)
class Epoch(Message):
    """Body of START and FLUSH."""

    epoch: int = u32("every later leader and trailer carries it")


@message(4)
class ControlCount(Message):
    """Head of a list of controls, in SET_CONTROLS, its result, and the reply to CONTROLS."""

    count: int = u16("entries that follow, at most 64")
    reserved: int = u16("0", default=0)


@message(16)
class ControlValue(Message):
    """One entry of a list of controls."""

    id: int = u32("V4L2 control id")
    status: int = u32("to the module: 0; to the host: a status for this entry")
    value: int = i64("value; in a result: as clamped")


@message(24)
class Event(Message):
    """One event on the interrupt endpoint: one packet each."""

    magic: int = u16("0x564D")
    major: int = u8("protocol major version, 1")
    kind: int = u8("what happened, see the table")
    seq: int = u32("rises by one with every event; a gap tells of lost ones")
    id: int = u32("as the kind says")
    value: int = i32("as the kind says")
    time_ns: int = u64("module time, ns")


@message(80)
class Leader(Message):
    """First transfer of a frame. ``crc32c`` covers all ``size`` bytes with this field taken as 0."""

    magic: int = u32("0x444C4C4D")
    size: int = u16("bytes of the leader, at least 80")
    major: int = u8("protocol major version, 1")
    flags: int = u8("0")
    crc32c: int = u32("CRC-32C of the leader with this field 0")
    epoch: int = u32("as START or FLUSH said")
    frame_id: int = u64("rises by one with every frame taken, sent or not; restarts at 0 with START")
    time_ns: int = u64("module time at the start of exposure, ns")
    fourcc: int = u32("V4L2 pixel format")
    width: int = u32("pixels")
    height: int = u32("pixels")
    stride: int = u32("bytes per row")
    payload_bytes: int = u32("exact length of the payload that follows")
    exposure_us: int = u32("exposure time, us")
    gain_milli: int = u32("gain, thousandths")
    fnumber_milli: int = u32("f-number, thousandths")
    focus_cdpt: int = u32("focus, hundredths of a dioptre")
    focal_um: int = u32("focal length, um")
    temperature_k: int = u32("colour temperature the white balance is set to, K; 0 unknown")
    focus_udpt: int = u32("focus, millionths of a dioptre; 0: as `focus_cdpt` says", default=0)


@message(32)
class Trailer(Message):
    """Last transfer of a frame. ``crc32c`` covers all ``size`` bytes with this field taken as 0."""

    magic: int = u32("0x52544C4D")
    size: int = u16("bytes of the trailer, at least 32")
    major: int = u8("protocol major version, 1")
    flags: int = u8("1: INCOMPLETE")
    crc32c: int = u32("CRC-32C of the trailer with this field 0")
    epoch: int = u32("the leader's")
    frame_id: int = u64("the leader's")
    payload_bytes: int = u32("bytes of payload sent")
    payload_crc32c: int = u32("CRC-32C of the payload")


_CRC_OFFSET: Final = 8  # the same in leader and trailer


def seal(structure: Leader | Trailer) -> bytes:
    """The structure as bytes with its ``crc32c`` filled in."""
    raw = bytearray(structure.pack())
    raw[_CRC_OFFSET : _CRC_OFFSET + 4] = bytes(4)
    raw[_CRC_OFFSET : _CRC_OFFSET + 4] = crc32c(bytes(raw)).to_bytes(4, "little")
    return bytes(raw)


def _open_sealed(raw: Buffer, kind: type[Leader] | type[Trailer], magic: int, what: str) -> None:
    if not kind.SIZE <= len(raw) <= MAX_STRUCTURE_BYTES:
        raise BadModule(f"{what}_length", f"{what} of {len(raw)} bytes, {kind.SIZE} to {MAX_STRUCTURE_BYTES} allowed")
    if int.from_bytes(raw[0:4], "little") != magic:
        raise BadModule(f"{what}_magic", f"{what} begins with {bytes(raw[0:4]).hex()}")
    if raw[6] != VERSION_MAJOR:
        raise BadModule(f"{what}_version", f"{what} of protocol {raw[6]}, this host speaks {VERSION_MAJOR}")
    size = int.from_bytes(raw[4:6], "little")
    if size != len(raw):
        raise BadModule(f"{what}_length", f"{what} says {size} bytes, {len(raw)} came")
    zeroed = bytearray(raw)
    zeroed[_CRC_OFFSET : _CRC_OFFSET + 4] = bytes(4)
    said = int.from_bytes(raw[_CRC_OFFSET : _CRC_OFFSET + 4], "little")
    if crc32c(bytes(zeroed)) != said:
        raise BadModule(f"{what}_crc", f"{what} fails its CRC")


def open_leader(raw: Buffer) -> Leader:
    """Check length, magic, version and CRC of a leader; causes ``leader_length|magic|version|crc``."""
    _open_sealed(raw, Leader, LEADER_MAGIC, "leader")
    return Leader.unpack(raw)


def open_trailer(raw: Buffer) -> Trailer:
    """Check length, magic, version and CRC of a trailer; causes ``trailer_length|magic|version|crc``."""
    _open_sealed(raw, Trailer, TRAILER_MAGIC, "trailer")
    return Trailer.unpack(raw)


def pack_request(op: Op, tag: int, body: bytes = b"") -> bytes:
    """Payload of an OUT request."""
    return Header(CONTROL_MAGIC, VERSION_MAJOR, op, Header.SIZE + len(body), tag).pack() + body


def pack_reply(status: Status, tag: int, body: bytes = b"") -> bytes:
    """Payload of a reply."""
    return Header(CONTROL_MAGIC, VERSION_MAJOR, status, Header.SIZE + len(body), tag).pack() + body


def open_payload(raw: Buffer) -> tuple[Header, bytes]:
    """Check length, magic and version of a control payload; causes ``control_length|magic|version``."""
    if not Header.SIZE <= len(raw) <= MAX_CONTROL_BYTES:
        raise BadModule("control_length", f"control payload of {len(raw)} bytes")
    head = Header.unpack(raw)
    if head.magic != CONTROL_MAGIC:
        raise BadModule("control_magic", f"control payload begins with {bytes(raw[:2]).hex()}")
    if head.major != VERSION_MAJOR:
        raise BadModule(
            "control_version",
            f"the other side speaks protocol {head.major}, this one {VERSION_MAJOR}",
            hint="update maglens on this machine, or the module's firmware",
        )
    if head.length != len(raw):
        raise BadModule("control_length", f"control payload says {head.length} bytes, {len(raw)} came")
    return head, bytes(raw[Header.SIZE :])


def pack_controls(entries: Iterable[ControlValue]) -> bytes:
    """Body of a list of controls."""
    packed = [e.pack() for e in entries]
    if len(packed) > MAX_CONTROLS:
        raise ValueError(f"{len(packed)} controls, at most {MAX_CONTROLS} fit in one request")
    return ControlCount(len(packed), 0).pack() + b"".join(packed)


def open_controls(body: Buffer) -> tuple[ControlValue, ...]:
    """Entries of a list of controls; causes ``length``, ``controls_count``."""
    count = ControlCount.unpack(body).count
    if count > MAX_CONTROLS:
        raise BadModule("controls_count", f"a list of {count} controls, at most {MAX_CONTROLS} are allowed")
    start = ControlCount.SIZE
    return tuple(ControlValue.unpack(body, start + i * ControlValue.SIZE) for i in range(count))


def open_control_values(body: Buffer) -> tuple[ControlValue, ...]:
    """What a module says of its controls: :func:`open_controls`, besides cause ``controls_value``. (What a host
    writes may be out of range: the module clamps it.)"""
    entries = open_controls(body)
    for entry in entries:
        if not -MAX_CONTROL_VALUE - 1 <= entry.value <= MAX_CONTROL_VALUE:
            raise BadModule("controls_value", f"control {entry.id:#010x} is {entry.value}, more than 32 bits hold")
    return entries


def open_event(raw: Buffer) -> Event:
    """Check length, magic and version of an event; causes ``event_length|magic|version``."""
    if not Event.SIZE <= len(raw) <= MAX_EVENT_BYTES:
        raise BadModule("event_length", f"event of {len(raw)} bytes, {Event.SIZE} to {MAX_EVENT_BYTES} allowed")
    event = Event.unpack(raw)
    if event.magic != EVENT_MAGIC:
        raise BadModule("event_magic", f"event begins with {bytes(raw[:2]).hex()}")
    if event.major != VERSION_MAJOR:
        raise BadModule("event_version", f"event of protocol {event.major}, this host speaks {VERSION_MAJOR}")
    return event
