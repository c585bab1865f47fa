# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks: what makes a received frame a good one, each failure with the cause under which it is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from maglens_driver.errors import BadModule
from maglens_driver.frame import Meta
from maglens_driver.link import wire
from maglens_driver.link.wire import Leader, Trailer, TrailerFlag

# After one of these the queued transfers no longer match what the module sends: cancel all, flush, queue again.
OUT_OF_STEP: Final = frozenset(
    ("leader_length", "payload_short", "payload_long", "trailer_length", "trailer_missing", "halted", "bus")
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What every leader of a stream must say. ``fixed``: each payload has exactly ``payload_bytes``, else at most."""

    fourcc: int
    width: int
    height: int
    stride: int
    payload_bytes: int
    fixed: bool


def check_leader(raw: memoryview, expected: Expected, epoch: int, last_id: int) -> Leader:
    """Causes ``leader_length|magic|version|crc|epoch|geometry|id``; ``last_id`` -1 before the first frame."""
    leader = wire.open_leader(raw)
    if leader.epoch != epoch:
        raise BadModule("leader_epoch", f"leader of epoch {leader.epoch}, {epoch} expected")
    geometry = (leader.fourcc, leader.width, leader.height, leader.stride)
    right_size = leader.payload_bytes == expected.payload_bytes or (
        not expected.fixed and 0 < leader.payload_bytes < expected.payload_bytes
    )
    if geometry != (expected.fourcc, expected.width, expected.height, expected.stride) or not right_size:
        raise BadModule("leader_geometry", f"leader of another picture than was configured: {leader}")
    if leader.frame_id <= last_id:
        raise BadModule("leader_id", f"frame {leader.frame_id} after frame {last_id}")
    return leader


def check_length(leader: Leader | None, expected: Expected, nbytes: int) -> None:
    """Causes ``payload_short|payload_long``. Where a leader was damaged, only a fixed length can be checked."""
    if expected.fixed:
        want = expected.payload_bytes
    elif leader is not None:
        want = leader.payload_bytes
    else:
        want = min(nbytes, expected.payload_bytes)
    if nbytes != want:
        cause = "payload_short" if nbytes < want else "payload_long"
        raise BadModule(cause, f"payload of {nbytes} bytes, {want} expected")


def check_trailer(raw: memoryview, leader: Leader | None, nbytes: int) -> Trailer:
    """Causes ``trailer_length|magic|version|crc|frame|missing``, ``payload_incomplete``."""
    if len(raw) >= Leader.SIZE and int.from_bytes(raw[:4], "little") == wire.LEADER_MAGIC:
        raise BadModule("trailer_missing", "a leader came where a trailer was due")
    trailer = wire.open_trailer(raw)
    if leader is not None and (trailer.epoch, trailer.frame_id) != (leader.epoch, leader.frame_id):
        raise BadModule("trailer_frame", f"trailer of frame {trailer.frame_id} behind leader of {leader.frame_id}")
    if trailer.payload_bytes != nbytes:
        raise BadModule("trailer_frame", f"trailer speaks of {trailer.payload_bytes} bytes, {nbytes} came")
    if trailer.flags & TrailerFlag.INCOMPLETE:
        raise BadModule("payload_incomplete", "the module could not read the whole picture out")
    return trailer


def check_payload(payload: memoryview, trailer: Trailer) -> None:
    """Cause ``payload_crc``. The crc32c package releases the GIL for anything larger than 32 KiB."""
    if crc32c(payload) != trailer.payload_crc32c:
        raise BadModule("payload_crc", "the payload fails its CRC")


def meta(leader: Leader) -> Meta:
    """What a leader says of the picture."""
    return Meta(
        exposure_us=leader.exposure_us,
        gain_milli=leader.gain_milli,
        fnumber_milli=leader.fnumber_milli,
        focus_cdpt=leader.focus_cdpt,
        focal_um=leader.focal_um,
        temperature_k=leader.temperature_k,
        focus_udpt=leader.focus_udpt,
    )
