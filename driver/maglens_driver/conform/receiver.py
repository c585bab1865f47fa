# SPDX-License-Identifier: GPL-2.0-or-later
"""Receiver: one transfer at a time on the bulk endpoint, and what comes on the interrupt endpoint meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from crc32c import crc32c

from maglens_driver.conform.recording import RawFrame, is_leader
from maglens_driver.link import limits, wire
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.plan import PART_BYTES, SMALL_TRANSFER
from maglens_driver.usb.transport import Outcome, StreamPipe, Transfer

SLACK_BYTES: Final = 64 * 1024  # beyond a payload's length: so much too long is still measured
LEFTOVER_TRANSFERS: Final = 4  # a controller's FIFO holds a few packets at most
_QUIET_INTERVALS: Final = 3
_EVENT_ROOM: Final = 1024
MAX_EVENTS: Final = 10_000  # kept of a run; a module that sends more is not listened to any further
_ENDS: Final = 4  # bytes kept of a payload's beginning and end


class Receiver:
    """All in one thread. ``events``: packets of the interrupt endpoint with the host's time in ns, oldest first."""

    def __init__(self, pipe: StreamPipe, device: UsbDevice) -> None:
        self._pipe = pipe
        self._device = device
        self._done: list[tuple[Outcome, int]] = []
        self._bulk = pipe.transfer(device.bulk.address, lambda outcome, nbytes: self._done.append((outcome, nbytes)))
        self._interrupt = pipe.interrupt_transfer(device.interrupt.address, self._event)
        self._event_buffer = bytearray(_EVENT_ROOM)
        self._listening = self._closing = False
        self._small = bytearray(SMALL_TRANSFER)
        self._buffer = bytearray()
        self.events: list[tuple[int, bytes]] = []
        self.listen()

    def listen(self) -> None:
        """Queue the interrupt transfer."""
        if not self._listening:
            self._interrupt.submit(memoryview(self._event_buffer))
            self._listening = True

    def _event(self, outcome: Outcome, nbytes: int) -> None:
        self._listening = False
        if outcome is Outcome.COMPLETED and not self._closing:
            self.events.append((time.monotonic_ns(), bytes(self._event_buffer[:nbytes])))
            if len(self.events) < MAX_EVENTS:
                self.listen()

    def wait_events(self, seconds: float, enough: int = 0) -> list[bytes]:
        """Events of the next ``seconds``, or until ``enough`` of them have come."""
        first, until = len(self.events), time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not 0 < enough <= len(self.events) - first:
            self._pipe.run(left)
        return [raw for _, raw in self.events[first:]]

    def hear(self, wanted: Callable[[bytes], bool], first: int, seconds: float) -> bool:
        """Wait until one of the events is ``wanted``, of those from number ``first`` on; whether one was."""
        until = time.monotonic() + seconds
        while True:
            heard, first = self.events[first:], len(self.events)
            if any(wanted(raw) for _, raw in heard):
                return True
            if (left := until - time.monotonic()) <= 0:
                return False
            self._pipe.run(left)

    def read(self, view: memoryview, seconds: float) -> tuple[Outcome, int]:
        """One transfer. CANCELLED: nothing, or not all of it, came in time."""
        self._done.clear()
        self._bulk.submit(view)
        until = time.monotonic() + seconds
        while not self._done and (left := until - time.monotonic()) > 0:
            self._pipe.run(left)
        if not self._done:
            self._reclaim(self._bulk)
        return self._done[0]

    def _reclaim(self, transfer: Transfer) -> None:
        transfer.cancel()
        until = time.monotonic() + 10 * limits.FLUSH_S
        while not self._done:
            if (left := until - time.monotonic()) <= 0:
                raise RuntimeError("the kernel did not give a cancelled transfer back")
            self._pipe.run(left)

    def small(self, seconds: float) -> tuple[Outcome, bytes]:
        """A transfer with room for a leader or trailer."""
        outcome, nbytes = self.read(memoryview(self._small), seconds)
        return outcome, bytes(self._small[:nbytes])

    def frames(
        self, answer: wire.Configured, epoch: int, count: int, *, fresh: bool, span_s: float = 0.0
    ) -> list[RawFrame]:
        """The next ``count`` frames, good or bad, and all that come within ``span_s`` of the first.

        Fewer when nothing more comes.
        """
        interval = answer.interval_numerator / max(1, answer.interval_denominator)
        seconds = limits.FIRST_FRAME_S + interval
        made: list[RawFrame] = []
        leader = b"" if fresh else self.hunt(epoch, seconds)
        over = 0.0
        while len(made) < count or time.monotonic() < over:
            frame, leader = self.frame(answer, leader, seconds)
            if not made:
                over = time.monotonic() + span_s
            made.append(frame)
            if frame.trouble and not frame.halted:
                break
            seconds = max(limits.STALL_MIN_S, limits.STALL_INTERVALS * interval)
        return made

    def hunt(self, epoch: int, seconds: float) -> bytes:
        """Throw leftovers of an earlier stream away until a transfer ends with a leader of ``epoch``: that leader.

        Else the last transfer that came, for the checks to say what is wrong with it; empty when none came.
        """
        raw = b""
        for _ in range(LEFTOVER_TRANSFERS):
            outcome, raw = self.small(seconds)
            if outcome is not Outcome.COMPLETED:
                return b""
            for at in range(0, len(raw), self._device.bulk.max_packet):
                tail = raw[at:]
                if is_leader(tail) and wire.Leader.unpack(tail).epoch == epoch:
                    return tail
        return raw

    def frame(self, answer: wire.Configured, leader: bytes, seconds: float) -> tuple[RawFrame, bytes]:
        """One frame, and the next one's leader where that came in the trailer's place."""
        if not leader:
            outcome, leader = self.small(seconds)
            if outcome is Outcome.HALTED:
                self._pipe.clear_halt(self._device.bulk.address)
                return RawFrame(b"", trouble="the endpoint was halted", halted=True), b""
            if outcome is not Outcome.COMPLETED:
                return RawFrame(leader, trouble=f"no leader came within {seconds:.1f} s"), b""
        came_ns = time.monotonic_ns()
        nbytes, whole = self._payload(answer.payload_bytes, seconds)
        payload = memoryview(self._buffer)[:nbytes]
        frame = RawFrame(
            leader, nbytes, crc32c(payload), bytes(payload[:_ENDS]), bytes(payload[-_ENDS:]), came_ns=came_ns
        )
        if not whole:
            return replace(frame, trouble=f"the payload did not end within {seconds:.1f} s"), b""
        outcome, trailer = self.small(seconds)
        if outcome is not Outcome.COMPLETED:
            return replace(frame, trouble=f"no trailer came within {seconds:.1f} s"), b""
        if is_leader(trailer):
            return frame, trailer
        return replace(frame, trailer=trailer), b""

    def _payload(self, expected: int, seconds: float) -> tuple[int, bool]:
        """Transfers until one ends with a short packet: bytes, and whether that came."""
        packet = self._device.bulk.max_packet
        room = (expected + SLACK_BYTES) // packet * packet + packet
        if len(self._buffer) < room:
            self._buffer = bytearray(room)
        view, filled = memoryview(self._buffer), 0
        while filled < room:
            part = min(PART_BYTES // packet * packet, room - filled)
            outcome, nbytes = self.read(view[filled : filled + part], seconds)
            filled += nbytes
            if outcome is not Outcome.COMPLETED:
                return filled, False
            if nbytes < part:
                return filled, True
        return filled, False

    def leftover(self, answer: wire.Configured) -> int:
        """Bytes that come although the stream was stopped: within three frame intervals."""
        interval = answer.interval_numerator / max(1, answer.interval_denominator)
        late, until = 0, time.monotonic() + _QUIET_INTERVALS * interval
        while (left := until - time.monotonic()) > 0:
            late += len(self.small(left)[1])
        return late

    def close(self) -> None:
        """Take both transfers back, and release the interface."""
        self._closing = True
        if self._listening:
            self._interrupt.cancel()
            until = time.monotonic() + 10 * limits.FLUSH_S
            while self._listening and (left := until - time.monotonic()) > 0:
                self._pipe.run(left)
        self._bulk.close()
        self._interrupt.close()
        self._pipe.close()
