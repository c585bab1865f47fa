# SPDX-License-Identifier: GPL-2.0-or-later
"""Job: one stream, from start to stop, and how its frames are judged. Lives in the stream engine's thread."""

from __future__ import annotations

import math
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from maglens_driver.errors import BadModule
from maglens_driver.frame import Frame
from maglens_driver.link import limits
from maglens_driver.link.wire import Leader
from maglens_driver.mode import Mode
from maglens_driver.source import FrameSink
from maglens_driver.usb import checks
from maglens_driver.usb.clock import FIRST_RESAMPLE_S, ModuleClock
from maglens_driver.usb.plan import Plan
from maglens_driver.usb.slots import Role, Slot, Step

MAX_JUMP: Final = limits.MAX_RATE_FPS  # frames of one jump of the ids that are counted: a second of the fastest mode


@dataclass(slots=True)
class Job:
    """One stream, from start to stop. ``counters`` are the source's.

    Where ids jump, those that are missing were *left out* by the module, for it had no time for them; but where the
    stream broke in between they were *lost* with it. What was damaged is counted by its cause, and not here again.
    """

    sink: FrameSink
    generation: int
    mode: Mode
    expected: checks.Expected
    plan: Plan
    epoch: int
    deadline: float
    fresh: bool  # the module has sent nothing since it was attached
    counters: Counter[str]
    last_id: int = -1  # of the last leader that could be read
    unread: int = 0  # frames since then whose leader could not
    mended: bool = False  # the stream has begun anew since then
    seq_base: int = 0  # frame ids restart at 0 with START; ours go on rising
    restarted: bool = False
    resample_at: float = math.inf  # from the first good frame on: a reading must not hold up START
    stopping: list[Future[None]] = field(default_factory=list)  # who waits for the end

    @property
    def stall_s(self) -> float:
        """Without a good frame for so long, the stream has stalled."""
        return max(limits.STALL_INTERVALS * float(self.mode.interval), limits.STALL_MIN_S)

    def progress(self) -> None:
        """The stream is well: a frame came whole."""
        now = time.monotonic()
        self.deadline = now + self.stall_s
        self.restarted = False
        if self.resample_at == math.inf:
            self.resample_at = now + FIRST_RESAMPLE_S

    def begin_anew(self, epoch: int) -> None:
        """The stream broke, and goes on under another epoch."""
        self.epoch, self.mended = epoch, True

    def restart(self) -> None:
        """The module is stopped and started: its ids begin again at 0."""
        now = time.monotonic()
        self.restarted = True
        self.deadline = now + limits.FIRST_FRAME_S + self.stall_s
        self.seq_base += self.last_id + 1
        self.last_id = -1

    def hunt(self, step: Step, nbytes: int, packet: int) -> None:
        """Look for the first leader of a stream that begins anew, behind what a FIFO may still have held: the end
        of what came, at a packet's edge. Raises ``BadModule`` where it is not there."""
        error = BadModule("leader_length", "nothing came")
        for start in range(0, max(nbytes, 1), packet):
            try:
                leader = checks.check_leader(
                    step.slot.leader_view[start:nbytes], self.expected, self.epoch, self.last_id
                )
            except BadModule as why:
                error = why
            else:
                self._follow(step.slot, leader)
                return
        raise error

    def _follow(self, slot: Slot, leader: Leader) -> None:
        missing = leader.frame_id - self.last_id - 1 - self.unread
        if missing > 0:
            self.counters["lost" if self.mended else "left_out"] += min(missing, MAX_JUMP)
        slot.leader, self.last_id = leader, leader.frame_id
        self.unread, self.mended = 0, False

    def receive(self, step: Step, nbytes: int) -> None:
        """Judge one transfer; raises ``BadModule`` with the cause."""
        slot = step.slot
        if step.role is Role.LEADER:
            try:
                leader = checks.check_leader(slot.leader_view[:nbytes], self.expected, self.epoch, self.last_id)
            except BadModule:
                self.unread += 1
                raise
            self._follow(slot, leader)
        elif step.role is Role.TRAILER:
            trailer = checks.check_trailer(slot.trailer_view[:nbytes], slot.leader, slot.received)
            if not slot.cause:
                checks.check_payload(_payload(slot), trailer)
        else:
            slot.received += nbytes
            if step.role is not Role.PART:
                checks.check_length(slot.leader, self.expected, slot.received)
            elif nbytes != step.length:
                raise BadModule("payload_short", f"payload of {slot.received} bytes ends early")
            if step.role is Role.TAIL and slot.lease is not None:
                slot.lease.view[slot.received - nbytes : slot.received] = slot.tail_view[:nbytes]

    def finish(self, slot: Slot, clock: ModuleClock) -> Frame | None:
        """The frame that has come whole, to be delivered with the slot's lease; or None, and the slot has a cause."""
        if slot.cause or slot.leader is None:
            return None
        if not self.plan.fixed:
            slot.lease = self.sink.lease(slot.received)
            if slot.lease is not None:
                slot.lease.view[: slot.received] = slot.whole_view[: slot.received]
        if slot.lease is None:
            slot.cause = "no_buffer"
            return None
        return Frame(
            slot.lease,
            slot.received,
            self.mode,
            self.seq_base + slot.leader.frame_id,
            clock.to_host(slot.leader.time_ns),
            self.generation,
            checks.meta(slot.leader),
        )


def _payload(slot: Slot) -> memoryview:
    """Where a payload lies: in the sink's buffer, or in ours while it is of varying length."""
    return (slot.lease.view if slot.lease is not None else slot.whole_view)[: slot.received]
