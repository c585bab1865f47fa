# SPDX-License-Identifier: GPL-2.0-or-later
"""The pipeline on a memory node: who is shown when, what is dropped and counted, and what never happens."""

from __future__ import annotations

import asyncio
import io
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from maglens_driver.errors import Gone, Refused
from maglens_driver.frame import Frame
from maglens_driver.link.descriptor import Calibration, Lens, Profile
from maglens_driver.mode import MJPG, NV12, SRGGB10P, YUYV, Mode, make_mode
from maglens_v4l2 import correcting
from maglens_v4l2.card import Card, render
from maglens_v4l2.convert import Converter
from maglens_v4l2.feed import HOLD_NS, Feed
from maglens_v4l2.memory_node import MemoryNode, MemoryReader
from maglens_v4l2.node import FormatChosen, NodeEvent
from maglens_v4l2.optics import Optics
from maglens_v4l2.orientation import UPRIGHT
from maglens_v4l2.pipeline import Pipeline
from tests.unit.allocations import Allocations

FAST = Fraction(1, 100)
NODE = make_mode(NV12, 128, 96, FAST)
WIDE = make_mode(YUYV, 192, 96, FAST)
CARD = Card("Waiting", ("for a module",))
LENS = Optics(Lens("50 mm f/2", (50_000, 50_000), (2000, 2000), 700), Profile(), Calibration())
WAIT_S = 5.0


@dataclass
class Stage:
    """A pipeline on a node with one reader that remembers what it saw."""

    node: MemoryNode
    pipeline: Pipeline
    reader: MemoryReader
    taken: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    lost: list[tuple[int, Exception]] = field(default_factory=list)
    controls: list[tuple[int, int, int]] = field(default_factory=list)
    flags: list[tuple[int, int, bool]] = field(default_factory=list)
    events: list[NodeEvent] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)

    async def see(self, wanted: Callable[[bytes], bool], limit: float = WAIT_S) -> bytes:
        """Read until a picture is as wanted."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            got = await asyncio.to_thread(self.reader.copy, limit)
            if got is not None and wanted(got[1]):
                return got[1]
        raise AssertionError("never shown")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 counters have no event
                await asyncio.sleep(0.001)


def play(act: Callable[[Stage], Awaitable[None]], formats: tuple[Mode, ...] = (NODE,), watch: bool = True) -> None:
    async def run() -> None:
        node = MemoryNode(formats)
        stage: Stage
        events: list[NodeEvent] = []
        failed: list[Exception] = []
        taken: list[int] = []
        first: list[int] = []
        pipeline = Pipeline(
            node,
            loop=asyncio.get_running_loop(),
            on_taken=taken.append,
            on_lost=lambda generation, why: stage.lost.append((generation, why)),
            on_control=lambda generation, control, value: stage.controls.append((generation, control, value)),
            on_active=lambda generation, control, active: stage.flags.append((generation, control, active)),
            on_event=events.append,
            on_first=first.append,
            on_failed=failed.append,
            card=CARD,
        )
        stage = Stage(node, pipeline, node.open(), taken=taken, first=first, events=events, failed=failed)
        if watch:
            stage.reader.start()
        await stage.until(lambda: pipeline.watched == watch and bool(stage.events))
        try:
            await act(stage)
        finally:
            await pipeline.close()
        assert not [t for t in threading.enumerate() if t.name.startswith("maglens-")]

    asyncio.run(run())


def frame(feed: Feed, luma: int = 90, seq: int = 1) -> Frame:
    mode = feed.mode
    lease = feed.lease(mode.nbytes)
    assert lease is not None
    view = np.frombuffer(lease.view, np.uint8, mode.nbytes)
    view[:] = 128
    if mode.fourcc == YUYV:
        view[::2] = luma
    else:
        view[: mode.width * mode.height] = luma
    return Frame(lease, mode.nbytes, mode, seq, time.monotonic_ns(), feed.generation)


def flat(mode: Mode, luma: int) -> Callable[[bytes], bool]:
    def wanted(data: bytes) -> bool:
        plane = data[::2] if mode.fourcc == YUYV else data[: mode.width * mode.height]
        return set(plane) == {luma}

    return wanted


def is_card(card: Card, mode: Mode = NODE) -> Callable[[bytes], bool]:
    return lambda data: data == render(card, mode)


def test_the_card_is_shown_while_there_is_no_source() -> None:
    async def act(stage: Stage) -> None:
        await stage.see(is_card(CARD))
        stage.pipeline.show(Card("Other"))
        await stage.see(is_card(Card("Other")))
        await stage.until(lambda: stage.node.placeholder_image == render(Card("Other"), NODE))
        assert stage.pipeline.stats().cards > 0

    play(act)


def test_the_last_frame_stands_in_for_half_a_second_then_the_card() -> None:
    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, NODE)
        feed.deliver(frame(feed))
        await stage.see(flat(NODE, 90))
        began = stage.pipeline.stats().last_frame_ns
        stage.pipeline.end(Card("Detached"), 1)
        await stage.see(is_card(Card("Detached")))
        held = time.monotonic_ns() - began
        assert HOLD_NS <= held < 2 * HOLD_NS
        assert stage.pipeline.stats().repeated >= 5  # of 50; a busy machine skips some

    play(act)


def test_the_end_of_one_that_was_displaced_is_not_the_end_of_the_next() -> None:
    async def act(stage: Stage) -> None:
        first, second = stage.pipeline.begin(1, NODE), stage.pipeline.begin(2, NODE)
        first.deliver(frame(first))
        second.deliver(frame(second))
        stage.pipeline.end(Card("Detached"), 1)
        second.deliver(frame(second, 120, 2))
        await stage.see(flat(NODE, 120))
        assert stage.pipeline.stats().generation == 2

    play(act)


def test_a_source_slower_than_the_hold_does_not_flicker() -> None:
    slow = make_mode(NV12, 128, 96, Fraction(3, 4))

    async def act(stage: Stage) -> None:
        await stage.see(is_card(CARD))
        feed = stage.pipeline.begin(1, slow)
        feed.deliver(frame(feed))
        await stage.see(flat(slow, 90))
        cards = stage.pipeline.stats().cards
        await asyncio.sleep(0.8)
        assert stage.pipeline.stats().cards == cards

    play(act)


def test_pass_through_lends_the_nodes_own_memory() -> None:
    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, NODE)
        lease = feed.lease(NODE.nbytes)
        own = stage.node.lease(NODE.nbytes)
        assert lease is not None
        assert own is not None
        ours = {id(lease.view), id(own.view)}
        lease.release()
        own.release()
        again = stage.node.lease(NODE.nbytes)
        assert again is not None
        assert id(again.view) in ours
        stage.pipeline.withdraw(1)
        assert feed.lease(NODE.nbytes) is None

    play(act)


@pytest.mark.parametrize(
    ("mode", "node"),
    [
        (make_mode(YUYV, 128, 96, FAST), NODE),
        (make_mode(NV12, 128, 96, FAST), WIDE),
        (Mode(NV12, 128, 96, 160, 160 * 96 * 3 // 2, FAST), NODE),
        (make_mode(YUYV, 256, 192, FAST), NODE),
        (make_mode(NV12, 64, 48, FAST), NODE),
    ],
)
def test_other_formats_strides_and_sizes_are_converted(mode: Mode, node: Mode) -> None:
    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, mode)
        lease = feed.lease(mode.nbytes)
        assert lease is not None
        data = np.frombuffer(lease.view, np.uint8, mode.nbytes)
        data[:] = 128
        if mode.fourcc == YUYV:
            data[::2] = 90
        else:
            data[: mode.stride * mode.height] = 90
        feed.deliver(Frame(lease, mode.nbytes, mode, 1, time.monotonic_ns(), 1))
        middle = (node.height // 2) * node.stride + node.stride // 2
        await stage.see(lambda data: data[middle] == 90 and len(data) == node.nbytes and data != render(CARD, node))
        assert stage.pipeline.stats().submitted == 1

    play(act, (node,))


@pytest.mark.parametrize("size", [(128, 96), (320, 240)])
def test_mjpeg_is_decoded_and_damage_is_counted(size: tuple[int, int]) -> None:
    mode = Mode(MJPG, *size, 0, 65536, FAST)
    out = io.BytesIO()
    Image.new("YCbCr", size, (120, 128, 128)).save(out, "JPEG", quality=95)
    jpeg = out.getvalue()

    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, mode)

        def send(data: bytes) -> None:
            lease = feed.lease(len(data))
            assert lease is not None
            lease.view[: len(data)] = data
            feed.deliver(Frame(lease, len(data), mode, 1, time.monotonic_ns(), 1))

        send(jpeg)
        expected = round(16 + 120 * 219 / 255)
        await stage.see(lambda data: abs(data[NODE.stride * 48 + 64] - expected) <= 1)
        send(b"no jpeg at all")
        await stage.until(lambda: stage.pipeline.stats().dropped == {"undecodable": 1})
        send(jpeg[:-10])
        await stage.until(lambda: stage.pipeline.stats().dropped == {"undecodable": 1, "jpeg_damaged": 1})
        assert stage.pipeline.stats().submitted == 2

    play(act)


def test_mjpeg_is_passed_on_to_an_app_that_takes_it() -> None:
    """Byte for byte, in the length that each picture has; a card is one, too."""
    node = replace(NODE, fourcc=MJPG, stride=0, nbytes=NODE.width * NODE.height)
    native = replace(node, nbytes=node.nbytes // 2)
    out = io.BytesIO()
    Image.new("RGB", (NODE.width, NODE.height), (90, 80, 70)).save(out, "JPEG")
    picture = out.getvalue()

    async def act(stage: Stage) -> None:
        await stage.see(is_card(CARD, node))
        feed = stage.pipeline.begin(1, native)
        lease = feed.lease(native.nbytes)
        assert lease is not None
        lease.view[: len(picture)] = picture
        feed.deliver(Frame(lease, len(picture), native, 1, time.monotonic_ns(), feed.generation))
        await stage.see(lambda data: data == picture)

    play(act, formats=(node,))


def test_a_mode_that_cannot_be_converted_is_refused_and_nothing_changes() -> None:
    raw = make_mode(SRGGB10P, 128, 96, FAST)

    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, NODE)
        with pytest.raises(Refused):
            stage.pipeline.begin(2, raw)
        feed.deliver(frame(feed))
        await stage.see(flat(NODE, 90))

    play(act)


def test_stale_unwatched_and_displaced_frames_are_dropped_and_given_back() -> None:
    async def act(stage: Stage) -> None:
        pipeline = stage.pipeline
        old = pipeline.begin(1, NODE)
        for _ in range(30):
            old.deliver(frame(old))
        assert pipeline.stats().dropped == {"unwatched": 30}
        late = [frame(old) for _ in range(5)]
        assert pipeline.withdraw(1)
        for one in late:
            old.deliver(one)
        assert pipeline.stats().dropped["stale"] == 5
        stage.reader.start()
        await stage.until(lambda: pipeline.watched)
        feed = pipeline.begin(2, NODE)
        small = make_mode(NV12, 64, 48, FAST)
        feed.deliver(replace(frame(feed), mode=small))
        assert pipeline.stats().dropped["mode"] == 1
        for number in range(30):
            feed.deliver(frame(feed, luma=50 + number))
        await stage.see(flat(NODE, 79))  # the newest wins
        stats = pipeline.stats()
        assert stats.submitted + stats.dropped["displaced"] == 30

    play(act, watch=False)


def test_no_old_frame_after_a_swap() -> None:
    async def act(stage: Stage) -> None:
        before = stage.pipeline.begin(0, NODE)
        before.deliver(frame(before, luma=50))
        for generation in range(1, 40):
            late = frame(before, luma=200)
            feed = stage.pipeline.begin(generation, NODE)
            feed.deliver(frame(feed, luma=50))
            before.deliver(late)
            before = feed
            got = await asyncio.to_thread(stage.reader.copy, WAIT_S)
            assert got is not None
            assert not flat(NODE, 200)(got[1])

    play(act)


def test_one_plays_on_until_the_next_has_a_frame() -> None:
    async def act(stage: Stage) -> None:
        pipeline = stage.pipeline
        first, second = pipeline.begin(1, NODE), pipeline.begin(2, WIDE)
        first.deliver(frame(first, luma=60))
        await stage.see(flat(NODE, 60))
        first.deliver(frame(first, luma=70))
        await stage.see(flat(NODE, 70))
        assert stage.taken == [1]
        second.deliver(frame(second, luma=80))
        await stage.see(lambda data: data[48 * NODE.stride + 64] == 80)
        assert stage.taken == [1, 2]
        assert not pipeline.withdraw(2), "it is on the stage"
        assert first.lease(NODE.nbytes) is None

    play(act)


def test_nobody_takes_the_stage_from_a_better_one() -> None:
    async def act(stage: Stage) -> None:
        pipeline = stage.pipeline
        best, second = pipeline.begin(1, NODE), pipeline.begin(2, NODE)
        pipeline.prefer([1, 2])
        second.deliver(frame(second, luma=60))
        await stage.see(flat(NODE, 60))
        best.deliver(frame(best, luma=70))
        await stage.see(flat(NODE, 70))
        third = pipeline.begin(3, NODE)
        third.deliver(frame(third, luma=80))
        assert pipeline.stats().dropped == {"outranked": 1}
        best.lost(1, Gone("pulled"))
        third.deliver(frame(third, luma=90))
        await stage.see(flat(NODE, 90))
        assert stage.taken == [2, 1, 3]

    play(act)


def test_a_frame_is_shown_at_once() -> None:
    mode = make_mode(NV12, 128, 96, Fraction(1, 5))
    delays: list[float] = []

    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, mode)
        for number in range(7):
            fresh = frame(feed, luma=100 + number)
            start = time.monotonic()
            feed.deliver(fresh)
            await stage.see(flat(mode, 100 + number))
            delays.append(time.monotonic() - start)
            await asyncio.sleep(max(0, float(mode.interval) - delays[-1]))

    play(act, (mode,))
    assert statistics.median(delays) < float(mode.interval) / 5


def test_deliver_never_waits_for_a_slow_node(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        entered, go_on = threading.Event(), threading.Event()
        submit = stage.node.submit

        def slow(frame: Frame) -> bool:
            entered.set()
            go_on.wait(WAIT_S)
            return submit(frame)

        monkeypatch.setattr(stage.node, "submit", slow)
        feed = stage.pipeline.begin(1, NODE)
        feed.deliver(frame(feed))
        await stage.until(entered.is_set)
        start = time.monotonic()
        for _ in range(20):
            feed.deliver(frame(feed))
        assert time.monotonic() - start < WAIT_S / 2
        go_on.set()

    play(act)


def test_the_first_frame_of_each_generation_is_told_once() -> None:
    async def act(stage: Stage) -> None:
        for generation in (1, 2):
            feed = stage.pipeline.begin(generation, NODE)
            assert stage.first == list(range(1, generation)), "none was shown yet"
            for luma in (90, 120):
                feed.deliver(frame(feed, luma))
                await stage.see(flat(NODE, luma))
            await stage.until(lambda generation=generation: stage.first == list(range(1, generation + 1)))  # type: ignore[misc]

    play(act)


def test_lost_is_told_once_and_ends_the_generation() -> None:
    async def act(stage: Stage) -> None:
        why = Gone("pulled")
        feed = stage.pipeline.begin(5, NODE)
        late = frame(feed)
        feed.control(5, 1, 2)
        feed.control(4, 1, 3)
        feed.lost(4, why)
        feed.lost(5, why)
        feed.lost(5, why)
        feed.control(5, 1, 4)
        feed.deliver(late)
        await stage.until(lambda: bool(stage.lost))
        await asyncio.sleep(0)
        assert stage.lost == [(5, why)]
        assert stage.controls == [(5, 1, 2)]
        assert stage.pipeline.stats().dropped == {"stale": 1}

    play(act)


def test_an_app_may_choose_another_format_between_streams() -> None:
    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, NODE)
        stage.reader.choose_format(WIDE)
        await stage.until(lambda: stage.pipeline.format == WIDE)
        assert any(isinstance(event, FormatChosen) for event in stage.events)
        stage.reader.start()
        await stage.see(is_card(CARD, WIDE))
        feed.deliver(frame(feed))
        await stage.see(lambda data: data[WIDE.stride * 48 + 192] == 90)

    play(act, (NODE, WIDE), watch=False)


def test_another_format_behind_a_bare_lens_takes_no_new_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which take seconds to make, and the loop would stand still meanwhile."""

    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, NODE, UPRIGHT, LENS)
        monkeypatch.setattr(correcting, "table", None)
        stage.reader.choose_format(WIDE)
        await stage.until(lambda: stage.pipeline.format == WIDE)
        stage.reader.start()
        await stage.until(lambda: stage.pipeline.watched)
        feed.deliver(frame(feed))
        await stage.see(lambda data: data[WIDE.stride * 48 + 192] == 90)

    play(act, (NODE, WIDE), watch=False)


def test_a_feed_that_is_begun_while_the_format_changes_leads_to_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stage: Stage) -> None:
        first = stage.pipeline.begin(1, NODE)
        begun: list[Feed] = []
        way = Feed.way

        def slowly(feed: Feed, shown: Mode) -> tuple[Converter | None, bool]:
            if not begun:
                begun.append(stage.pipeline.begin(2, NODE))  # as another thread does
            return way(feed, shown)

        monkeypatch.setattr(Feed, "way", slowly)
        stage.reader.choose_format(WIDE)
        await stage.until(lambda: stage.pipeline.format == WIDE)
        assert first.converter is not None
        assert begun[0].converter is not None
        stage.reader.start()
        await stage.until(lambda: stage.pipeline.watched)
        begun[0].deliver(frame(begun[0]))
        await stage.see(lambda data: data[WIDE.stride * 48 + 192] == 90)

    play(act, (NODE, WIDE), watch=False)


def test_a_node_that_is_taken_away_is_told_once() -> None:
    async def act(stage: Stage) -> None:
        stage.node.close()
        await stage.until(lambda: bool(stage.failed))
        assert isinstance(stage.failed[0], Gone)

    play(act)


def test_fillers_that_come_too_late_are_left_to_a_node_that_fills_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fills = replace(MemoryNode((NODE,)).caps, outlives_daemon=True)
    monkeypatch.setattr(MemoryNode, "caps", fills)

    async def act(stage: Stage) -> None:
        def hold_up() -> None:
            with stage.pipeline._wake:
                time.sleep(0.1)  # ten pictures

        await stage.see(is_card(CARD))
        await asyncio.to_thread(hold_up)
        await stage.until(lambda: stage.pipeline.stats().left > 0)

    play(act)


def test_nothing_runs_while_nobody_watches() -> None:
    async def act(stage: Stage) -> None:
        stage.pipeline.begin(1, NODE)
        before = stage.pipeline.stats()
        await asyncio.sleep(0.2)
        assert stage.pipeline.stats() == before
        stage.reader.start()
        await stage.see(is_card(CARD))
        stage.reader.stop()
        await stage.until(lambda: not stage.pipeline.watched)

    play(act, watch=False)


POOL = 8  # buffers
PASSED_ON, CONVERTED, DECODED = NODE, make_mode(YUYV, 256, 192, FAST), replace(NODE, fourcc=MJPG, stride=0)


@pytest.mark.parametrize("mode", [PASSED_ON, CONVERTED, DECODED], ids=["passed on", "converted", "decoded"])
def test_no_frame_is_copied_in_python(mode: Mode) -> None:
    """Over 300 frames, nothing as large as one is set aside, neither by Python nor by a memory map."""
    out = io.BytesIO()
    Image.new("RGB", (NODE.width, NODE.height), (90, 80, 70)).save(out, "JPEG")
    picture = out.getvalue() if mode.fourcc == MJPG else bytes(mode.nbytes)

    async def act(stage: Stage) -> None:
        pipeline, reader = stage.pipeline, stage.reader
        feed = pipeline.begin(1, mode)

        def rounds(count: int) -> None:
            for _ in range(count):
                lease = feed.lease(mode.nbytes)
                if lease is not None:
                    lease.view[: len(picture)] = picture
                    feed.deliver(Frame(lease, len(picture), mode, 1, time.monotonic_ns(), feed.generation))
                shown = reader.read(WAIT_S)
                assert shown is not None
                reader.give_back(shown)

        await asyncio.to_thread(rounds, 10)
        with Allocations() as allocations:
            await asyncio.to_thread(rounds, 5)
            allocations.restart()
            await asyncio.to_thread(rounds, 300)
        assert pipeline.stats().submitted > 200
        assert allocations.peak < 16_384 < NODE.nbytes  # all threads' small objects together; not one frame
        assert allocations.maps <= POOL  # which makes a buffer when it is first needed, and keeps it

    play(act)


def test_timestamps_rise_and_frames_keep_their_exposure() -> None:
    async def act(stage: Stage) -> None:
        feed = stage.pipeline.begin(1, NODE)
        stamps: list[int] = []
        exposures: set[int] = set()
        for _ in range(40):
            fresh = frame(feed)
            fresh = replace(fresh, exposure_ns=fresh.exposure_ns - 3_000_000)
            exposures.add(fresh.exposure_ns)
            feed.deliver(fresh)
            got = await asyncio.to_thread(stage.reader.copy, WAIT_S)
            assert got is not None
            stamps.append(got[0].timestamp_ns)
            await asyncio.sleep(0.01)
        assert stamps == sorted(set(stamps))
        assert len(exposures & set(stamps)) > 10

    play(act)
