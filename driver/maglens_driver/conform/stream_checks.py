# SPDX-License-Identifier: GPL-2.0-or-later
"""The stream: all but the last checks look at the same frames of one recording."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Final, TypeVar

from crc32c import crc32c

from maglens_driver.conform.check import Group, Skipped, expect
from maglens_driver.conform.recording import RawFrame, Recording
from maglens_driver.conform.specimen import Specimen
from maglens_driver.errors import BadModule
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import Leader, Trailer
from maglens_driver.mode import MJPG
from maglens_driver.usb import checks
from maglens_driver.usb.clock import MAX_DRIFT_PPM
from maglens_driver.usb.plan import SMALL_TRANSFER

T = TypeVar("T")

STREAM: Final = Group("stream")
_RATE_TOLERANCE: Final = 0.02
_JPEG_BEGINS, _JPEG_ENDS = b"\xff\xd8", b"\xff\xd9"
RATE_S: Final = 1.0
_FIRST: Final = 3
_FEW: Final = 3
_OFTEN: Final = 6


def _each(s: Specimen, what: str, read: Callable[[RawFrame], T | None]) -> Iterator[tuple[int, RawFrame, T]]:
    """What can be read of the recording's frames, with their numbers."""
    found = False
    for number, frame in enumerate(s.recording().frames):
        structure = read(frame)
        if structure is not None:
            found = True
            yield number, frame, structure
    if not found:
        raise Skipped(f"no {what} came that could be read")


def _leaders(s: Specimen) -> Iterator[tuple[int, RawFrame, Leader]]:
    return _each(s, "leader", RawFrame.opened)


def _trailers(s: Specimen) -> Iterator[tuple[int, RawFrame, Trailer]]:
    return _each(s, "trailer", RawFrame.closed)


def _crc_without_itself(raw: bytes) -> int:
    return crc32c(raw[:8] + bytes(4) + raw[12:])


@STREAM.check("frames_come", "after START frames come, and do not stop coming")
def _come(s: Specimen) -> None:
    troubles = [f.trouble for f in s.recording().frames if f.trouble and not f.halted]
    expect(not troubles, "; ".join(troubles))
    expect(bool(s.recording().frames), "none came")


@STREAM.check("not_halted", "the endpoint is not halted")
def _halted(s: Specimen) -> None:
    expect(not any(f.halted for f in s.recording().frames), "it was")


@STREAM.check("leader_length", f"every leader has {Leader.SIZE} to {limits.MAX_STRUCTURE_BYTES} bytes, as it says")
def _leader_length(s: Specimen) -> None:
    for number, frame in enumerate(s.recording().frames):
        if frame.halted or (frame.trouble and not frame.leader):
            continue
        have = len(frame.leader)
        expect(Leader.SIZE <= have <= limits.MAX_STRUCTURE_BYTES, f"that of frame {number} has {have} bytes")
        said = Leader.unpack(frame.leader).size
        expect(said == have, f"that of frame {number} says {said} bytes and has {have}")


@STREAM.check("leader_magic", "every leader begins with its magic")
def _leader_magic(s: Specimen) -> None:
    for number, _, leader in _leaders(s):
        expect(leader.magic == wire.LEADER_MAGIC, f"that of frame {number} begins with {leader.magic:#010x}")


@STREAM.check("leader_version", f"every leader is of protocol {limits.VERSION_MAJOR}")
def _leader_version(s: Specimen) -> None:
    for number, _, leader in _leaders(s):
        expect(leader.major == limits.VERSION_MAJOR, f"that of frame {number} is of protocol {leader.major}")


@STREAM.check("leader_crc", "every leader has the CRC-32C that it says")
def _leader_crc(s: Specimen) -> None:
    for number, frame, leader in _leaders(s):
        expect(leader.crc32c == _crc_without_itself(frame.leader), f"that of frame {number} has not")


@STREAM.check("leader_epoch", "every leader carries the epoch of START")
def _leader_epoch(s: Specimen) -> None:
    for number, _, leader in _leaders(s):
        expect(leader.epoch == s.recording().epoch, f"frame {number} is of epoch {leader.epoch}")


@STREAM.check("leader_geometry", "every leader tells of the format, size and stride that were configured")
def _geometry(s: Specimen) -> None:
    answer = s.recording().configured
    want = (answer.fourcc, answer.width, answer.height, answer.stride)
    for number, _, leader in _leaders(s):
        have = (leader.fourcc, leader.width, leader.height, leader.stride)
        expect(have == want, f"frame {number} has {have}, {want} was configured")


@STREAM.check("leader_payload_bytes", "every leader tells of the bytes that were configured")
def _payload_bytes(s: Specimen) -> None:
    answer = s.recording().configured
    for number, _, leader in _leaders(s):
        right = leader.payload_bytes == answer.payload_bytes
        if answer.fourcc == MJPG:
            right = 0 < leader.payload_bytes <= answer.payload_bytes
        expect(right, f"frame {number} says {leader.payload_bytes}, configured were {answer.payload_bytes}")


@STREAM.check("leader_flags", "flags of a leader are 0")
def _flags(s: Specimen) -> None:
    for number, _, leader in _leaders(s):
        expect(leader.flags == 0, f"those of frame {number} are {leader.flags}")


@STREAM.check("ids_from_zero", f"frame ids begin at 0: the first one sent is below {_FIRST}", should=True)
def _zero(s: Specimen) -> None:
    first = next(_leaders(s))[2].frame_id
    expect(first < _FIRST, f"the first one is {first}")


@STREAM.check("ids_rise", "frame ids rise")
def _rise(s: Specimen) -> None:
    ids = [leader.frame_id for _, _, leader in _leaders(s)]
    expect(all(a < b for a, b in itertools.pairwise(ids)), f"they are {ids}")


@STREAM.check("times_rise", "times rise with the ids")
def _times(s: Specimen) -> None:
    times = [leader.time_ns for _, _, leader in _leaders(s)]
    expect(all(a < b for a, b in itertools.pairwise(times)), "they do not")


def _to_host(r: Recording, module_ns: int) -> tuple[int, int]:
    """Host time of a module time, and how far that may be off, ns."""
    before, module, after = r.before
    slack = (after - before) + abs(module_ns - module) * MAX_DRIFT_PPM // 1_000_000
    return module_ns - module + (before + after) // 2, slack


@STREAM.check(
    "times_true", "a frame's exposure begins after START, less one exposure, and before its leader is there"
)
def _true(s: Specimen) -> None:
    r = s.recording()
    for number, frame, leader in _leaders(s):
        at, slack = _to_host(r, leader.time_ns)
        expect(
            at <= frame.came_ns + slack, f"frame {number} is from {(at - frame.came_ns) / 1e6:.1f} ms in the future"
        )
        earliest = r.started_ns - leader.exposure_us * 1000 - slack - 1_000_000_000
        expect(at >= earliest, f"frame {number} is from {(r.started_ns - at) / 1e6:.1f} ms before START")


@STREAM.check("rate", f"ids pass at the configured rate, within {_RATE_TOLERANCE:.0%}, over {RATE_S:g} s and more")
def _rate(s: Specimen) -> None:
    r = s.recording()
    leaders = [leader for _, _, leader in _leaders(s)]
    if leaders[-1].time_ns - leaders[0].time_ns < RATE_S * 1e9:  # too short for a clock that ticks every 10 ms
        r = s.record(s.small(), span_s=RATE_S)
        leaders = [leader for frame in r.frames if (leader := frame.opened()) is not None]
    if len(leaders) < _FEW:
        raise Skipped("too few frames came")
    wanted = r.configured.interval_numerator / r.configured.interval_denominator
    off = _drift(leaders, wanted)
    # one picture may begin late by a good part of an interval; over several that must average out
    slack = 0.5 / max(1, leaders[-1].frame_id - leaders[0].frame_id)
    told = f"one takes {(1 + off) * wanted * 1000:.2f} ms, {wanted * 1000:.2f} were configured"
    expect(abs(off) - slack <= _RATE_TOLERANCE, told)


def _drift(leaders: Sequence[Leader], interval: float) -> float:
    """By what part of it (s) ids take longer than ``interval``.

    Between the middles of the first and the last third, each where most of its pictures are: a picture that was late
    by itself says nothing of the rate, and one that took no id moves all behind it.
    """
    first, third = leaders[0], max(1, len(leaders) // 3)
    late = [(x.time_ns - first.time_ns) / 1e9 - (x.frame_id - first.frame_id) * interval for x in leaders]
    ids = [x.frame_id for x in leaders]
    passed = median(ids[-third:]) - median(ids[:third])
    if passed <= 0:
        raise Skipped("ids do not rise")
    return (median(late[-third:]) - median(late[:third])) / (passed * interval)


@STREAM.check("exposure_fits", "the exposure is shorter than the frame interval")
def _exposure(s: Specimen) -> None:
    r = s.recording()
    most = r.configured.interval_numerator / r.configured.interval_denominator * 1e6 + 1
    for number, _, leader in _leaders(s):
        expect(leader.exposure_us <= most, f"that of frame {number} is {leader.exposure_us} us")


@STREAM.check("gain_plausible", "the gain is told, between 0.1 and 1000", should=True)
def _gain(s: Specimen) -> None:
    for number, _, leader in _leaders(s):
        expect(100 <= leader.gain_milli <= 1_000_000, f"that of frame {number} is {leader.gain_milli} thousandths")


@STREAM.check("fnumber_fits", "the f-number is the lens's, or 0 for unknown")
def _fnumber(s: Specimen) -> None:
    low, high = s.descriptor.lens.fnumber_milli
    for number, _, leader in _leaders(s):
        fits = leader.fnumber_milli == 0 or low * 0.98 <= leader.fnumber_milli <= high * 1.02
        expect(fits, f"that of frame {number} is {leader.fnumber_milli}, the lens's {low} to {high}")


@STREAM.check("focal_fits", "the focal length is the lens's, or 0 for unknown")
def _focal(s: Specimen) -> None:
    low, high = s.descriptor.lens.focal_um
    for number, _, leader in _leaders(s):
        fits = leader.focal_um == 0 or low * 0.98 <= leader.focal_um <= high * 1.02
        expect(fits, f"that of frame {number} is {leader.focal_um} um, the lens's {low} to {high}")


@STREAM.check("focus_fits", "it does not focus nearer than the lens can")
def _focus(s: Specimen) -> None:
    nearest = 100_000 / max(1, s.descriptor.lens.near_mm)
    for number, _, leader in _leaders(s):
        expect(leader.focus_cdpt <= nearest * 1.02 + 1, f"frame {number} is at {leader.focus_cdpt / 100:g} dioptres")


@STREAM.check("payload_length", "every payload is as long as was configured, or for MJPG as its leader says")
def _length(s: Specimen) -> None:
    answer = s.recording().configured
    for number, frame in enumerate(s.recording().frames):
        leader = frame.opened()
        if frame.trouble and not frame.payload_bytes:
            continue
        want = answer.payload_bytes
        if answer.fourcc == MJPG and leader is not None:
            want = leader.payload_bytes
        expect(frame.payload_bytes == want, f"that of frame {number} has {frame.payload_bytes} bytes, not {want}")


@STREAM.check("jpeg", "a JPEG begins and ends as one")
def _jpeg(s: Specimen) -> None:
    if s.recording().configured.fourcc != MJPG:
        raise Skipped("the recording is not MJPG")
    for number, frame in enumerate(s.recording().frames):
        begins, ends = frame.head[:2] == _JPEG_BEGINS, frame.tail[-2:] == _JPEG_ENDS
        expect(begins and ends, f"frame {number} begins {frame.head.hex()} and ends {frame.tail.hex()}")


@STREAM.check("trailer_comes", "behind every payload comes its trailer, and nothing else")
def _comes(s: Specimen) -> None:
    for number, frame in enumerate(s.recording().frames):
        if not frame.trouble:
            expect(bool(frame.trailer), f"behind frame {number} came the next leader")
            expect(len(frame.trailer) < SMALL_TRANSFER, f"behind frame {number} came {len(frame.trailer)} bytes")


@STREAM.check("trailer_length", f"every trailer has {Trailer.SIZE} to {limits.MAX_STRUCTURE_BYTES} bytes, as it says")
def _trailer_length(s: Specimen) -> None:
    for number, frame, trailer in _trailers(s):
        expect(trailer.size == len(frame.trailer), f"that of frame {number} says {trailer.size} bytes")
    short = [n for n, f in enumerate(s.recording().frames) if 0 < len(f.trailer) < Trailer.SIZE]
    expect(not short, f"those of frames {short} are too short")


@STREAM.check("trailer_magic", "every trailer begins with its magic and is of the same protocol")
def _trailer_magic(s: Specimen) -> None:
    for number, _, trailer in _trailers(s):
        expect(trailer.magic == wire.TRAILER_MAGIC, f"that of frame {number} begins with {trailer.magic:#010x}")
        expect(trailer.major == limits.VERSION_MAJOR, f"that of frame {number} is of protocol {trailer.major}")


@STREAM.check("trailer_crc", "every trailer has the CRC-32C that it says")
def _trailer_crc(s: Specimen) -> None:
    for number, frame, trailer in _trailers(s):
        expect(trailer.crc32c == _crc_without_itself(frame.trailer), f"that of frame {number} has not")


@STREAM.check("trailer_frame", "every trailer is of the epoch and frame that its leader was of")
def _trailer_frame(s: Specimen) -> None:
    for number, frame, trailer in _trailers(s):
        leader = frame.opened()
        if leader is not None and leader.frame_id:  # an id of 0 may be a leader's that went wrong
            same = (trailer.epoch, trailer.frame_id) == (leader.epoch, leader.frame_id)
            expect(same, f"that of frame {number} is of {trailer.frame_id}, the leader of {leader.frame_id}")


@STREAM.check("trailer_bytes", "every trailer tells of the bytes that came")
def _trailer_bytes(s: Specimen) -> None:
    for number, frame, trailer in _trailers(s):
        said = trailer.payload_bytes
        expect(said == frame.payload_bytes, f"that of frame {number} says {said}, {frame.payload_bytes} came")


@STREAM.check("complete", "no trailer says INCOMPLETE")
def _complete(s: Specimen) -> None:
    for number, _, trailer in _trailers(s):
        expect(trailer.flags == 0, f"that of frame {number} has flags {trailer.flags}")


@STREAM.check("payload_crc", "every payload has the CRC-32C that its trailer says")
def _payload_crc(s: Specimen) -> None:
    for number, frame, trailer in _trailers(s):
        if frame.payload_bytes == trailer.payload_bytes:
            expect(frame.payload_crc == trailer.payload_crc32c, f"that of frame {number} has not")


@STREAM.check("quiet_after_stop", "once STOP is OK no byte of the stream is sent any more")
def _quiet(s: Specimen) -> None:
    late = s.recording().late
    expect(
        late <= SMALL_TRANSFER, f"{late} bytes came"
    )  # a controller's FIFO may hold a packet that cannot be recalled


def _sound(s: Specimen, index: int, frames: int) -> Recording:
    """A recording whose frames are all good by the service's own checks."""
    r = s.record(index, frames)
    a = r.configured
    expected = checks.Expected(a.fourcc, a.width, a.height, a.stride, a.payload_bytes, a.fourcc != MJPG)
    expect(len(r.frames) == frames, f"{len(r.frames)} of {frames} frames came")
    last = -1
    for number, frame in enumerate(r.frames):
        expect(not frame.trouble, f"frame {number}: {frame.trouble}")
        try:
            leader = checks.check_leader(memoryview(frame.leader), expected, r.epoch, last)
            checks.check_length(leader, expected, frame.payload_bytes)
            trailer = checks.check_trailer(memoryview(frame.trailer), leader, frame.payload_bytes)
        except BadModule as error:
            raise BadModule(error.cause, f"frame {number}: {error}") from error
        expect(trailer.payload_crc32c == frame.payload_crc, f"frame {number}: its payload fails its CRC")
        if a.fourcc == MJPG:
            jpeg = frame.head[:2] == _JPEG_BEGINS and frame.tail[-2:] == _JPEG_ENDS
            expect(jpeg, f"frame {number} begins {frame.head.hex()} and ends {frame.tail.hex()}")
        last = leader.frame_id
    return r


@STREAM.check("again", "a second START begins anew: ids from 0, the new epoch, good frames")
def _again(s: Specimen) -> None:
    r = _sound(s, s.small(), _FIRST)
    leader = r.frames[0].opened()
    assert leader is not None
    expect(leader.frame_id < 2 * _FIRST, f"its first id is {leader.frame_id}")


@STREAM.check("each_format", "the smallest mode of every format sends good frames")
def _formats(s: Specimen) -> None:
    modes = s.descriptor.modes
    for code in dict.fromkeys(modes[i].fourcc for i in s.playable()):
        _sound(s, min((i for i in s.playable() if modes[i].fourcc == code), key=lambda i: modes[i].nbytes), 2)


@STREAM.check("first_mode", "the mode that the maker prefers sends good frames")
def _preferred(s: Specimen) -> None:
    _sound(s, s.playable()[0], 2)


@STREAM.check("start_stop_often", f"START and STOP {_OFTEN} times in a row, and it still streams")
def _often(s: Specimen) -> None:
    for _ in range(_OFTEN):
        s.started(s.small())
        s.stop()
    _sound(s, s.small(), 1)
