# SPDX-License-Identifier: MIT
"""Paced source: a Source that makes its pictures itself, in a thread, on a grid of deadlines."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping

from maglens_driver.described import Described
from maglens_driver.errors import Gone, Refused, WrongState
from maglens_driver.frame import Frame, Meta
from maglens_driver.mode import Mode, nearest_mode
from maglens_driver.source import FrameSink

_NS = 1_000_000_000


class PacedSource(Described):
    """What a :class:`~maglens_driver.source.Source` needs beside its pictures. ``seq`` rises over stop and start."""

    def __init__(self) -> None:
        self._mode: Mode | None = None
        self._seq = 0
        self._sink: FrameSink | None = None
        self._generation = 0
        self._thread: threading.Thread | None = None
        self._halt = threading.Event()
        self._gone: Gone | None = None
        self._closed = False

    @abstractmethod
    def compose(self, mode: Mode, view: memoryview, generation: int, seq: int) -> tuple[int, Meta]:
        """Write picture ``seq`` into ``view`` (of at least ``mode.nbytes``): its bytes, and how it was taken."""

    @abstractmethod
    def select(self, mode: Mode) -> None:
        """Pictures are of ``mode`` from the next start on. Answers a host that waits: nothing is drawn here."""

    def begin(self, halted: Callable[[], bool]) -> None:
        """Do what the first picture takes, in the stream's thread; give up once ``halted()``."""

    @property
    def next_seq(self) -> int:
        """Number that the next frame will have."""
        return self._seq

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        self._check()
        if self._thread is not None:
            raise WrongState(f"{self.identity} is streaming")
        mode = self.descriptor.with_facts(nearest_mode(self.modes, want))
        if not test_only:
            self.select(mode)
            self._mode = mode
        return mode

    async def start(self, sink: FrameSink, generation: int) -> None:
        self._check()
        if self._mode is None or self._thread is not None:
            raise WrongState(f"{self.identity} is {'streaming' if self._thread else 'not configured'}")
        self._sink, self._generation = sink, generation
        self._halt.clear()
        arguments = (self._mode, sink, generation)
        self._thread = threading.Thread(target=self._run, args=arguments, name="paced-source", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        thread = self._thread
        if thread is not None:
            self._halt.set()
            await asyncio.to_thread(thread.join)
            self._thread = None

    async def get(self) -> Mapping[int, int]:
        self._check()
        return {}

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        self._check()
        if values:
            raise Refused("INVALID", f"{self.identity} has no controls")
        return {}

    async def close(self) -> None:
        self._closed = True
        await self.stop()

    def tell(self, control: int, value: int) -> None:
        """Tell the sink that a control moved by itself, if there is a stream."""
        sink = self._sink
        if sink is not None and self._thread is not None:
            sink.control(self._generation, control, value)

    def unplug(self) -> None:
        """Pull the module off: the stream is lost, and every call but stop and close raises ``Gone``."""
        self._gone = Gone(f"{self.identity} was unplugged")
        self._halt.set()

    def _check(self) -> None:
        if self._gone is not None:
            raise self._gone
        if self._closed:
            raise WrongState(f"{self.identity} was closed")

    def _run(self, mode: Mode, sink: FrameSink, generation: int) -> None:
        """Deliver frames on a grid, from when the first can be made; leave out what comes too late."""
        self.begin(self._halt.is_set)
        deadline = time.monotonic_ns()
        while not self._halt.is_set():
            self._deliver(mode, sink, generation, deadline)
            deadline += mode.interval_ns
            late = (time.monotonic_ns() - deadline) // mode.interval_ns
            if late > 0:
                self._seq += late
                deadline += late * mode.interval_ns
                for _ in range(late):
                    sink.dropped(generation, "source_late")
            self._halt.wait(max(0, deadline - time.monotonic_ns()) / _NS)
        if self._gone is not None:
            sink.lost(generation, self._gone)

    def _deliver(self, mode: Mode, sink: FrameSink, generation: int, now_ns: int) -> None:
        seq = self._seq
        self._seq += 1
        lease = sink.lease(mode.nbytes)
        if lease is None:
            sink.dropped(generation, "no_buffer")
            return
        nbytes, meta = self.compose(mode, lease.view, generation, seq)
        exposure_ns = now_ns - meta.exposure_us * 1000
        sink.deliver(Frame(lease, nbytes, mode, seq, exposure_ns, generation, meta))
