# SPDX-License-Identifier: MIT
"""Streamer: takes frames from a source and sends them as leader, payload and trailer, at the pace of the link."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Final

from crc32c import crc32c

from maglens_driver.frame import Frame
from maglens_driver.gadget.clock import ModuleClock
from maglens_driver.gadget.faults import Fault, Faults
from maglens_driver.gadget.functionfs import BULK_PACKET
from maglens_driver.gadget.pace import Pace
from maglens_driver.gadget.stay import Stay
from maglens_driver.gadget.writer import Interrupted, Writer
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import Leader, Trailer, TrailerFlag

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = (
    256 * 1024
)  # FunctionFS copies each write into one piece of kernel memory; a multiple of a packet
BUFFERS: Final = 2  # one on its way, one with the source or waiting: it makes no picture that cannot be sent
_SLACK: Final = BULK_PACKET * 16  # behind a buffer's picture, for faults that send more than they have
_NS: Final = 1_000_000_000
_HALT_AGAIN_NS: Final = 2_000_000  # nobody tells that the host has taken what lay in the controller
_GONE: Final = (errno.ESHUTDOWN, errno.ENODEV, errno.ECONNRESET)

ControlChanged = Callable[[int, int], None]


class _PoolLease:
    def __init__(self, pool: _Pool, buffer: bytearray) -> None:
        self._pool = pool
        self._buffer: bytearray | None = buffer
        self.view = memoryview(buffer)

    def release(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._pool.give_back(buffer)


class _Pool:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._free = [bytearray(nbytes + _SLACK) for _ in range(BUFFERS)]

    def lease(self) -> _PoolLease | None:
        try:
            return _PoolLease(self, self._free.pop())
        except IndexError:
            return None

    def give_back(self, buffer: bytearray) -> None:
        self._free.append(buffer)


class Streamer:
    """A FrameSink that sends. :meth:`run` is the body of its thread; the other calls come from any thread.

    ``link_mbit_s`` is what the link carries of payload, ``packet`` the bytes of its largest packet; both may change
    between streams.
    """

    def __init__(
        self, writer: Writer, clock: ModuleClock, faults: Faults, stay: Stay, halt: Callable[[], bool]
    ) -> None:
        self.link_mbit_s = 1
        self.packet = BULK_PACKET
        self._writer = writer
        self._clock = clock
        self._faults = faults
        self._stay = stay
        self._halt = halt
        self._changed = threading.Condition()
        self._pool = _Pool(0)
        self._waiting: Frame | None = None
        self._epoch = 0
        self._first_seq: int | None = None
        self._on = False
        self._busy = False
        self._ended = False
        self._keep: Future[int] | None = None  # the next frame's rest; gets the frame's number
        self.on_control: ControlChanged = lambda _control, _value: None
        self.on_lost: Callable[[Exception], None] = lambda _why: None

    # The sink that the source sees ----------------------------------------------------------------------------

    def lease(self, nbytes: int) -> _PoolLease | None:
        """A buffer, unless all are on their way."""
        with self._changed:
            if nbytes > self._pool.nbytes:
                self._pool = _Pool(nbytes)
            return self._pool.lease()

    def deliver(self, frame: Frame) -> None:
        """Newest wins: a frame still waiting is displaced."""
        with self._changed:
            if not self._on:  # the source has not heard of the stop yet
                old: Frame | None = frame
            else:
                old, self._waiting = self._waiting, frame
                self._stay.frames_displaced += old is not None
                self._changed.notify_all()
        if old is not None:
            old.lease.release()

    def control(self, _generation: int, control: int, value: int) -> None:
        """A hand on the ring."""
        self.on_control(control, value)

    def active(self, _generation: int, _control: int, _active: bool) -> None:
        """The protocol has no word for it: a descriptor holds for a whole stay."""

    def dropped(self, _generation: int, cause: str) -> None:
        """The source had no buffer, or came late: the frame's number shows as a gap to the host."""
        self._stay.skipped(cause)

    def lost(self, _generation: int, why: Exception) -> None:
        """The source behind this module has ended."""
        self.on_lost(why)

    # What the requests do -------------------------------------------------------------------------------------

    def start(self, epoch: int) -> None:
        """Send what is delivered from now on."""
        with self._changed:
            self._epoch, self._first_seq, self._on = epoch, None, True
            self._writer.resume()
            self._changed.notify_all()

    def stop(self) -> None:
        """Send nothing more: when this returns, no byte is on its way."""
        self._quiet(on=False)

    def flush(self, epoch: int) -> None:
        """Cut off what is on its way, drop what waits, go on under ``epoch``."""
        self._quiet(on=True)
        with self._changed:
            self._epoch = epoch
            self._on = True
            self._writer.resume()
            self._changed.notify_all()

    def _quiet(self, *, on: bool) -> None:
        with self._changed:
            self._on = False
            self._changed.notify_all()
        self._faults.wake()
        self._writer.interrupt()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._busy, limits.REPLY_S):
                raise TimeoutError("the streaming thread did not let go of its frame")
            old, self._waiting = self._waiting, None
            if not on:
                self._first_seq = None
        if old is not None:
            old.lease.release()

    def keep_rest(self, timeout_s: float) -> int:
        """Send only the first piece of the next frame's payload, and return once that is out: the frame's number.

        The rest stays back until the frame is cut off. ``TimeoutError`` where no frame comes; none is kept then.
        """
        with self._changed:
            kept = self._keep = Future()
        wait((kept,), timeout_s)
        with self._changed:
            self._keep = None
            return kept.result(0)

    def end(self) -> None:
        """Let :meth:`run` return."""
        self._quiet(on=False)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    # The thread -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Send frames until :meth:`end`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or (self._on and self._waiting is not None))
                if self._ended:
                    return
                frame, self._waiting = self._waiting, None
                assert frame is not None
                self._busy = True
                epoch = self._epoch
                if self._first_seq is None:
                    self._first_seq = frame.seq
                frame_id = frame.seq - self._first_seq
            try:
                self._send(frame, epoch, frame_id)
            except Interrupted:
                self._stay.frames_cut += 1
            except OSError as error:
                if error.errno not in _GONE:
                    log.warning("the endpoint refused a frame: %s", error)
                self._stay.frames_cut += 1
                with self._changed:
                    self._on = False  # until the host starts anew
            finally:
                frame.lease.release()
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _pause(self, until_ns: int) -> None:
        """Wait, unless the stream is switched off meanwhile."""
        with self._changed:
            left = until_ns - time.monotonic_ns()
            if left > 0:
                self._changed.wait_for(lambda: not self._on or self._ended, left / _NS)
            if not self._on:
                raise Interrupted

    def _held(self) -> bool:
        """Wait out a stall or a hang. Whether there was one: the frame is then an old one, and not worth sending."""
        held = False
        for fault in (Fault.STALL, Fault.HANG):
            if self._faults.has(fault):
                held = True
                if not self._faults.wait_cleared(fault, lambda: not self._on):
                    raise Interrupted
        return held

    def _send(self, frame: Frame, epoch: int, frame_id: int) -> None:
        if self._held():
            self._stay.frames_cut += 1
            return
        if self._faults.take(Fault.HALT) is not None:
            self._stay.frames_damaged += 1
            while not self._halt():
                self._pause(time.monotonic_ns() + _HALT_AGAIN_NS)
            return
        began_ns = time.monotonic_ns()
        leader, bad_leader = self._leader(frame, epoch, frame_id)
        self._writer.write(memoryview(leader))
        payload = frame.lease.view[: frame.nbytes]
        crc = crc32c(payload)
        nbytes, bad_payload = self._damage_payload(frame)
        self._write_payload(frame.lease.view[:nbytes], frame.seq)
        bad_trailer = self._write_trailer(Trailer(
            wire.TRAILER_MAGIC, Trailer.SIZE, limits.VERSION_MAJOR, TrailerFlag.NONE, 0, epoch, frame_id,
            frame.nbytes, crc,
        ))  # fmt: skip
        if bad_leader or bad_payload or bad_trailer:
            self._stay.frames_damaged += 1
            return
        now_ns = time.monotonic_ns()
        if not self._stay.first_frame_ns:
            self._stay.first_frame_ns = began_ns
        self._stay.sent(frame.seq, now_ns)

    def _leader(self, frame: Frame, epoch: int, frame_id: int) -> tuple[bytearray, bool]:
        take = self._faults.take
        mode, meta = frame.mode, frame.meta
        leader = Leader(
            wire.LEADER_MAGIC,
            Leader.SIZE,
            limits.VERSION_MAJOR,
            0,
            0,
            epoch,
            frame_id,
            self._clock.at(frame.exposure_ns),
            mode.fourcc,
            mode.width,
            mode.height,
            mode.stride,
            frame.nbytes,
            meta.exposure_us,
            meta.gain_milli,
            meta.fnumber_milli,
            meta.focus_cdpt,
            meta.focal_um,
            meta.temperature_k,
            meta.focus_udpt,
        )
        good = leader
        if take(Fault.LEADER_MAGIC) is not None:
            leader = replace(leader, magic=leader.magic ^ 0xFFFF)
        if take(Fault.LEADER_EPOCH) is not None:
            leader = replace(leader, epoch=(epoch + 7) & 0xFFFFFFFF)
        if take(Fault.LEADER_GEOMETRY) is not None:
            leader = replace(leader, width=mode.width + 2)
        if (more := take(Fault.LEADER_LENGTH, 4096)) is not None:
            leader = replace(leader, payload_bytes=frame.nbytes + more)
        if (back := take(Fault.ID_BACK, 5)) is not None:
            leader = replace(leader, frame_id=max(0, frame_id - back))
        raw = bytearray(wire.seal(leader))
        bad = leader != good
        if take(Fault.LEADER_CRC) is not None:
            raw[-1] ^= 0xFF
            bad = True
        if take(Fault.LEADER_SHORT) is not None:
            del raw[12:]
            bad = True
        return raw, bad

    def _damage_payload(self, frame: Frame) -> tuple[int, bool]:
        """Length to send in place of the frame's own, and whether anything is wrong with it."""
        take = self._faults.take
        nbytes = frame.nbytes
        if (less := take(Fault.PAYLOAD_SHORT, 10_000)) is not None:
            nbytes = max(0, nbytes - less)
        if (more := take(Fault.PAYLOAD_LONG, 10_000)) is not None:
            nbytes += min(more, _SLACK)
        changed = take(Fault.PAYLOAD_CRC) is not None
        if changed:
            frame.lease.view[frame.nbytes // 2] ^= 0xFF
        return nbytes, changed or nbytes != frame.nbytes

    def _keep_back(self, number: int) -> None:
        """Where that was asked for: no more of this frame, until it is cut off."""
        with self._changed:
            if self._keep is not None and not self._keep.done():
                self._keep.set_result(number)
                self._changed.wait_for(lambda: not self._on or self._ended)

    def _write_payload(self, payload: memoryview, number: int) -> None:
        """In pieces, each when the link is free for it; a zero-length packet where no short one ends the transfer."""
        pace = Pace(self.link_mbit_s)
        for start in range(0, len(payload), CHUNK_BYTES):
            piece = payload[start : start + CHUNK_BYTES]
            free_ns = pace.send(len(piece), time.monotonic_ns())
            self._writer.write(piece)
            if start == 0:
                self._keep_back(number)
            self._pause(free_ns)
        if len(payload) % self.packet == 0:
            self._writer.write(payload[:0])

    def _write_trailer(self, trailer: Trailer) -> bool:
        """Whether it was damaged or left out."""
        take = self._faults.take
        if take(Fault.TRAILER_MISSING) is not None:
            return True
        incomplete = take(Fault.TRAILER_INCOMPLETE) is not None
        if incomplete:
            trailer = replace(trailer, flags=TrailerFlag.INCOMPLETE)
        raw = bytearray(wire.seal(trailer))
        broken = take(Fault.TRAILER_CRC) is not None
        if broken:
            raw[-1] ^= 0xFF
        self._writer.write(memoryview(raw))
        return incomplete or broken
