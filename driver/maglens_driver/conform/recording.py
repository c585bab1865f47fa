# SPDX-License-Identifier: GPL-2.0-or-later
"""Recording: what came over the endpoint during one stream, before anybody has judged it."""

from __future__ import annotations

from dataclasses import dataclass

from maglens_driver.link import wire
from maglens_driver.link.message import Buffer


@dataclass(frozen=True, slots=True)
class RawFrame:
    """Three transfers. ``payload_bytes`` and ``payload_crc`` are of what came; ``head`` and ``tail`` its ends.

    ``trouble``: what ended the frame early, in words; the transfers not reached are empty. ``came_ns`` is the host's
    CLOCK_MONOTONIC when the leader was there.
    """

    leader: bytes
    payload_bytes: int = 0
    payload_crc: int = 0
    head: bytes = b""
    tail: bytes = b""
    trailer: bytes = b""
    trouble: str = ""
    halted: bool = False
    came_ns: int = 0

    def opened(self) -> wire.Leader | None:
        """The leader's fields, where it is long enough to have them; neither magic nor CRC are looked at."""
        return wire.Leader.unpack(self.leader) if len(self.leader) >= wire.Leader.SIZE else None

    def closed(self) -> wire.Trailer | None:
        """The trailer's, likewise."""
        return wire.Trailer.unpack(self.trailer) if len(self.trailer) >= wire.Trailer.SIZE else None


@dataclass(frozen=True, slots=True)
class Recording:
    """``before``, ``after``: clock samples (host ns, module ns, host ns). ``late``: bytes that came after STOP."""

    configured: wire.Configured
    epoch: int
    started_ns: int
    frames: tuple[RawFrame, ...]
    before: tuple[int, int, int]
    after: tuple[int, int, int]
    late: int


def is_leader(raw: Buffer) -> bool:
    """Whether a transfer is meant as a leader."""
    return len(raw) >= wire.Leader.SIZE and int.from_bytes(raw[:4], "little") == wire.LEADER_MAGIC
