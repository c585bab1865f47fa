# SPDX-License-Identifier: GPL-2.0-or-later
"""Bends a fake module as the virtual module's faults bend that one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from maglens_driver.errors import Deadline
from maglens_driver.gadget.faults import DESCRIPTOR_FAULTS, REPLY_FAULTS, Fault
from maglens_driver.gadget.mutation import mutate
from maglens_driver.link import wire
from maglens_driver.link.wire import CapabilityLevel, CapabilityReason, EventKind, Op, TrailerFlag
from maglens_driver.usb.fake import FakeModule

BENT_FRAME: Final = 3  # or the first one sent behind it, so that a number can go back

Writes = list[bytes]


def bend(module: FakeModule, fault: Fault) -> None:
    """From now on the module has ``fault``; frames and replies once, the rest for good."""
    manners = module.sink.manners
    match fault:
        case Fault.POWER_GREEDY:
            manners.greedy_mw = 1000
        case Fault.POWER_STUBBORN:
            manners.stubborn = True
        case Fault.POWER_SILENT | Fault.POWER_LATE:
            manners.silent = True
        case Fault.HEAT:
            hot = (CapabilityReason.TEMPERATURE, CapabilityLevel.REDUCED)
            module.send_event(wire.Event(wire.EVENT_MAGIC, 1, EventKind.CAPABILITY, 1, *hot, module.clock()).pack())
        case Fault.BROWN_OUT:
            module.reply = _brown_out(module)
        case _:
            _bend(module, fault)


def _brown_out(module: FakeModule) -> Callable[[int, bytes], bytes]:
    def reply(_op: int, raw: bytes) -> bytes:
        if module.requests[-2:-1] == [Op.START]:
            module.unplug()
        return raw

    return reply


def _bend(module: FakeModule, fault: Fault) -> None:
    if fault in DESCRIPTOR_FAULTS:
        raw = module.descriptor.pack()
        if fault is Fault.DESCRIPTOR_CRC:
            module.responder.announce(raw, crc=0)
        else:
            module.responder.announce(mutate(raw, fault))
    elif fault is Fault.HANG:
        module.reply = _silent
    elif fault in REPLY_FAULTS:
        module.reply = _once(fault)
    else:
        module.frame = _frame(module, fault)


def _silent(op: int, _raw: bytes) -> bytes:
    raise Deadline(f"no answer to request {op:#04x}")


def _once(fault: Fault) -> Callable[[int, bytes], bytes]:
    left = [fault]

    def reply(op: int, raw: bytes) -> bytes:
        if not left or op != Op.INFO:
            return raw
        match left.pop():
            case Fault.REPLY_SHORT:
                return raw[:-4]
            case Fault.REPLY_LONG:
                return raw + bytes(16)
            case Fault.REPLY_MAGIC:
                return b"XX" + raw[2:]
            case Fault.REPLY_TAG:
                return raw[:6] + b"\xee\xee" + raw[8:]
            case _:
                return _silent(op, raw)

    return reply


def _changed(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :]


def _leader(raw: bytes, fault: Fault) -> bytes:
    leader = wire.Leader.unpack(raw)
    match fault:
        case Fault.LEADER_MAGIC:
            return wire.seal(replace(leader, magic=leader.magic ^ 0xFFFF))
        case Fault.LEADER_EPOCH:
            return wire.seal(replace(leader, epoch=leader.epoch + 7))
        case Fault.LEADER_GEOMETRY:
            return wire.seal(replace(leader, width=leader.width + 2))
        case Fault.LEADER_LENGTH:
            return wire.seal(replace(leader, payload_bytes=leader.payload_bytes + 4096))
        case Fault.ID_BACK:
            return wire.seal(replace(leader, frame_id=0))
        case Fault.LEADER_CRC:
            return _changed(raw, len(raw) - 1)
        case Fault.LEADER_SHORT:
            return raw[:12]
        case _:
            return raw


def _frame(module: FakeModule, fault: Fault) -> Callable[[int, Writes], Writes]:
    left = [fault]
    sound = module.frame

    def frame(frame_id: int, writes: Writes) -> Writes:
        writes = sound(frame_id, writes)
        leader, payload, trailer = writes
        if fault is Fault.STALL:
            return []
        if not left or frame_id < BENT_FRAME:
            return writes
        left.clear()
        match fault:
            case Fault.HALT:
                module.halted = True
                return []
            case Fault.PAYLOAD_SHORT:
                payload = payload[:-1000]
            case Fault.PAYLOAD_LONG:
                payload += bytes(1000)
            case Fault.PAYLOAD_CRC:
                payload = _changed(payload, len(payload) // 2)
            case Fault.TRAILER_MISSING:
                return [leader, payload]
            case Fault.TRAILER_CRC:
                trailer = _changed(trailer, len(trailer) - 1)
            case Fault.TRAILER_INCOMPLETE:
                trailer = wire.seal(replace(wire.Trailer.unpack(trailer), flags=TrailerFlag.INCOMPLETE))
        return [_leader(leader, fault), payload, trailer]

    return frame
