# SPDX-License-Identifier: GPL-2.0-or-later
"""FLUSH and epochs: how a stream that fell out of step begins anew."""

from __future__ import annotations

import time
from typing import Final

from maglens_driver.conform.check import Group, Skipped, expect, fail
from maglens_driver.conform.recording import RawFrame
from maglens_driver.conform.specimen import Specimen
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import ModuleState, Op, Status
from maglens_driver.usb.transport import Outcome

FLUSH: Final = Group("flush")
_OFTEN: Final = 10


def _frames(s: Specimen, answer: wire.Configured, count: int, *, fresh: bool = False) -> list[RawFrame]:
    frames = s.receiver.frames(answer, s.epoch, count, fresh=fresh)
    troubles = [f.trouble for f in frames if f.trouble]
    expect(not troubles and len(frames) == count, "; ".join(troubles) or f"{len(frames)} of {count} frames came")
    return frames


def _flushed(s: Specimen) -> None:
    reply = s.flush()
    expect(reply.status == Status.OK, f"it is answered {reply.name}")


def _good(s: Specimen, frames: list[RawFrame]) -> None:
    for frame in frames:
        leader, trailer = wire.open_leader(frame.leader), wire.open_trailer(frame.trailer)
        expect(leader.epoch == s.epoch, f"a leader is of epoch {leader.epoch}, not {s.epoch}")
        expect(trailer.epoch == s.epoch, f"a trailer is of epoch {trailer.epoch}, not {s.epoch}")
        whole = (trailer.payload_bytes, trailer.payload_crc32c) == (frame.payload_bytes, frame.payload_crc)
        expect(whole, "a frame behind FLUSH is damaged")


@FLUSH.check("new_epoch", "frames behind FLUSH carry its epoch, in leader and trailer")
def _epoch(s: Specimen) -> None:
    answer = s.started(s.small())
    _frames(s, answer, 1)
    _flushed(s)
    _good(s, _frames(s, answer, 2))
    s.stop()


@FLUSH.check("ids_go_on", "ids go on behind FLUSH")
def _ids(s: Specimen) -> None:
    answer = s.started(s.small())
    before = _frames(s, answer, 2)[-1].opened()
    _flushed(s)
    after = _frames(s, answer, 1)[0].opened()
    s.stop()
    if before is None or after is None:
        fail("a leader cannot be read")
    expect(after.frame_id > before.frame_id, f"{before.frame_id} before, {after.frame_id} behind it")


@FLUSH.check("keeps_streaming", "FLUSH leaves the state STREAMING")
def _streaming(s: Specimen) -> None:
    s.started(s.small())
    _flushed(s)
    now = s.state()
    s.stop()
    expect(now is ModuleState.STREAMING, f"it is {now.name}")


def _cut(s: Specimen, answer: wire.Configured, parts: int) -> None:
    """Take a leader and so many packets of its payload, then flush in the middle of it."""
    interval = answer.interval_numerator / max(1, answer.interval_denominator)
    leader = s.receiver.hunt(s.epoch, limits.FIRST_FRAME_S + interval)
    expect(bool(leader), "no leader came")
    packet = s.device.bulk.max_packet if s.device else 1024
    for _ in range(parts):
        outcome, _ = s.receiver.read(memoryview(bytearray(packet)), limits.STALL_MIN_S)
        expect(outcome is Outcome.COMPLETED, f"a payload's packet ended {outcome.value}")
    _flushed(s)


@FLUSH.check("within_a_payload", "FLUSH in the middle of a payload: the rest of it never comes, good frames follow")
def _payload(s: Specimen) -> None:
    answer = s.started(s.small())
    packet = s.device.bulk.max_packet if s.device else 1024
    if answer.payload_bytes < 3 * packet:
        raise Skipped(f"a payload of {answer.payload_bytes} bytes has no middle")
    _cut(s, answer, 2)
    _good(s, _frames(s, answer, 2))
    s.stop()


@FLUSH.check("nobody_reads", "FLUSH while the host reads nothing: good frames follow")
def _nobody(s: Specimen) -> None:
    answer = s.started(s.small())
    _flushed(s)
    _good(s, _frames(s, answer, 2))
    s.stop()


@FLUSH.check("twice", "FLUSH twice at once: only the second epoch comes")
def _twice(s: Specimen) -> None:
    answer = s.started(s.small())
    _flushed(s)
    _flushed(s)
    _good(s, _frames(s, answer, 2))
    s.stop()


@FLUSH.check("often", f"{_OFTEN} FLUSHes in a row do no harm")
def _often(s: Specimen) -> None:
    answer = s.started(s.small())
    for _ in range(_OFTEN):
        _flushed(s)
    _good(s, _frames(s, answer, 1))
    s.stop()


@FLUSH.check("in_time", "the first frame behind FLUSH is there within three intervals, and 0.5 s", should=True)
def _in_time(s: Specimen) -> None:
    answer = s.started(s.small())
    _frames(s, answer, 1)
    _flushed(s)
    began = time.monotonic()
    _frames(s, answer, 1)
    took = time.monotonic() - began
    s.stop()
    most = 3 * answer.interval_numerator / answer.interval_denominator + limits.FLUSH_S
    expect(took <= most, f"it took {took:.2f} s of {most:.2f}")


@FLUSH.check("stop_within_a_payload", "STOP in the middle of a payload, and START anew: good frames")
def _stop(s: Specimen) -> None:
    answer = s.started(s.small())
    packet = s.device.bulk.max_packet if s.device else 1024
    if answer.payload_bytes < 3 * packet:
        raise Skipped(f"a payload of {answer.payload_bytes} bytes has no middle")
    _cut(s, answer, 0)
    s.receiver.hunt(s.epoch, limits.FIRST_FRAME_S)
    s.receiver.read(memoryview(bytearray(packet)), limits.STALL_MIN_S)
    s.put(Op.STOP)
    answer = s.started(s.small())
    _good(s, _frames(s, answer, 2))
    s.stop()
