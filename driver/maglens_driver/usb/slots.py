# SPDX-License-Identifier: GPL-2.0-or-later
"""Slots: the transfers of the frames in flight, made once per stream, used in a ring; no allocation per frame."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from maglens_driver.frame import Lease
from maglens_driver.link.wire import Leader
from maglens_driver.source import FrameSink
from maglens_driver.usb.plan import STRUCTURE_TRANSFER, Plan
from maglens_driver.usb.transport import Done, NoTransferMemory, Outcome, StreamPipe, Transfer


class Role(enum.Enum):
    """What a transfer receives; fixed for its life."""

    LEADER = "leader"
    PART = "part"  # of the payload; more follow
    LAST_PART = "last part"
    TRAILER = "trailer"


@dataclass(slots=True)
class Slot:
    """One frame being received. ``lease`` None with a view: there was no buffer, and it goes into scratch memory.

    ``cause`` is why it will be dropped, empty while it is good. ``busy`` from the leader's submission to the end.
    """

    leader_view: memoryview
    trailer_view: memoryview
    views: list[memoryview | None]
    lease: Lease | None = None
    leader: Leader | None = None
    cause: str = ""
    received: int = 0
    busy: bool = False

    def clear(self) -> None:
        """Forget the frame; gives the lease back if it was not passed on."""
        if self.lease is not None:
            self.lease.release()
        self.lease, self.leader, self.cause, self.received, self.busy = None, None, "", 0, False
        for i in range(len(self.views)):
            self.views[i] = None


@dataclass(slots=True)
class Step:
    """One transfer of the ring: slot, role, length; ``part`` counts the payload's transfers."""

    slot: Slot
    role: Role
    part: int
    length: int
    transfer: Transfer


@dataclass(slots=True)
class Ring:
    """All steps in the order of the wire: ``head`` completes next, ``tail`` is submitted next."""

    plan: Plan
    steps: list[Step] = field(default_factory=list)
    completions: deque[tuple[int, Outcome, int]] = field(default_factory=deque)
    scratch: bytearray = field(default_factory=bytearray)
    head: int = 0
    tail: int = 0
    queued: int = 0
    queued_bytes: int = 0
    queue_limit: int = 0

    @classmethod
    def make(cls, pipe: StreamPipe, endpoint: int, plan: Plan) -> Ring:
        """Transfers and structure buffers for ``plan``."""
        ring = cls(plan, scratch=bytearray(plan.payload_bytes), queue_limit=plan.queue_bytes)
        for _ in range(plan.frames):
            slot = Slot(
                memoryview(bytearray(STRUCTURE_TRANSFER)),
                memoryview(bytearray(STRUCTURE_TRANSFER)),
                [None] * len(plan.parts),
            )
            last = len(plan.parts) - 1
            roles = [(Role.LEADER, 0, STRUCTURE_TRANSFER)]
            roles += [(Role.LAST_PART if i == last else Role.PART, i, n) for i, n in enumerate(plan.parts)]
            roles.append((Role.TRAILER, 0, STRUCTURE_TRANSFER))
            for role, part, length in roles:
                index = len(ring.steps)
                transfer = pipe.transfer(endpoint, ring._done(index))
                ring.steps.append(Step(slot, role, part, length, transfer))
        return ring

    def _done(self, index: int) -> Done:
        """Only notes what happened: an exception in a callback from C would be lost."""
        completions = self.completions
        return lambda outcome, nbytes: completions.append((index, outcome, nbytes))

    def slots(self) -> Iterator[Slot]:
        """Each slot once."""
        return (s.slot for s in self.steps if s.role is Role.LEADER)

    def fill(self, sink: FrameSink) -> None:
        """Submit what fits. Raises ``Gone``; ``NoTransferMemory`` only where nothing at all could be queued."""
        while self.queued < len(self.steps):
            step = self.steps[self.tail]
            if self.queued and self.queued_bytes + step.length > self.queue_limit:
                return
            if step.role is Role.LEADER and step.slot.busy:
                return
            try:
                step.transfer.submit(self._view(step, sink))
            except NoTransferMemory:
                if self.queued == 0:
                    raise
                self.queue_limit = self.queued_bytes  # others use the rest; go on with what was given
                return
            step.slot.busy = True
            self.queued += 1
            self.queued_bytes += step.length
            self.tail = (self.tail + 1) % len(self.steps)

    def _view(self, step: Step, sink: FrameSink) -> memoryview:
        slot = step.slot
        if step.role is Role.LEADER:
            return slot.leader_view
        if step.role is Role.TRAILER:
            return slot.trailer_view
        view = slot.views[step.part]
        if view is None:
            self._provide(slot, sink)
            view = slot.views[step.part]
            assert view is not None
        return view

    def _provide(self, slot: Slot, sink: FrameSink) -> None:
        """Memory for a payload: the sink's, else scratch, and the frame is lost for want of a buffer."""
        slot.lease = sink.lease(self.plan.payload_bytes)
        if slot.lease is None:
            slot.cause = slot.cause or "no_buffer"
        whole = memoryview(self.scratch) if slot.lease is None else slot.lease.view
        start = 0
        for i, length in enumerate(self.plan.parts):
            slot.views[i] = whole[start : start + length]
            start += length

    def complete(self, index: int) -> Step:
        """Take a completion off the books."""
        step = self.steps[index]
        self.queued -= 1
        self.queued_bytes -= step.length
        return step

    def cancel(self) -> None:
        """Ask for everything back, newest first, so that no later transfer starts to receive."""
        order = [(self.head + i) % len(self.steps) for i in range(len(self.steps))]
        for index in reversed(order):
            self.steps[index].transfer.cancel()

    def close(self) -> None:
        """Free the transfers. Only with nothing queued."""
        for step in self.steps:
            step.transfer.close()

    def reset(self) -> None:
        """Back to the first leader, with no lease held. Only with nothing queued."""
        for step in self.steps:
            step.transfer.forget()
        for slot in self.slots():
            slot.clear()
        self.completions.clear()
        self.head = self.tail = 0
