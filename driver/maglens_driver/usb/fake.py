# SPDX-License-Identifier: GPL-2.0-or-later
"""FakeTransport: a module in memory with USB's rules for transfers, for tests without a kernel.

``FakeModule`` answers requests as the virtual module does and makes frames; hooks bend what it answers and sends.
``FakeTransport`` moves bytes as USB does: a transfer ends when it is full, or with a short or zero-length packet.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from crc32c import crc32c

from maglens_driver.errors import Gone
from maglens_driver.gadget.power import Sink
from maglens_driver.gadget.responder import Responder
from maglens_driver.link import limits, wire
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import Mode
from maglens_driver.usb.device import Endpoint, UsbDevice
from maglens_driver.usb.transport import Done, NoTransferMemory, Outcome

DEVICE = UsbDevice(
    syspath="/sys/devices/fake/usb1/1-1",
    port="1-1",
    busnum=1,
    devnum=2,
    speed_mbit=5000,
    devnode="/dev/bus/usb/001/002",
    interface_number=0,
    max_power_ma=900,
    vendor=0x1209,
    product=1,
    added_ns=0,
    bulk=Endpoint(0x81, 1024),
    interrupt=Endpoint(0x82, 64),
)


@dataclass
class FakeModule:
    """A module: the virtual module's own answers to requests, and frames of no particular content.

    ``reply`` sees every reply (op, bytes) and returns what is sent, or raises what the bus would; ``frame`` sees the
    writes of every frame (frame id, [leader, payload, trailer]).
    """

    descriptor: Descriptor
    interval_s: float = 0.002
    fifo: int = 0  # bytes of a write that even FLUSH and STOP cannot take back (dummy_hcd has 64)
    patient: bool = False  # makes a frame whenever the host reads, and never leaves one out for being late
    reply: Callable[[int, bytes], bytes] = lambda op, raw: raw
    frame: Callable[[int, list[bytes]], list[bytes]] = lambda frame_id, writes: writes
    clock: Callable[[], int] = time.monotonic_ns
    requests: list[int] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    unplugged: bool = False
    halted: bool = False
    backlog: deque[bytes] = field(default_factory=deque)
    events: deque[bytes] = field(default_factory=deque)
    changed: threading.Condition = field(default_factory=threading.Condition)
    _mode: Mode | None = None
    _streaming: bool = False
    _epoch: int = 0
    _frame_id: int = 0
    _due: float = 0.0

    def __post_init__(self) -> None:
        self.values = {c.id: c.default for c in self.descriptor.controls}
        prices, needs = [m.mw for m in self.descriptor.modes], self.descriptor.power
        self.sink = Sink(max(prices, default=0), min(prices, default=needs.standby_mw), peak_mw=needs.peak_mw)
        self.responder = Responder(
            self.descriptor.pack(), self.descriptor.modes, self.sink, self, link_mbit_s=limits.MAX_MODE_MBIT_S
        )

    def unplug(self) -> None:
        """Pull it off: everything queued comes back at once."""
        with self.changed:
            self.unplugged = True
            self.changed.notify_all()

    def send_event(self, raw: bytes) -> None:
        """Put one packet on the interrupt endpoint."""
        with self.changed:
            self.events.append(raw)
            self.changed.notify_all()

    # --- endpoint 0 -------------------------------------------------------------------------------------------

    def read(self, op: int, value: int) -> bytes:
        """An IN request."""
        with self.changed:
            if self.unplugged:
                raise Gone("the fake module was unplugged")
            self.requests.append(op)
            raw = self.responder.read(op, value)
        return self.reply(op, raw)

    def write(self, op: int, data: bytes) -> None:
        """An OUT request; its result waits for RESULT."""
        with self.changed:
            if self.unplugged:
                raise Gone("the fake module was unplugged")
            self.requests.append(op)
            self.responder.write(op, data)
            self.changed.notify_all()

    # --- what the responder has done (gadget.responder.Works) -------------------------------------------------

    def module_time(self) -> int:
        """See :class:`~maglens_driver.gadget.responder.Works`."""
        return self.clock()

    def configure(self, mode: Mode) -> None:
        """See :class:`~maglens_driver.gadget.responder.Works`."""
        self._mode = mode

    def start(self, epoch: int) -> None:
        """See :class:`~maglens_driver.gadget.responder.Works`."""
        self._streaming, self._epoch, self._frame_id = True, epoch, 0
        self._due = time.monotonic()

    def stop(self) -> None:
        """See :class:`~maglens_driver.gadget.responder.Works`."""
        self._streaming = False
        self._drop_backlog()

    def flush(self, epoch: int) -> None:
        """See :class:`~maglens_driver.gadget.responder.Works`."""
        self._epoch = epoch
        self._drop_backlog()

    def _drop_backlog(self) -> None:
        kept = [w for w in list(self.backlog)[:1] if self.fifo and len(w) <= self.fifo]
        self.backlog.clear()
        self.backlog.extend(kept)

    def controls(self) -> Mapping[int, int]:
        """See :class:`~maglens_driver.gadget.responder.Works`."""
        return self.values

    def set_controls(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """See :class:`~maglens_driver.gadget.responder.Works`."""
        known = {c.id: c for c in self.descriptor.controls}
        self.values.update({i: known[i].clamp(v) for i, v in values.items()})
        return {i: self.values[i] for i in values}

    # --- stream -----------------------------------------------------------------------------------------------

    def next_write(self) -> bytes | None:
        """What the module sends now; None while there is nothing. Call with ``changed`` held."""
        if self.backlog:
            return self.backlog[0]
        now = time.monotonic()
        if not self._streaming or self._mode is None or now < self._due:
            return None
        behind = 0 if self.patient else int((now - self._due) / self.interval_s)  # frames that nobody took
        self._due += (behind + 1) * self.interval_s
        self._frame_id += behind
        self.backlog.extend(self.frame(self._frame_id, self._make(self._mode)))
        self._frame_id += 1
        return self.backlog[0] if self.backlog else None

    def wait_s(self) -> float | None:
        """How long until the next frame; None when none is to come."""
        if not self._streaming:
            return None
        return max(0.0, self._due - time.monotonic())

    def payload(self, mode: Mode, frame_id: int) -> bytes:
        """What a frame holds."""
        pattern = bytes((frame_id + i) & 0xFF for i in range(256))
        return (pattern * -(-mode.nbytes // 256))[: mode.nbytes]

    def _make(self, mode: Mode) -> list[bytes]:
        payload = self.payload(mode, self._frame_id)
        leader = wire.Leader(
            magic=wire.LEADER_MAGIC,
            size=wire.Leader.SIZE,
            major=limits.VERSION_MAJOR,
            flags=0,
            crc32c=0,
            epoch=self._epoch,
            frame_id=self._frame_id,
            time_ns=self.clock(),
            fourcc=mode.fourcc,
            width=mode.width,
            height=mode.height,
            stride=mode.stride,
            payload_bytes=len(payload),
            exposure_us=1000,
            gain_milli=1000,
            fnumber_milli=1400,
            focus_cdpt=0,
            focal_um=35_000,
            temperature_k=5000,
        )
        return [wire.seal(leader), payload, wire.seal(trailer_for(leader, payload))]


def _move(source: bytes, at: int, target: memoryview, to: int, count: int) -> None:
    """Without the GIL, as the kernel does it beside whatever else runs."""
    if count:
        np.copyto(np.frombuffer(target, np.uint8, count, to), np.frombuffer(source, np.uint8, count, at))


def trailer_for(leader: wire.Leader, payload: bytes, flags: int = 0) -> wire.Trailer:
    """The trailer that belongs to a leader and its payload; not yet sealed."""
    return wire.Trailer(
        wire.TRAILER_MAGIC,
        wire.Trailer.SIZE,
        limits.VERSION_MAJOR,
        flags,
        0,
        leader.epoch,
        leader.frame_id,
        len(payload),
        crc32c(payload),
    )


class FakeControl:
    """Endpoint 0 of a fake module."""

    def __init__(self, module: FakeModule) -> None:
        self._module = module

    def read(self, request: int, value: int, timeout_s: float) -> bytes:
        """See :class:`~maglens_driver.usb.transport.ControlPipe`."""
        return self._module.read(request, value)

    def write(self, request: int, value: int, data: bytes, timeout_s: float) -> None:
        """See :class:`~maglens_driver.usb.transport.ControlPipe`."""
        self._module.write(request, data)

    def close(self) -> None:
        """Nothing to give back."""


class FakeTransfer:
    """One transfer of a :class:`FakeStream`."""

    def __init__(self, stream: FakeStream, queue: deque[FakeTransfer], done: Done) -> None:
        self._stream = stream
        self._queue = queue
        self.done = done
        self.view = memoryview(b"")
        self.filled = 0
        self.cancelled = False

    def submit(self, view: memoryview) -> None:
        """See :class:`~maglens_driver.usb.transport.Transfer`."""
        with self._stream.module.changed:
            if self._stream.module.unplugged:
                raise Gone("the fake module was unplugged")
            self._stream.take_memory(len(view))
            self.view, self.filled, self.cancelled = view, 0, False
            self._queue.append(self)

    def cancel(self) -> None:
        """See :class:`~maglens_driver.usb.transport.Transfer`."""
        self.cancelled = self in self._queue

    def forget(self) -> None:
        """See :class:`~maglens_driver.usb.transport.Transfer`."""
        self.view = memoryview(b"")

    def close(self) -> None:
        """See :class:`~maglens_driver.usb.transport.Transfer`."""
        if self in self._queue:
            raise ValueError("a queued transfer was closed")


class FakeStream:
    """Transfers of a fake module. ``memory`` is the kernel's limit in bytes."""

    def __init__(self, module: FakeModule, packet: int, memory: int | None) -> None:
        self.module = module
        self.closed = False
        self._packet = packet
        self._memory = memory
        self._bulk: deque[FakeTransfer] = deque()
        self._interrupt: deque[FakeTransfer] = deque()
        self._sent = 0  # of the write at the head of the module's backlog
        self._head: bytes | None = None
        self._woken = False

    def take_memory(self, nbytes: int) -> None:
        """Count a submission against the limit."""
        used = sum(len(t.view) for t in self._bulk)
        if self._memory is not None and used + nbytes > self._memory:
            raise NoTransferMemory("the fake kernel's limit is reached")

    def transfer(self, endpoint: int, done: Done) -> FakeTransfer:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        return FakeTransfer(self, self._bulk, done)

    def interrupt_transfer(self, endpoint: int, done: Done) -> FakeTransfer:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        return FakeTransfer(self, self._interrupt, done)

    def run(self, timeout_s: float) -> None:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        until = time.monotonic() + timeout_s
        ended: list[tuple[FakeTransfer, Outcome]] = []
        with self.module.changed:
            while not (ended := self._step()):
                left = until - time.monotonic()
                if left <= 0 or self._woken:
                    break
                frame = self.module.wait_s() if self._bulk else None
                self.module.changed.wait(left if frame is None else min(left, max(frame, 0.0005)))
            self._woken = False
        for transfer, outcome in ended:
            transfer.done(outcome, transfer.filled)

    def _step(self) -> list[tuple[FakeTransfer, Outcome]]:
        ended: list[tuple[FakeTransfer, Outcome]] = []
        for queue in (self._bulk, self._interrupt):
            for transfer in [t for t in queue if self.module.unplugged or t.cancelled]:
                queue.remove(transfer)
                ended.append((transfer, Outcome.GONE if self.module.unplugged else Outcome.CANCELLED))
        if self._bulk and self.module.halted:
            ended.append((self._bulk.popleft(), Outcome.HALTED))
        while self._bulk and not ended and (write := self.module.next_write()) is not None:
            if self._receive(self._bulk[0], write):
                ended.append((self._bulk.popleft(), Outcome.COMPLETED))
        while self._interrupt and self.module.events:
            transfer, packet = self._interrupt.popleft(), self.module.events.popleft()
            transfer.view[: len(packet)] = packet
            transfer.filled = len(packet)
            ended.append((transfer, Outcome.COMPLETED))
        return ended

    def _receive(self, transfer: FakeTransfer, write: bytes) -> bool:
        """Move bytes of the write at the head into a transfer; True when that ends it."""
        if write is not self._head:
            self._head, self._sent = write, 0
        count = min(len(write) - self._sent, len(transfer.view) - transfer.filled)
        _move(write, self._sent, transfer.view, transfer.filled, count)
        transfer.filled += count
        self._sent += count
        full = transfer.filled == len(transfer.view)
        # a write that is a multiple of the packet size ends with a zero-length packet, which needs room of its own
        last_is_short = len(write) % self._packet != 0
        if self._sent == len(write) and (last_is_short or not full or count == 0):
            self.module.backlog.popleft()
            self._head = None
            return True
        return full

    def wake(self) -> None:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        with self.module.changed:
            self._woken = True
            self.module.changed.notify_all()

    def clear_halt(self, endpoint: int) -> None:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        with self.module.changed:
            if self.module.unplugged:
                raise Gone("the fake module was unplugged")
            self.module.halted = False

    def close(self) -> None:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        if self._bulk or self._interrupt:
            raise ValueError("closed with transfers queued")
        self.closed = True


@dataclass
class FakeTransport:
    """Both pipes of a fake module. ``claim_error`` is raised instead of claiming."""

    module: FakeModule
    packet: int = 1024
    memory: int | None = 16 * 1024 * 1024
    claim_error: Exception | None = None
    streams: list[FakeStream] = field(default_factory=list)

    def open_control(self) -> FakeControl:
        """See :class:`~maglens_driver.usb.transport.Transport`."""
        if self.module.unplugged:
            raise Gone("the fake module was unplugged")
        return FakeControl(self.module)

    def open_stream(self) -> FakeStream:
        """See :class:`~maglens_driver.usb.transport.Transport`."""
        if self.claim_error is not None:
            raise self.claim_error
        if self.module.unplugged:
            raise Gone("the fake module was unplugged")
        self.streams.append(FakeStream(self.module, self.packet, self.memory))
        return self.streams[-1]

    def transfer_memory(self) -> int | None:
        """See :class:`~maglens_driver.usb.transport.Transport`."""
        return self.memory
