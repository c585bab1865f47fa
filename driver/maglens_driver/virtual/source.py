# SPDX-License-Identifier: MIT
"""Virtual source: a virtual camera as a Source in this process, paced by the clock. No USB, no kernel."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from maglens_driver.control import ControlInfo
from maglens_driver.errors import Gone, WrongState
from maglens_driver.frame import Frame
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import Mode
from maglens_driver.source import FrameSink, Identity
from maglens_driver.virtual.camera import VirtualCamera
from maglens_driver.virtual.lens import LensData, load_lens
from maglens_driver.virtual.mark import Mark

_NS = 1_000_000_000


def nearest_mode(modes: Sequence[Mode], want: Mode) -> Mode:
    """The mode closest to ``want``: same format before same size before same rate, then the least difference."""
    return min(
        modes,
        key=lambda m: (
            m.fourcc != want.fourcc,
            abs(m.width - want.width) + abs(m.height - want.height),
            abs(m.interval - want.interval),
        ),
    )


class VirtualSource:
    """A virtual module. ``seq`` of its frames is the number in their mark, and rises over stop and start.
    ``stack``: a directory for light once drawn, for raw modes."""

    def __init__(self, lens: str | LensData, serial: str = "virtual", stack: Path | None = None) -> None:
        data = load_lens(lens) if isinstance(lens, str) else lens
        self.camera = VirtualCamera(data.with_serial(serial), stack)
        self._mode: Mode | None = None
        self._seq = 0
        self._sink: FrameSink | None = None
        self._generation = 0
        self._thread: threading.Thread | None = None
        self._halt = threading.Event()
        self._gone: Gone | None = None
        self._closed = False

    @property
    def descriptor(self) -> Descriptor:
        """The module's own description."""
        return self.camera.descriptor

    @property
    def identity(self) -> Identity:
        return self.descriptor.identity

    @property
    def modes(self) -> Sequence[Mode]:
        return self.descriptor.modes

    @property
    def controls(self) -> Sequence[ControlInfo]:
        return self.descriptor.controls

    @property
    def next_seq(self) -> int:
        """Number that the next frame will have."""
        return self._seq

    async def prepare(self) -> None:
        """Render pictures beforehand, so that configure and start take no time."""
        await asyncio.to_thread(self.camera.prepare)

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        self._check()
        if self._thread is not None:
            raise WrongState(f"{self.identity} is streaming")
        mode = self.descriptor.with_facts(nearest_mode(self.modes, want))
        if not test_only:
            await asyncio.to_thread(self.camera.select, mode)
            self._mode = mode
        return mode

    async def start(self, sink: FrameSink, generation: int) -> None:
        self._check()
        if self._mode is None or self._thread is not None:
            raise WrongState(f"{self.identity} is {'streaming' if self._thread else 'not configured'}")
        self._sink, self._generation = sink, generation
        self._halt.clear()
        arguments = (self._mode, sink, generation)
        self._thread = threading.Thread(target=self._run, args=arguments, name="virtual-source", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        thread = self._thread
        if thread is not None:
            self._halt.set()
            await asyncio.to_thread(thread.join)
            self._thread = None

    async def get(self) -> Mapping[int, int]:
        self._check()
        return self.camera.values()

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        self._check()
        return self.camera.set(values)

    async def close(self) -> None:
        self._closed = True
        await self.stop()
        await asyncio.to_thread(self.camera.close)

    def turn(self, control: int, value: int) -> int:
        """A hand on the ring: move a control from the module's side and tell the sink. The value as clamped."""
        clamped = self.camera.set({control: value})[control]
        sink = self._sink
        if sink is not None and self._thread is not None:
            sink.control(self._generation, control, clamped)
        return clamped

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
        """Deliver frames on a grid of deadlines; the first at once. A frame that would come too late is left out."""
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
        mark = Mark.wrapped(self.camera.lens.mark, generation, seq)
        nbytes, meta = self.camera.compose(lease.view, mark)
        exposure_ns = now_ns - meta.exposure_us * 1000
        sink.deliver(Frame(lease, nbytes, mode, seq, exposure_ns, generation, meta))
