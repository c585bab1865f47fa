# SPDX-License-Identifier: GPL-2.0-or-later
"""Slots: the transfers of the frames in flight, made once per stream, used in a ring; no allocation per frame."""

from __future__ import annotations

import enum
import mmap
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from maglens_driver.frame import Lease
from maglens_driver.link.wire import Leader
from maglens_driver.source import FrameSink
from maglens_driver.usb.plan import SMALL_TRANSFER, Plan
from maglens_driver.usb.transport import Done, NoTransferMemory, Outcome, StreamPipe, Transfer


class Role(enum.Enum):
    """What a transfer receives; fixed for its life."""

    LEADER = "leader"
    PART = "part"  # whole packets of a fixed payload, straight into the sink's buffer
    TAIL = "tail"  # what is left of it, less than a packet
    WHOLE = "whole"  # a payload of varying length
    TRAILER = "trailer"


def untouched(nbytes: int) -> memoryview:
    """Memory whose pages exist once they are written to: a ``bytearray`` is cleared at once, which takes longer than
    all the rest of a start."""
    return memoryview(mmap.mmap(-1, nbytes)) if nbytes else memoryview(bytearray())


@dataclass(slots=True)
class Slot:
    """One frame being received. ``whole_view`` only where payloads vary in length.

    ``cause`` is why it will be dropped, empty while it is good. ``provided``: the payload's memory was seen to; with
    ``lease`` None there was no buffer, and it goes into scratch memory. ``busy`` from the leader's submission to the
    end.
    """

    leader_view: memoryview
    tail_view: memoryview
    trailer_view: memoryview
    whole_view: memoryview
    views: list[memoryview]
    lease: Lease | None = None
    leader: Leader | None = None
    cause: str = ""
    received: int = 0
    provided: bool = False
    busy: bool = False

    def clear(self) -> None:
        """Forget the frame; gives the lease back if it was not passed on."""
        if self.lease is not None:
            self.lease.release()
        self.lease, self.leader, self.cause, self.received = None, None, "", 0
        self.provided = self.busy = False
        self.views.clear()


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
    """All steps in the order of the wire: ``head`` completes next, ``tail`` is submitted next.

    While ``hunting`` only the first leader's transfer is queued: a module that was flushed or stopped may still have
    something in its controller's FIFO, and what that fills must not be a payload's.
    """

    plan: Plan
    steps: list[Step] = field(default_factory=list)
    completions: deque[tuple[int, Outcome, int]] = field(default_factory=deque)
    scratch: memoryview = field(default_factory=lambda: memoryview(b""))
    head: int = 0
    tail: int = 0
    queued: int = 0
    queued_bytes: int = 0
    queue_limit: int = 0
    hunting: bool = False

    @classmethod
    def make(cls, pipe: StreamPipe, endpoint: int, plan: Plan) -> Ring:
        """Transfers and small buffers for ``plan``."""
        roles = [(Role.LEADER, 0, SMALL_TRANSFER)]
        if plan.fixed:
            roles += [(Role.PART, i, n) for i, n in enumerate(plan.parts)] + [(Role.TAIL, 0, SMALL_TRANSFER)]
        else:
            roles.append((Role.WHOLE, 0, plan.parts[0]))
        roles.append((Role.TRAILER, 0, SMALL_TRANSFER))
        ring = cls(plan, scratch=untouched(sum(plan.parts)), queue_limit=plan.queue_bytes)
        for _ in range(plan.frames):
            leader, tail, trailer = (memoryview(bytearray(SMALL_TRANSFER)) for _ in range(3))
            whole = memoryview(b"") if plan.fixed else untouched(plan.parts[0])
            slot = Slot(leader, tail, trailer, whole, [])
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
            if (step.role is Role.LEADER and step.slot.busy) or (self.hunting and self.queued):
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
        if step.role is Role.WHOLE:
            return slot.whole_view
        if not slot.provided:
            self._provide(slot, sink)
        return slot.tail_view if step.role is Role.TAIL else slot.views[step.part]

    def _provide(self, slot: Slot, sink: FrameSink) -> None:
        """Memory for a fixed payload: the sink's, else scratch, and the frame is lost for want of a buffer."""
        slot.provided = True
        slot.lease = sink.lease(self.plan.payload_bytes)
        if slot.lease is None:
            slot.cause = slot.cause or "no_buffer"
        whole = self.scratch if slot.lease is None else slot.lease.view
        start = 0
        for length in self.plan.parts:
            slot.views.append(whole[start : start + length])
            start += length

    def complete(self, index: int) -> Step:
        """Take a completion off the books."""
        step = self.steps[index]
        self.queued -= 1
        self.queued_bytes -= step.length
        return step

    def again(self, step: Step) -> None:
        """Use the step that has just completed once more. Only with nothing queued."""
        step.slot.clear()
        self.head = self.tail = self.steps.index(step)

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
