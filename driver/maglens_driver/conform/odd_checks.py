# SPDX-License-Identifier: GPL-2.0-or-later
"""Odd requests: what a host with a defect, or an attacker, could send. Each is refused by its status, and then all is
as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from maglens_driver.conform.check import Group, Skipped, expect
from maglens_driver.conform.specimen import Reply, Specimen
from maglens_driver.errors import BadModule
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import Configure, ControlCount, Epoch, Op, Status

ODD: Final = Group("odd")
_UNKNOWN: Final = 0x7E  # below the makers' own, and without a meaning
_GARBAGE: Final = 96
_STALLED: Final = "it stalls the request; a status is the better answer"


def _well(s: Specimen) -> None:
    """The module answers as if nothing had been."""
    s.info()
    s.stop()


def _out(name: str, text: str, want: Status, request: int, body: bytes = b"", **header: Any) -> None:
    def run(s: Specimen) -> None:
        before = s.state()
        try:
            reply = s.put(request, body, **header)
        except BadModule as error:
            if error.cause != "control_stall":
                raise
            _well(s)
            expect(False, _STALLED)
            return
        expect(reply.status == want, f"it is {reply.name}, not {want.name}")
        expect((after := s.state()) is before, f"{before.name} has become {after.name}")
        _well(s)

    ODD.add(name, f"{text} is {want.name}", run)


def _in(name: str, text: str, request: int, value: int = 0) -> None:
    def run(s: Specimen) -> None:
        try:
            reply = s.get(request, value)
        except BadModule as error:
            if error.cause != "control_stall":
                raise
            _well(s)
            expect(False, _STALLED)
            return
        expect(reply.status == Status.UNSUPPORTED, f"it is {reply.name}")
        _well(s)

    ODD.add(name, f"{text} is UNSUPPORTED", run)


_in("unknown_read", "an unknown request to the host", _UNKNOWN)
_in("zero_read", "request 0 to the host", 0)
_in("write_as_read", "START to the host", Op.START)
_out("unknown", "an unknown request to the module", Status.UNSUPPORTED, _UNKNOWN)
_out("read_as_write", "INFO to the module", Status.UNSUPPORTED, Op.INFO)
_out("still_capture", "the reserved STILL_CAPTURE", Status.UNSUPPORTED, Op.STILL_CAPTURE)
_out("still_fetch", "the reserved STILL_FETCH", Status.UNSUPPORTED, Op.STILL_FETCH)
_out("firmware_begin", "the reserved FIRMWARE_BEGIN", Status.UNSUPPORTED, Op.FIRMWARE_BEGIN)
_out("firmware_write", "the reserved FIRMWARE_WRITE", Status.UNSUPPORTED, Op.FIRMWARE_WRITE)
_out("firmware_commit", "the reserved FIRMWARE_COMMIT", Status.UNSUPPORTED, Op.FIRMWARE_COMMIT)
_out("other_code", "a header whose code is not bRequest", Status.UNSUPPORTED, Op.STOP, code=Op.STANDBY)
_out("magic", "another magic", Status.BAD_MAGIC, Op.STOP, magic=0x4C4C)
_out("version", "another major version", Status.BAD_VERSION, Op.STOP, major=limits.VERSION_MAJOR + 1)
_out("version_zero", "major version 0", Status.BAD_VERSION, Op.STOP, major=0)
_out("length_above", "a length beyond what came", Status.BAD_LENGTH, Op.STOP, length=0xFFFF)
_out("length_below", "a length below what came", Status.BAD_LENGTH, Op.STOP, b"\0" * 8, length=8)
_out("length_zero", "a length of 0", Status.BAD_LENGTH, Op.STOP, length=0)
_out("header_cut", "half a header", Status.BAD_LENGTH, Op.STOP, cut=4)
_out("nothing", "no header at all", Status.BAD_LENGTH, Op.STOP, cut=0)
_out("configure_cut", "a short CONFIGURE", Status.BAD_LENGTH, Op.CONFIGURE, bytes(Configure.SIZE - 1))
_out("configure_empty", "an empty CONFIGURE", Status.BAD_LENGTH, Op.CONFIGURE)
_out("start_cut", "a short START", Status.BAD_LENGTH, Op.START, bytes(Epoch.SIZE - 1))
_out("flush_cut", "a short FLUSH", Status.BAD_LENGTH, Op.FLUSH, bytes(Epoch.SIZE - 1))
_out("controls_cut", "a short SET_CONTROLS", Status.BAD_LENGTH, Op.SET_CONTROLS, bytes(ControlCount.SIZE - 1))
_out(
    "magic_before_length", "BAD_MAGIC before a wrong length: both wrong", Status.BAD_MAGIC, Op.STOP, magic=0, length=9
)
_out("magic_before_version", "BAD_MAGIC before BAD_VERSION: both wrong", Status.BAD_MAGIC, Op.STOP, magic=0, major=9)
_out("version_before_request", "BAD_VERSION before UNSUPPORTED: both wrong", Status.BAD_VERSION, _UNKNOWN, major=9)


def _tail(name: str, text: str, ask: Callable[[Specimen, bytes], Reply], want: Status) -> None:
    def run(s: Specimen) -> None:
        reply = ask(s, b"\xa5" * 12)
        expect(reply.status == want, f"it is {reply.name}, not {want.name}")
        _well(s)

    ODD.add(name, text, run)


def _stop_with(s: Specimen, tail: bytes) -> Reply:
    return s.put(Op.STOP, tail)


def _start_with(s: Specimen, tail: bytes) -> Reply:
    s.configured(s.small())
    return s.put(Op.START, Epoch(s.epoch + 1).pack() + tail)


_tail("stop_tail", "bytes behind the known ones of STOP are ignored", _stop_with, Status.OK)
_tail("start_tail", "bytes behind the known fields of START are ignored", _start_with, Status.OK)


@ODD.check("largest", f"a request of {limits.MAX_CONTROL_BYTES} bytes is taken")
def _largest(s: Specimen) -> None:
    reply = s.put(Op.STOP, bytes(limits.MAX_CONTROL_BYTES - wire.Header.SIZE))
    expect(reply.status == Status.OK, f"it is {reply.name}")


@ODD.check("result_repeats", "RESULT can be fetched as often as one likes")
def _repeats(s: Specimen) -> None:
    s.stop()
    first = s.read(Op.RESULT, s.last_tag)
    for _ in range(3):
        expect(s.read(Op.RESULT, s.last_tag) == first, "it differs from the first time")


@ODD.check("result_of_another", "RESULT with another tag is INVALID")
def _another(s: Specimen) -> None:
    s.stop()
    for tag in (s.last_tag ^ 0x5555, 0):
        reply = s.get(Op.RESULT, tag)
        expect(reply.status == Status.INVALID, f"tag {tag:#06x} is answered {reply.name}")


@ODD.check("result_replaced", "the next request replaces the result of the one before")
def _replaced(s: Specimen) -> None:
    s.stop()
    before = s.last_tag
    s.stop()
    reply = s.get(Op.RESULT, before)
    expect(reply.status == Status.INVALID, f"the old one is answered {reply.name}")


@ODD.check("unfetched", "a result that nobody fetches hinders nothing")
def _unfetched(s: Specimen) -> None:
    for tag in range(1, 20):
        s.pipe.write(Op.STOP, 0, wire.pack_request(Op.STOP, tag), limits.REPLY_S)
    _well(s)


@ODD.check("garbage", f"{_GARBAGE} requests of garbage are answered, and do no harm")
def _garbage(s: Specimen) -> None:
    words = bytes(range(256)) * 17
    for number in range(_GARBAGE):
        request = number * 7 % 0x30  # below the firmware requests
        raw = words[number * 13 % 256 :][: number * 5 % 97]
        try:
            s.pipe.write(request, 0, raw, limits.REPLY_S)
            s.pipe.read(request, number, limits.REPLY_S)
        except BadModule as error:
            if error.cause != "control_stall":
                raise
    _well(s)


@ODD.check("still_streams", "after all of this it streams")
def _streams(s: Specimen) -> None:
    answer = s.started(s.small())
    frames = s.receiver.frames(answer, s.epoch, 2, fresh=False)
    s.stop()
    expect(len(frames) == 2 and not any(f.trouble for f in frames), "it does not")
    wire.open_leader(frames[1].leader)
    wire.open_trailer(frames[1].trailer)


@ODD.check("all_in_time", f"no request of this run took longer than {limits.REPLY_S:g} s")
def _in_time(s: Specimen) -> None:
    if not s.slowest:
        raise Skipped("no request was made")
    slow = {name: seconds for name, seconds in s.slowest.items() if seconds > limits.REPLY_S}
    expect(not slow, ", ".join(f"{name} {seconds:.2f} s" for name, seconds in slow.items()))
