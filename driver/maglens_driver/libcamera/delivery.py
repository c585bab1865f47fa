# SPDX-License-Identifier: GPL-2.0-or-later
"""Delivery: from one child's frames to the sink, and the leases back. Belongs to that child, and ends with it."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from maglens_driver.errors import BadModule, Deadline, Gone, Interrupted, MaglensError
from maglens_driver.frame import Frame, Lease, Meta
from maglens_driver.libcamera import control_map
from maglens_driver.libcamera.buffers import CameraLease, MappedBuffer
from maglens_driver.libcamera.limits import Limits
from maglens_driver.libcamera.packet import MAX_BUFFERS, BufferBody, FrameBody, GiveBackBody, Kind, Packet
from maglens_driver.libcamera.process import ChildProcess
from maglens_driver.mode import MJPG, Mode
from maglens_driver.source import FrameSink

STAMP_WINDOW_NS: Final = 10_000_000_000
"""A time stamp further than this from now is not believed."""

PUSH_INTERVAL_NS: Final = 100_000_000
"""Values that the camera's automatics move are told at most this often, per control."""


class Delivery:
    """Implements :class:`maglens_driver.libcamera.process.Listener`; ``child`` is set right after both are made.

    ``values`` are the source's present control values; this updates those that the automatics move.
    """

    def __init__(self, limits: Limits, counters: Counter[str], values: dict[int, int]) -> None:
        self._limits = limits
        self._counters = counters
        self._values = values
        self._child: ChildProcess | None = None
        # Held while the sink is called, so that no call comes after detach.
        self._sink_lock = threading.Lock()
        self._sink: FrameSink | None = None
        self._generation = 0
        self._frame_seen = False
        self._over = False
        # What a lease's release needs; it may come from inside a call of the sink, so this is another lock.
        self._lent_lock = threading.Lock()
        self._lent: set[int] = set()  # of the present set of buffers
        self.mode: Mode | None = None
        self._epoch = 0
        self._buffers: dict[int, MappedBuffer] = {}
        self._told: dict[int, tuple[int, int | None]] = {}  # control: (when, value)

    def attach(self, child: ChildProcess) -> None:
        """Whose frames these are."""
        self._child = child

    def adopt(self, mode: Mode, epoch: int, buffers: Sequence[tuple[BufferBody, tuple[int, ...]]]) -> None:
        """Take a new set of buffers, mapped. Their descriptors are ours then; ``BadModule`` if one is not usable."""
        self.forget()
        made: dict[int, MappedBuffer] = {}
        remaining = list(buffers)
        try:
            if not 0 < len(buffers) <= MAX_BUFFERS:
                raise BadModule("child_buffer", f"the libcamera child has {len(buffers)} buffers")
            while remaining:
                body, descriptors = remaining.pop(0)
                buffer = MappedBuffer(body, descriptors, mode)
                if body.epoch != epoch or body.index != len(made):
                    buffer.close()
                    raise BadModule("child_buffer", "the libcamera child numbers its buffers wrongly")
                made[body.index] = buffer
        except BaseException:
            for buffer in made.values():
                buffer.close()
            for _, descriptors in remaining:
                for descriptor in descriptors:
                    os.close(descriptor)
            raise
        with self._sink_lock, self._lent_lock:
            self._buffers, self._epoch, self.mode = made, epoch, mode
            self._lent.clear()

    def forget(self) -> None:
        """Give up mode and buffers."""
        with self._sink_lock:
            for buffer in self._buffers.values():
                buffer.close()
            self._buffers = {}
            self.mode = None

    @property
    def streaming(self) -> bool:
        """Whether a sink waits for frames."""
        return self._sink is not None

    def begin(self, sink: FrameSink, generation: int) -> None:
        """Deliver to ``sink`` from now on."""
        with self._sink_lock:
            if self._over:
                raise Interrupted("the libcamera process has ended")
            self._sink, self._generation, self._frame_seen = sink, generation, False
            self._good_s = time.monotonic()
            self._told.clear()
        if self._child is not None:
            self._child.nudge()

    def detach(self) -> bool:
        """Deliver nothing from now on; whether there was a sink."""
        with self._sink_lock:
            sink, self._sink = self._sink, None
            return sink is not None

    # The child's thread from here on: Listener.

    def frame(self, body: FrameBody) -> None:
        """A buffer was filled: pass it on."""
        with self._sink_lock:
            sink, mode = self._sink, self.mode
            if mode is None or body.epoch != self._epoch:
                return  # of an earlier set of buffers
            buffer = self._checked(body, mode)
            if sink is None:
                self._give_back(buffer, body)
                return
            self._frame_seen, self._good_s = True, time.monotonic()
            lease = self._lease(body, buffer, mode, sink)
            if lease is None:
                self._counters["no_buffer"] += 1
                sink.dropped(self._generation, "no_buffer")
                return
            now = time.monotonic_ns()
            boot_offset = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - now
            stamp = monotonic_stamp(body.timestamp_ns, now, boot_offset)
            self._counters["frames"] += 1
            sink.deliver(Frame(lease, body.nbytes, mode, body.sequence, stamp, self._generation, meta_of(body)))
            self._tell(sink, body, now)

    def spoiled(self) -> None:
        """A frame was lost inside libcamera. One that loses all of them is as good as stuck."""
        with self._sink_lock:
            if self._sink is not None:
                self._counters["spoiled"] += 1
                self._sink.dropped(self._generation, "spoiled")
                if time.monotonic() - self._good_s > self._limits.first_frame_s and self._child is not None:
                    self._child.end(Interrupted("libcamera loses every frame"))

    def ended(self, why: MaglensError) -> None:
        """The child is no more."""
        with self._sink_lock:
            self._over = True
            sink, self._sink = self._sink, None
            if sink is not None:
                if not isinstance(why, Gone):
                    why = Interrupted(f"libcamera's camera was given up: {why}", hint=why.hint)
                sink.lost(self._generation, why)

    def patience_s(self) -> float | None:
        """How long the child may be silent: for ever unless it streams and has a buffer to fill."""
        with self._sink_lock, self._lent_lock:
            if self._sink is None or self.mode is None or len(self._lent) >= len(self._buffers):
                return None
            if not self._frame_seen:
                return self._limits.start_s + self._limits.first_frame_s
            return max(self._limits.stall_s, 10 * float(self.mode.interval))

    def _checked(self, body: FrameBody, mode: Mode) -> MappedBuffer:
        buffer = self._buffers.get(body.index)
        with self._lent_lock:
            if buffer is None or body.index in self._lent:
                raise BadModule("child_frame", f"the libcamera child filled buffer {body.index}, not its own")
        if not 0 < body.nbytes <= mode.nbytes or (mode.fourcc != MJPG and body.nbytes != mode.nbytes):
            raise BadModule("child_frame", f"the libcamera child claims a frame of {body.nbytes} bytes")
        return buffer

    def _lease(self, body: FrameBody, buffer: MappedBuffer, mode: Mode, sink: FrameSink) -> Lease | None:
        buffer.begin_read()
        if buffer.flat is None:
            # Its planes lie apart (rkisp1, for one): the only case in which this side copies.
            target = sink.lease(mode.nbytes)
            if target is not None:
                buffer.gather(target.view)
            self._give_back(buffer, body)
            return target
        with self._lent_lock:
            self._lent.add(body.index)
        return CameraLease(buffer.flat, lambda: self._returned(buffer, body))

    def _returned(self, buffer: MappedBuffer, body: FrameBody) -> None:
        """A lease was released, in any thread."""
        with self._lent_lock:
            was_full = False
            if body.epoch == self._epoch:
                was_full = len(self._lent) >= len(self._buffers)
                self._lent.discard(body.index)
        self._give_back(buffer, body)
        if was_full and self._child is not None:
            self._child.nudge()

    def _give_back(self, buffer: MappedBuffer, body: FrameBody) -> None:
        buffer.end_read()
        if self._child is None or not self._child.alive:
            return
        try:
            self._child.send(Packet(Kind.GIVE_BACK, 0, GiveBackBody(epoch=body.epoch, index=body.index)))
        except (Gone, Deadline):
            return  # reported by `ended`, which the failed sending has brought about

    def _tell(self, sink: FrameSink, body: FrameBody, now_ns: int) -> None:
        for cid, value in control_map.readings(body, self._values).items():
            self._values[cid] = value
            when, told = self._told.get(cid, (now_ns - PUSH_INTERVAL_NS, None))
            if value != told and now_ns - when >= PUSH_INTERVAL_NS:
                self._told[cid] = (now_ns, value)
                sink.control(self._generation, cid, value)


def meta_of(body: FrameBody) -> Meta:
    """How the picture was taken."""
    return Meta(
        exposure_us=body.exposure_us,
        gain_milli=body.gain_milli,
        focus_cdpt=max(0, body.focus_cdpt - 1),
        focal_um=body.focal_um,
        temperature_k=body.temperature_k,
    )


def monotonic_stamp(stamp_ns: int, now_ns: int, boot_offset_ns: int) -> int:
    """A frame's time on CLOCK_MONOTONIC.

    libcamera documents CLOCK_BOOTTIME, which is ``boot_offset_ns`` ahead; its pipelines pass on what the kernel
    driver stamped, mostly CLOCK_MONOTONIC. What is plausible on neither becomes the time of arrival.
    """
    for candidate in (stamp_ns, stamp_ns - boot_offset_ns):
        if now_ns - STAMP_WINDOW_NS <= candidate <= now_ns:
            return candidate
    return now_ns
