# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory node: a node without a device, with readers that behave as apps do. For tests and the in-process preview."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from maglens_driver.control import ControlInfo
from maglens_driver.errors import Gone, WrongState
from maglens_driver.frame import Frame
from maglens_driver.mode import Mode
from maglens_v4l2._pixels import copy
from maglens_v4l2.loan import Loan, own
from maglens_v4l2.node import (
    ControlChange,
    ControlSet,
    FormatChosen,
    InputChosen,
    InputInfo,
    NodeCaps,
    NodeState,
    UsageChanged,
)
from maglens_v4l2.node_base import NodeBase
from maglens_v4l2.pool import BufferPool

SLOTS = 8  # pictures in the node's ring
READER_BUFFERS = 4  # as most apps ask for
PENDING_CHANGES = 64  # control changes a reader may leave unread; the oldest go first


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture as an app gets it: ``nbytes`` in buffer ``index``; ``sequence`` counts what the node showed."""

    index: int
    nbytes: int
    sequence: int
    timestamp_ns: int
    generation: int


class MemoryReader:
    """One open file of a memory node. All calls from any one thread; ``read`` blocks."""

    def __init__(self, node: MemoryNode) -> None:
        self._node = node
        self._ready = threading.Condition()
        self._filled: deque[Shown] = deque()
        self._free: list[int] = []
        self._buffers: list[memoryview] = []
        self._ended = False
        self._streaming = False
        self.changes: deque[tuple[int, ControlChange]] = deque(maxlen=PENDING_CHANGES)
        self.missed = 0  # shown while all buffers were in use

    @property
    def streaming(self) -> bool:
        return self._streaming

    def start(self) -> None:
        """Begin to get pictures; buffers are made here and not later."""
        nbytes = self._node.state().format.nbytes
        with self._ready:
            self._buffers = [memoryview(bytearray(nbytes)) for _ in range(READER_BUFFERS)]
            self._free = list(range(READER_BUFFERS))
            self._filled.clear()
            self._streaming = True
        self._node.reader_changed()

    def stop(self) -> None:
        """End; what was not read is gone."""
        with self._ready:
            self._streaming = False
            self._filled.clear()
        self._node.reader_changed()

    def close(self) -> None:
        self._streaming = False
        self._node.reader_closed(self)

    def read(self, timeout: float) -> Shown | None:
        """The oldest unread picture, whose buffer is the caller's until :meth:`give_back`; None after ``timeout``
        seconds. Raises ``Gone`` when the node was closed."""
        with self._ready:
            if not self._ready.wait_for(lambda: self._filled or self._ended, timeout):
                return None
            if not self._filled:
                raise Gone("the node was closed")
            return self._filled.popleft()

    def picture(self, shown: Shown) -> memoryview:
        """The bytes of a picture read and not yet given back."""
        return self._buffers[shown.index][: shown.nbytes]

    def give_back(self, shown: Shown) -> None:
        with self._ready:
            self._free.append(shown.index)

    def copy(self, timeout: float) -> tuple[Shown, bytes] | None:
        """Read, copy and give back in one."""
        shown = self.read(timeout)
        if shown is None:
            return None
        data = bytes(self.picture(shown))
        self.give_back(shown)
        return shown, data

    def choose_format(self, mode: Mode) -> None:
        self._node.choose_format(mode)

    def set_control(self, control: int, value: int) -> None:
        self._node.app_set(control, value)

    def choose_input(self, index: int) -> None:
        self._node.app_input(index)

    def put(self, picture: memoryview, shown: Shown) -> None:
        """The node shows a picture (its side of the reader)."""
        with self._ready:
            if not self._streaming:
                return
            if not self._free:
                self.missed += 1
                return
            index = self._free.pop()
            copy(picture, self._buffers[index], shown.nbytes)
            self._filled.append(replace(shown, index=index))
            self._ready.notify()

    def end(self) -> None:
        """The node was closed (its side of the reader)."""
        with self._ready:
            self._ended = True
            self._ready.notify()


class MemoryNode(NodeBase):
    """A :class:`maglens_v4l2.node.Node` in this process's memory."""

    path = "memory"

    def __init__(self, formats: Sequence[Mode], controls: Sequence[ControlInfo] = ()) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._formats = tuple(formats)
        self._format = self._formats[0]
        self._lender = BufferPool(SLOTS, max(mode.nbytes for mode in self._formats))
        self._last: tuple[Loan, int, Mode] | None = None
        self._readers: list[MemoryReader] = []
        self._values = {info.id: info.default for info in controls}
        self._inputs: tuple[InputInfo, ...] = (InputInfo("Automatic", True),)
        self._input = 0
        self._sequence = 0
        self.placeholder_image = b""

    @property
    def caps(self) -> NodeCaps:
        return NodeCaps(
            controls=True,
            many_readers=True,
            outlives_daemon=False,
            fixed_format=len(self._formats) == 1,
            inputs=True,
        )

    @property
    def formats(self) -> Sequence[Mode]:
        return self._formats

    @property
    def inputs(self) -> Sequence[InputInfo]:
        """As last pushed."""
        return self._inputs

    def state(self) -> NodeState:
        with self._lock:
            streamers = self._streamers()
            return NodeState(
                format=self._format,
                locked=streamers > 0,
                openers=len(self._readers),
                streamers=streamers,
                input=self._input,
                generation=self._generation,
                values=dict(self._values),
            )

    def adopt(self) -> int:
        with self._lock:
            self._generation += 1
            return self._generation

    def submit(self, frame: Frame) -> bool:
        with self._lock:
            if self._closed:
                frame.lease.release()
            self._check_open()
            stale = frame.generation != self._generation or frame.mode != self._format
            if stale or frame.nbytes > self._format.nbytes:
                frame.lease.release()
                return False
            slot = own(frame, self._lender)
            if slot is None:
                return False
            if self._last is not None:
                self._last[0].release()
            self._last = (slot, frame.nbytes, frame.mode)
            self._show(frame.exposure_ns)
            return True

    @property
    def filled(self) -> int:
        return 0

    def repeat(self, exposure_ns: int, generation: int) -> bool:
        with self._lock:
            self._check_open()
            if generation != self._generation or self._last is None or self._last[2] != self._format:
                return False
            self._show(exposure_ns)
            return True

    def placeholder(self, image: bytes, format: Mode) -> None:
        with self._lock:
            if format == self._format:
                self.placeholder_image = image

    def push(self, generation: int, control: int, change: ControlChange) -> None:
        with self._lock:
            if generation != self._generation:
                return
            if change.value is not None:
                self._values[control] = change.value
            for reader in self._readers:
                reader.changes.append((control, change))

    def push_inputs(self, inputs: Sequence[InputInfo]) -> None:
        self._inputs = tuple(inputs)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            readers = list(self._readers)
        for reader in readers:
            reader.end()
        self._events.close()

    # What apps do.

    def open(self) -> MemoryReader:
        """Open the node as an app."""
        reader = MemoryReader(self)
        with self._lock:
            self._readers.append(reader)
        self.reader_changed()
        return reader

    def reader_changed(self) -> None:
        with self._lock:
            event = UsageChanged(self._generation, self._streamers(), len(self._readers))
        self._events.post(event)

    def reader_closed(self, reader: MemoryReader) -> None:
        with self._lock:
            if reader in self._readers:
                self._readers.remove(reader)
        self.reader_changed()

    def choose_format(self, mode: Mode) -> None:
        """Raises ``WrongState`` while someone streams, as EBUSY does."""
        with self._lock:
            if mode not in self._formats:
                raise WrongState(f"the node does not offer {mode.describe()}")
            if self._streamers():
                raise WrongState("the format is locked while someone streams")
            self._format = mode
            event = FormatChosen(self._generation, mode)
        self._events.post(event)

    def app_set(self, control: int, value: int, program: str = "", process: int = 0) -> None:
        with self._lock:
            self._values[control] = value
            event = ControlSet(self._generation, control, value, program, process)
        self._events.post(event)

    def app_input(self, index: int) -> None:
        with self._lock:
            self._input = index
            event = InputChosen(self._generation, index)
        self._events.post(event)

    def _streamers(self) -> int:
        return sum(reader.streaming for reader in self._readers)

    def _show(self, exposure_ns: int) -> None:
        assert self._last is not None
        slot, nbytes, _ = self._last
        self._sequence += 1
        shown = Shown(-1, nbytes, self._sequence, exposure_ns, self._generation)
        for reader in self._readers:
            reader.put(slot.view, shown)
