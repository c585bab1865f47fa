# SPDX-License-Identifier: GPL-2.0-or-later
"""What every Source must do. Subclass :class:`SourceConformance` as ``TestX`` and give it a ``rig`` fixture."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import pytest

from maglens_driver.control import ControlFlag, ControlType
from maglens_driver.errors import Gone, MaglensError, Refused, WrongState
from maglens_driver.frame import Frame
from maglens_driver.source import Source

WAIT_S = 10.0
T = TypeVar("T")


class Rig(Protocol):
    """A way to a fresh source, and to its device where that can be pulled off."""

    async def open(self) -> Source: ...

    def unplug(self) -> bool:
        """Pull the device off while it streams; False where that cannot be done."""
        ...


@dataclass(eq=False)
class TestLease:
    """A buffer that remembers its fate."""

    __test__ = False
    sink: RecordingSink
    view: memoryview
    released: bool = False

    def release(self) -> None:
        with self.sink.changed:
            if not self.released:
                self.released = True
                self.sink.out -= 1
                self.sink.changed.notify_all()


@dataclass
class RecordingSink:
    """A FrameSink that keeps everything it is told. ``buffers``: how many leases it has at most."""

    buffers: int = 16
    keep: int = 0  # so many frames are held at the end, the others are released at once
    frames: list[Frame] = field(default_factory=list)
    drops: Counter[str] = field(default_factory=Counter)
    controls: list[tuple[int, int, int]] = field(default_factory=list)
    flags: list[tuple[int, int, bool]] = field(default_factory=list)
    losses: list[tuple[int, Exception]] = field(default_factory=list)
    after_lost: list[str] = field(default_factory=list)
    out: int = 0
    asked: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def _note(self, what: str) -> None:
        if self.losses:
            self.after_lost.append(what)
        self.changed.notify_all()

    def lease(self, nbytes: int) -> TestLease | None:
        with self.changed:
            self.asked += 1
            if self.out >= self.buffers:
                return None
            self.out += 1
            return TestLease(self, memoryview(bytearray(nbytes)))

    def deliver(self, frame: Frame) -> None:
        with self.changed:
            self.frames.append(frame)
            self._note("deliver")
            old = self.frames[-1 - self.keep] if len(self.frames) > self.keep else None
        if old is not None:
            old.lease.release()

    def control(self, generation: int, control: int, value: int) -> None:
        with self.changed:
            self.controls.append((generation, control, value))
            self._note("control")

    def active(self, generation: int, control: int, active: bool) -> None:
        with self.changed:
            self.flags.append((generation, control, active))
            self._note("active")

    def dropped(self, generation: int, cause: str) -> None:
        with self.changed:
            self.drops[cause] += 1
            self._note("dropped")

    def lost(self, generation: int, why: Exception) -> None:
        with self.changed:
            self._note("lost")
            self.losses.append((generation, why))
            self.changed.notify_all()

    async def until(self, condition: Callable[[RecordingSink], bool], limit_s: float = WAIT_S) -> None:
        """Wait until ``condition`` holds; fails with what there is."""

        def wait() -> bool:
            with self.changed:
                return self.changed.wait_for(lambda: condition(self), limit_s)

        met = await asyncio.to_thread(wait)
        assert met, f"{len(self.frames)} frames, drops {dict(self.drops)}, losses {self.losses}"


class SourceConformance:
    """The tests. A rig's source must send at least ten frames a second."""

    def with_source(self, rig: Rig, body: Callable[[Source], Awaitable[T]]) -> T:
        """Run ``body`` with an open source, and close that whatever happens."""

        async def run() -> T:
            source = await rig.open()
            try:
                return await body(source)
            finally:
                await source.close()

        return asyncio.run(run())

    def test_tells_who_it_is_and_what_it_offers(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            assert source.identity.maker and source.identity.model and source.identity.serial
            assert source.modes
            for mode in source.modes:
                assert mode.width > 0 and mode.height > 0 and mode.nbytes > 0 and mode.interval > 0
            ids = [c.id for c in source.controls]
            assert len(ids) == len(set(ids))
            for c in source.controls:
                assert c.minimum <= c.default <= c.maximum

        self.with_source(rig, body)

    def test_start_needs_configure(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            with pytest.raises(WrongState):
                await source.start(RecordingSink(), 1)

        self.with_source(rig, body)

    def test_a_test_only_configure_changes_nothing(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            answer = await source.configure(source.modes[0], test_only=True)
            assert answer.nbytes > 0
            with pytest.raises(WrongState):
                await source.start(RecordingSink(), 1)

        self.with_source(rig, body)

    def test_every_mode_can_be_configured(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            for mode in source.modes:
                got = await source.configure(mode)
                assert (got.fourcc, got.width, got.height) == (mode.fourcc, mode.width, mode.height)

        self.with_source(rig, body)

    def test_frames_are_whole_numbered_and_timed(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            mode = await source.configure(source.modes[0])
            sink, begun = RecordingSink(keep=2), time.monotonic_ns()
            await source.start(sink, 7)
            await sink.until(lambda s: len(s.frames) >= 12)
            await source.stop()
            now = time.monotonic_ns()
            for f in sink.frames:
                assert f.mode == mode and f.generation == 7
                assert 0 < f.nbytes <= len(f.lease.view)
                assert f.nbytes == mode.nbytes or mode.stride == 0
                assert begun - 1_000_000_000 < f.exposure_ns < now
            for one, two in zip(sink.frames, sink.frames[1:], strict=False):
                assert one.seq < two.seq
                assert one.exposure_ns < two.exposure_ns
            assert not sink.losses

        self.with_source(rig, body)

    def test_streaming_excludes_configure_and_start(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            await source.configure(source.modes[0])
            sink = RecordingSink()
            await source.start(sink, 1)
            with pytest.raises(WrongState):
                await source.configure(source.modes[0])
            with pytest.raises(WrongState):
                await source.start(sink, 2)
            await sink.until(lambda s: len(s.frames) >= 2)
            await source.stop()

        self.with_source(rig, body)

    def test_stop_gives_every_lease_back_and_ends_delivery(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            await source.configure(source.modes[0])
            sink = RecordingSink(keep=0)
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 2)
            await source.stop()
            count = len(sink.frames)
            assert sink.out == 0
            await source.stop()
            await source.configure(source.modes[0])
            assert len(sink.frames) == count
            assert not sink.losses

        self.with_source(rig, body)

    def test_it_starts_again_under_a_new_generation(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            await source.configure(source.modes[0])
            for generation in (1, 2, 3):
                sink = RecordingSink()
                await source.start(sink, generation)
                await sink.until(lambda s: len(s.frames) >= 3)
                await source.stop()
                assert {f.generation for f in sink.frames} == {generation}

        self.with_source(rig, body)

    def test_without_a_buffer_frames_are_dropped_and_then_come_again(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            await source.configure(source.modes[0])
            sink = RecordingSink(buffers=0)
            await source.start(sink, 1)
            await sink.until(lambda s: s.drops["no_buffer"] >= 3 or len(s.frames) >= 3)
            if sink.asked:  # else its buffers are its own
                assert not sink.frames
                sink.buffers = 16
                await sink.until(lambda s: len(s.frames) >= 3)
            await source.stop()
            assert sink.out == 0

        self.with_source(rig, body)

    def test_controls_are_read_written_and_clamped(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            values = await source.get()
            writable = [
                c
                for c in source.controls
                if not c.flags & (ControlFlag.READ_ONLY | ControlFlag.INACTIVE) and c.type is ControlType.INTEGER
            ]
            for c in writable:
                assert c.minimum <= values[c.id] <= c.maximum
                assert await source.set({c.id: c.minimum}) == {c.id: c.minimum}
                assert (await source.get())[c.id] == c.minimum
                over = min(c.maximum + c.step, 0x7FFFFFFF)
                got = await source.set({c.id: over})
                assert c.minimum <= got[c.id] <= c.maximum
            with pytest.raises(Refused):
                await source.set({0x0BADC0DE: 1})

        self.with_source(rig, body)

    def test_close_is_final_and_idempotent(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            await source.configure(source.modes[0])
            sink = RecordingSink()
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 1)
            await source.close()
            await source.close()
            assert sink.out == 0
            assert not sink.losses
            with pytest.raises(WrongState):
                await source.configure(source.modes[0])
            await source.stop()

        self.with_source(rig, body)

    def test_unplugging_is_told_once_as_gone(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            await source.configure(source.modes[0])
            sink = RecordingSink()
            await source.start(sink, 5)
            await sink.until(lambda s: len(s.frames) >= 2)
            if not rig.unplug():
                pytest.skip("this rig's device cannot be unplugged")
            await sink.until(lambda s: bool(s.losses))
            generation, why = sink.losses[0]
            assert generation == 5 and isinstance(why, Gone)
            await source.stop()
            assert sink.out == 0
            with pytest.raises(Gone):
                await source.configure(source.modes[0])
            await source.close()
            assert len(sink.losses) == 1 and not sink.after_lost

        self.with_source(rig, body)

    def test_unplugging_while_idle_is_gone_not_wrong_state(self, rig: Rig) -> None:
        async def body(source: Source) -> None:
            await source.configure(source.modes[0])
            if not rig.unplug():
                pytest.skip("this rig's device cannot be unplugged")
            with pytest.raises(Gone):
                await source.start(RecordingSink(), 1)
            try:
                await source.get()
            except MaglensError as error:
                assert isinstance(error, Gone)

        self.with_source(rig, body)
