# SPDX-License-Identifier: GPL-2.0-or-later
"""What every Node must do, as checks that need only a node and a way to open it as an app does.

The unit tests run them on the memory node, the VM's scenarios on real devices. Each check gets a fresh node.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from maglens_driver.errors import Gone
from maglens_driver.frame import Frame, Lease
from maglens_driver.mode import NV12, YUYV, Mode, make_mode
from maglens_driver.source import FrameSink
from maglens_v4l2.card import Card
from maglens_v4l2.node import ControlChange, InputInfo, Node, NodeEvent, UsageChanged
from maglens_v4l2.pipeline import Pipeline

WAIT_S = 5.0
MICROSECOND = 1000  # V4L2's timestamps have no finer grain


@dataclass(frozen=True, slots=True)
class Picture:
    """What an app dequeued."""

    data: bytes
    timestamp_ns: int
    sequence: int


class App(Protocol):
    """One open file of the node."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def next(self, timeout: float) -> Picture | None: ...


class Rig(Protocol):
    """A fresh node, and how to open it."""

    @property
    def node(self) -> Node: ...
    def open(self) -> App: ...


Check = Callable[[Rig], Coroutine[None, None, None]]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


def pattern(mode: Mode, number: int) -> bytes:
    """A frame that can be told from any other: every byte depends on ``number``."""
    row = bytes((number * 37 + n * 11) % 256 for n in range(256))
    return (row * (mode.nbytes // 256 + 1))[: mode.nbytes]


def filled(node: Node, generation: int, number: int, stamp: int) -> Frame:
    mode = node.state().format
    lease = node.lease(mode.nbytes)
    assert lease is not None
    lease.view[: mode.nbytes] = pattern(mode, number)
    return Frame(lease, mode.nbytes, mode, number, stamp, generation)


class ForeignLease:
    """Memory that is not the node's."""

    def __init__(self, data: bytes) -> None:
        self.view = memoryview(bytearray(data))
        self.released = 0

    def release(self) -> None:
        self.released += 1


@asynccontextmanager
async def watching(rig: Rig) -> AsyncIterator[App]:
    app = rig.open()
    try:
        app.start()
        yield app
    finally:
        app.close()


async def until(events: AsyncIterator[NodeEvent], wanted: Callable[[NodeEvent], bool]) -> NodeEvent:
    async with asyncio.timeout(WAIT_S):
        async for event in events:
            if wanted(event):
                return event
    raise AssertionError("the node's events ended before the one that was waited for")


def expect(app: App, data: bytes) -> Picture:
    """The next picture that holds ``data``; others (of a filler of the node's own) may come before it."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        picture = app.next(WAIT_S)
        if picture is not None and picture.data == data:
            return picture
    raise AssertionError("the frame was never shown")


@check
async def state_is_complete(rig: Rig) -> None:
    state = rig.node.state()
    assert state.format in rig.node.formats
    assert rig.node.caps.fixed_format == (len(rig.node.formats) == 1)
    assert state.input == 0
    assert state.streamers == (0 if rig.node.caps.usage else 1)
    assert rig.node.path


@check
async def watchers_are_announced(rig: Rig) -> None:
    if not rig.node.caps.usage:
        return
    events = rig.node.events()
    async with watching(rig) as app:
        await until(events, lambda e: isinstance(e, UsageChanged) and e.streamers > 0)
        assert rig.node.state().streamers > 0
        app.stop()
        await until(events, lambda e: isinstance(e, UsageChanged) and e.streamers == 0)
        assert rig.node.state().streamers == 0


@check
async def a_frame_arrives_as_it_was(rig: Rig) -> None:
    node = rig.node
    generation = node.adopt()
    mode = node.state().format
    async with watching(rig) as app:
        exact = 0
        for number in range(1, 11):
            stamp = time.monotonic_ns()
            assert node.submit(filled(node, generation, number, stamp))
            picture = await asyncio.to_thread(expect, app, pattern(mode, number))
            assert len(picture.data) == mode.nbytes
            # A node that fills gaps by itself may have shown something since, and moves the frame just behind that.
            assert stamp - MICROSECOND <= picture.timestamp_ns <= time.monotonic_ns()
            exact += abs(picture.timestamp_ns - stamp) <= MICROSECOND
        assert exact > 0


@check
async def sequence_numbers_rise(rig: Rig) -> None:
    node = rig.node
    generation = node.adopt()
    mode = node.state().format
    sequences = []
    async with watching(rig) as app:
        for number in range(1, 11):
            assert node.submit(filled(node, generation, number, time.monotonic_ns()))
            sequences.append((await asyncio.to_thread(expect, app, pattern(mode, number))).sequence)
    assert sequences == sorted(set(sequences))


@check
async def a_stale_generation_is_never_shown(rig: Rig) -> None:
    node = rig.node
    old = node.adopt()
    mode = node.state().format
    async with watching(rig) as app:
        late = filled(node, old, 1, time.monotonic_ns())
        new = node.adopt()
        assert new > old
        assert node.state().generation == new
        assert not node.submit(late)
        assert not node.repeat(time.monotonic_ns(), old)
        assert node.submit(filled(node, new, 2, time.monotonic_ns()))
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            picture = await asyncio.to_thread(app.next, WAIT_S)
            assert picture is not None
            assert picture.data != pattern(mode, 1)
            if picture.data == pattern(mode, 2):
                return
    raise AssertionError("the frame of the new generation was never shown")


@check
async def another_format_is_refused(rig: Rig) -> None:
    node = rig.node
    generation = node.adopt()
    frame = filled(node, generation, 1, time.monotonic_ns())
    small = make_mode(frame.mode.fourcc, 64, 64, frame.mode.interval)
    assert not node.submit(replace(frame, mode=small, nbytes=small.nbytes))


@check
async def leases_are_bounded_and_come_back(rig: Rig) -> None:
    node = rig.node
    node.adopt()
    mode = node.state().format
    assert node.lease(1 << 40) is None
    out: list[Lease] = []
    while (lease := node.lease(mode.nbytes)) is not None:
        assert len(lease.view) >= mode.nbytes
        assert lease.view.format == "B"
        assert not lease.view.readonly
        out.append(lease)
        assert len(out) < 1000
    assert len(out) >= 3
    for number, lease in enumerate(out):
        lease.view[0] = number
    assert [lease.view[0] for lease in out] == list(range(len(out)))  # nobody shares
    out[0].release()
    out[0].release()  # idempotent: it frees one, not two
    assert node.lease(mode.nbytes) is not None
    assert node.lease(mode.nbytes) is None


@check
async def refused_frames_give_their_lease_back(rig: Rig) -> None:
    node = rig.node
    generation = node.adopt()
    for number in range(100):
        assert not node.submit(filled(node, generation - 1, number, time.monotonic_ns()))


@check
async def a_lease_of_somebody_else_is_shown_and_released(rig: Rig) -> None:
    node = rig.node
    generation = node.adopt()
    mode = node.state().format
    async with watching(rig) as app:
        lease = ForeignLease(pattern(mode, 9))
        assert node.submit(Frame(lease, mode.nbytes, mode, 9, time.monotonic_ns(), generation))
        assert lease.released == 1
        await asyncio.to_thread(expect, app, pattern(mode, 9))
    stale = ForeignLease(pattern(mode, 9))
    assert not node.submit(Frame(stale, mode.nbytes, mode, 9, time.monotonic_ns(), generation - 1))
    assert stale.released == 1


@check
async def the_last_frame_can_be_repeated(rig: Rig) -> None:
    node = rig.node
    generation = node.adopt()
    mode = node.state().format
    async with watching(rig) as app:
        assert node.submit(filled(node, generation, 3, time.monotonic_ns()))
        await asyncio.to_thread(expect, app, pattern(mode, 3))
        for _ in range(20):
            stamp = time.monotonic_ns()
            assert node.repeat(stamp, generation)
            shown = time.monotonic_ns()
            again = await asyncio.to_thread(expect, app, pattern(mode, 3))
            while again.timestamp_ns < stamp - MICROSECOND:  # the node's own filler, from before
                again = await asyncio.to_thread(expect, app, pattern(mode, 3))
            assert again.timestamp_ns <= shown  # such a filler may have slipped in after the stamp was taken
        newer = node.adopt()
        assert node.repeat(time.monotonic_ns(), newer)  # continuity over a swap


@check
async def nobody_reading_blocks_nothing(rig: Rig) -> None:
    node = rig.node
    generation = node.adopt()
    async with watching(rig):
        longest = 0.0
        for number in range(50):
            picture = filled(node, generation, number, time.monotonic_ns())
            start = time.monotonic()
            assert node.submit(picture)
            longest = max(longest, time.monotonic() - start)
        assert longest < WAIT_S


@check
async def readers_come_and_go(rig: Rig) -> None:
    node = rig.node
    generation = node.adopt()
    mode = node.state().format
    for number in range(1, 6):
        async with watching(rig) as app:
            frame = filled(node, generation, number, time.monotonic_ns())
            assert node.submit(frame)
            await asyncio.to_thread(expect, app, pattern(mode, number))
            if node.caps.many_readers:
                async with watching(rig) as second:
                    assert node.submit(filled(node, generation, number + 50, time.monotonic_ns()))
                    await asyncio.to_thread(expect, app, pattern(mode, number + 50))
                    await asyncio.to_thread(expect, second, pattern(mode, number + 50))


@check
async def calls_beyond_its_caps_do_nothing(rig: Rig) -> None:
    node = rig.node
    generation = node.adopt()
    format = node.state().format
    node.placeholder(pattern(format, 1), format)
    node.push(generation, 0x009A090A, ControlChange(value=100))
    node.push_inputs([InputInfo("Automatic", True), InputInfo("Module", False)])


@check
async def closing_ends_the_events(rig: Rig) -> None:
    async def listen() -> None:
        async for _ in rig.node.events():
            pass

    listener = asyncio.ensure_future(listen())
    await asyncio.sleep(0)
    rig.node.close()
    async with asyncio.timeout(WAIT_S):
        await listener


class Lateness:
    """How late this process's threads are woken while something is measured: what a busy machine takes from all."""

    def __init__(self) -> None:
        self.worst_ns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        tick = 0.005
        before = time.monotonic_ns()
        while not self._stop.wait(tick):
            now = time.monotonic_ns()
            self.worst_ns = max(self.worst_ns, now - before - round(tick * 1e9))
            before = now

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


def check_gaps(stamps: list[int], interval_ns: int, lateness: Lateness) -> None:
    """Timestamps rise, and no two are more than two intervals apart, but for what the machine was late."""
    assert stamps == sorted(set(stamps))
    gaps = [b - a for a, b in itertools.pairwise(stamps)]
    allowed = 2 * interval_ns + 2 * lateness.worst_ns
    widest = gaps.index(max(gaps))
    assert gaps[widest] <= allowed, (
        f"a gap of {gaps[widest] / interval_ns:.2f} intervals after {widest} of {len(gaps)} pictures, "
        f"where threads were {lateness.worst_ns / 1e6:.1f} ms late"
    )


class NumberedSource:
    """Delivers numbered frames at a rate from a thread, as a module's source does."""

    def __init__(self, mode: Mode, sink: FrameSink, generation: int) -> None:
        self.mode, self.sink, self.generation = mode, sink, generation
        self.sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += float(self.mode.interval)
            lease = self.sink.lease(self.mode.nbytes)
            if lease is None:
                self.sink.dropped(self.generation, "no_lease")
                continue
            self.sent += 1
            lease.view[: self.mode.nbytes] = self.picture()
            now = time.monotonic_ns()
            self.sink.deliver(Frame(lease, self.mode.nbytes, self.mode, self.sent, now, self.generation))

    def picture(self) -> bytes:
        """Luma all alike: the generation in the upper half, so that a mixed picture shows."""
        luma = 40 + self.generation * 20
        if self.mode.fourcc == NV12:
            return bytes([luma]) * (self.mode.nbytes * 2 // 3) + bytes([128]) * (self.mode.nbytes // 3)
        return bytes([luma, 128]) * (self.mode.nbytes // 2)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def luma_range(data: bytes, mode: Mode) -> tuple[int, int]:
    luma = data[::2] if mode.fourcc == YUYV else data[: mode.width * mode.height]
    return min(luma), max(luma)


@check
async def the_picture_never_breaks_through_attach_swap_and_detach(rig: Rig) -> None:
    node = rig.node
    loop = asyncio.get_running_loop()
    lost: list[int] = []
    pipeline = Pipeline(
        node,
        loop=loop,
        on_lost=lambda generation, why: lost.append(generation),
        on_control=lambda generation, control, value: None,
        card=Card("No camera", ("conformance",)),
    )
    format = node.state().format
    pictures: list[Picture] = []
    stop = threading.Event()

    def record(app: App) -> None:
        while not stop.is_set():
            picture = app.next(0.2)
            if picture is not None:
                pictures.append(picture)

    with Lateness() as lateness:
        async with watching(rig) as app:
            recorder = asyncio.create_task(asyncio.to_thread(record, app))
            await asyncio.sleep(0.4)
            for generation in (1, 2):
                feed = pipeline.begin(generation, format)
                source = NumberedSource(format, feed, generation)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(source.stop)
                feed.lost(generation, Gone("pulled"))
                pipeline.end(Card("Detached", (str(generation),)), generation)
            await asyncio.sleep(1.0)
            stop.set()
            await recorder
    stats = pipeline.stats()
    await pipeline.close()

    assert lost == [1, 2]
    assert {len(picture.data) for picture in pictures} == {format.nbytes}
    stamps = [picture.timestamp_ns for picture in pictures]
    check_gaps(stamps, format.interval_ns, lateness)
    ranges = [luma_range(picture.data, format) for picture in pictures]
    shown = [low for low, high in ranges if low == high]
    assert [value for n, value in enumerate(shown) if n == 0 or shown[n - 1] != value][-2:] == [60, 80]
    assert any(low != high for low, high in ranges[-5:]), "the card comes back at the end"
    dropped = stats.frames_in - stats.submitted
    assert dropped <= 0.1 * stats.frames_in + 4 * lateness.worst_ns / format.interval_ns
    assert stats.cards > 0
    assert stats.repeated > 0
