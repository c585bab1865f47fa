# SPDX-License-Identifier: GPL-2.0-or-later
"""The director: a source that hangs keeps nobody off the stage, and what plays goes on until the next has a frame."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from maglens_daemon import director
from maglens_daemon.config import NodeConfig, PolicyConfig, Rule, SourceConfig
from maglens_daemon.director import START_S, STREAM_TRIES
from maglens_daemon.fake import MODE, FakeSource, FakeVisitor
from maglens_daemon.session_state import SessionState
from maglens_driver.errors import Deadline, Gone, Interrupted
from maglens_driver.frame import Frame
from maglens_driver.mode import NV12, Mode, make_mode
from maglens_driver.source import FrameSink
from maglens_v4l2.feed import Feed
from maglens_v4l2.memory_node import MemoryReader
from maglens_v4l2.pipeline import Pipeline
from tests.unit.test_bridge_developing import raw_mode
from tests.unit.test_daemon_manager import SMALL, WAIT_S, theatre


async def until_shown(app: MemoryReader, value: int) -> None:
    """Until the app has a picture whose first byte is this."""
    while (got := await asyncio.to_thread(app.copy, WAIT_S)) is not None:
        if got[1][0] == value:
            return
    raise AssertionError(f"no picture of {value} came")


async def until_seen(app: MemoryReader, visitor: FakeVisitor, *, upside_down: bool) -> None:
    """A picture whose first and last pixels differ is sent, and the app has it, turned by half or not."""
    source, luma = visitor.source, MODE.width * MODE.height
    assert source.sink is not None
    lease = source.sink.lease(MODE.nbytes)
    assert lease is not None
    lease.view[: MODE.nbytes] = bytes(n * 251 // MODE.nbytes for n in range(MODE.nbytes))
    ends = (lease.view[0], lease.view[luma - 1])
    source.sink.deliver(Frame(lease, MODE.nbytes, MODE, 9, time.monotonic_ns(), source.generation))
    while (got := await asyncio.to_thread(app.copy, WAIT_S)) is not None:
        if (got[1][0], got[1][luma - 1]) == (ends[::-1] if upside_down else ends):
            return
    raise AssertionError("no such picture came")


FRAME_S = float(MODE.interval)
LONG_S = 10 * WAIT_S  # nobody waits so long


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is not given up."""
    for limit in ("CONFIGURE_S", "START_S"):
        monkeypatch.setattr(f"maglens_daemon.session.{limit}", LONG_S)


@pytest.mark.parametrize("step", ["configure", "start"])
def test_one_plays_on_while_a_better_one_hangs(step: str) -> None:
    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            steady, stuck = FakeVisitor("1"), FakeVisitor("2")
            one = t.arrive(steady, "1-1")
            await t.until_playing(one)
            stuck.steps.hold(step)
            two = t.arrive(stuck, "1-2")
            await stuck.steps.reached(step)
            assert steady.source.frame(200)
            while (got := await asyncio.to_thread(app.copy, WAIT_S)) is not None:
                if got[1][0] == 200:
                    break
            assert got is not None
            assert t.manager.stage.playing is not None
            assert t.manager.stage.playing.session is one
            stuck.steps.free(step)
            await t.until_playing(two)
            await t.until(lambda: one.state is SessionState.READY, "the first has stopped")

    asyncio.run(play())


def test_no_switch_before_the_first_frame() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            steady, slow = FakeVisitor("1"), FakeVisitor("2")
            slow.source.plays = False
            one = t.arrive(steady, "1-1")
            await t.until_playing(one)
            two = t.arrive(slow, "1-2")
            await t.until(lambda: two.state is SessionState.STREAMING)
            assert t.manager.stage.playing is not None
            assert t.manager.stage.playing.session is one
            assert steady.source.sink is not None
            assert slow.source.frame()
            await t.until_playing(two)
            await t.until(lambda: one.state is SessionState.READY)

    asyncio.run(play())


@pytest.mark.parametrize("how", ["lost", "departs"])
def test_the_next_plays_on_when_the_one_before_goes_as_its_first_frame_comes(how: str) -> None:
    """Source threads are ahead of the loop: it hears that the first has gone when the second is on the stage."""

    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            first, second = FakeVisitor("1"), FakeVisitor("2")
            second.source.plays = False
            one = t.arrive(first, "1-1")
            await t.until_playing(one)
            two = t.arrive(second, "1-2")
            await t.until(lambda: two.state is SessionState.STREAMING)
            if how == "lost":
                first.source.lose(Gone("pulled"))
            else:
                t.manager.depart("1-1")
            assert second.source.frame(200)
            await t.until_playing(two)
            pipeline = t.manager.stage.pipeline
            assert pipeline is not None
            assert second.source.frame(201)
            await until_shown(app, 201)
            assert t.manager.stage.playing is not None
            assert pipeline.stats().generation == t.manager.stage.playing.generation

    asyncio.run(play())


class Brief(FakeSource):
    """It has its first frame while it starts, and goes in the same moment."""

    async def start(self, sink: FrameSink, generation: int) -> None:
        await super().start(sink, generation)
        raise Gone("pulled")


@pytest.mark.parametrize("heard", [True, False])
def test_one_lost_right_behind_its_first_frame_gives_the_stage_back(heard: bool) -> None:
    """Whether or not the loop has heard of that frame when it hears of the loss."""

    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            first, brief = FakeVisitor("1"), FakeVisitor("2")
            if heard:
                brief.source.plays = False
            else:
                brief.source = Brief(brief.steps, "2")
            one = t.arrive(first, "1-1")
            await t.until_playing(one)
            two = t.arrive(brief, "1-2")
            if heard:
                await t.until(lambda: two.state is SessionState.STREAMING)
                assert brief.source.frame(200)
                brief.source.lose(Gone("pulled"))
            await t.until(lambda: two.unplugged)
            await t.until_playing(one)  # displaced for a moment, and brought again
            assert first.source.frame(201)
            await until_shown(app, 201)

    asyncio.run(play())


def test_one_lost_right_behind_its_first_frame_leaves_an_empty_stage() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            brief = FakeVisitor("1")
            brief.source = Brief(brief.steps, "1")
            one = t.arrive(brief)
            await t.until(lambda: one.unplugged)
            pipeline = t.manager.stage.pipeline
            assert pipeline is not None and t.manager.stage.playing is None
            assert pipeline.stats().frames_in == 1
            assert pipeline.stats().generation is None

    asyncio.run(play())


def test_one_that_is_called_off_as_its_first_frame_comes_takes_the_stage_and_leaves_it() -> None:
    """Its frame has taken the stage from the one before, which has to be brought again."""

    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            first, second = FakeVisitor("1"), FakeVisitor("2")
            second.source.plays = False
            one = t.arrive(first, "1-1")
            await t.until_playing(one)
            two = t.arrive(second, "1-2")
            await t.until(lambda: two.state is SessionState.STREAMING)
            t.manager.use("fake/camera/1")
            assert second.source.frame(200)
            await t.until(lambda: two.state is SessionState.READY)
            await t.until_playing(one)
            assert first.source.frame(201)
            await until_shown(app, 201)

    asyncio.run(play())


def test_nobody_takes_a_stage_whose_node_has_gone() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            first, second = FakeVisitor("1"), FakeVisitor("2")
            second.source.plays = False
            await t.until_playing(t.arrive(first, "1-1"))
            two = t.arrive(second, "1-2")
            await t.until(lambda: two.state is SessionState.STREAMING)
            first.steps.hold("stop")
            stage, pipeline = t.manager.stage, t.manager.stage.pipeline
            assert pipeline is not None
            stage._on_failed(Gone("the node was taken away"))
            await first.steps.reached("stop")
            assert stage.pipeline is None
            assert second.source.frame(200), "its pipeline is still there"
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert stage.playing is None
            t.manager.reconsider()
            await t.until(lambda: two.state is SessionState.READY, "called off")
            assert pipeline.stats().generation is not None, "at once, not when that pipeline has ended"
            second.source.plays = True
            first.steps.free("stop")
            await t.until(lambda: len(t.nodes) == 2 and stage.pipeline is not None)
            t.watch()
            await t.until_playing(two)

    asyncio.run(play())


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("step", ["configure", "start"])
def test_a_third_comes_while_a_better_one_hangs(step: str) -> None:
    """From when it is late by a frame, the next best is brought beside it; the better one still takes the stage."""
    order = PolicyConfig(dwell_ms=0, rule=(Rule(identity="fake/camera/2"), Rule(identity="fake/camera/3")))

    async def play() -> None:
        async with theatre(replace(SMALL, policy=order)) as t:
            t.watch()
            one = t.arrive(FakeVisitor("1"), "1-1")
            await t.until_playing(one)
            stuck = FakeVisitor("2")
            stuck.steps.hold(step)
            two = t.arrive(stuck, "1-2")
            await stuck.steps.reached(step)
            (only,) = t.manager.directors
            only._records[two.id].start_s = LONG_S
            only._coming[two.id].began -= LONG_S + FRAME_S
            three = t.arrive(FakeVisitor("3"), "1-3")
            await t.until_playing(three)
            stuck.steps.free(step)
            await t.until_playing(two)

    asyncio.run(play())


@pytest.mark.usefixtures("patient")
def test_an_empty_stage_waits_for_nobody_who_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with theatre(replace(SMALL, policy=PolicyConfig(dwell_ms=0, rule=(Rule(port="1-1"),)))) as t:
            stuck, spare = FakeVisitor("1"), FakeVisitor("2")
            stuck.steps.hold("start")
            one, two = t.arrive(stuck, "1-1"), t.arrive(spare, "1-2")
            await t.until(lambda: one.state is two.state is SessionState.READY)
            (only,) = t.manager.directors
            brought: dict[int, float] = {}
            start = only._start

            def noted(record: Any, pipeline: Pipeline, now: float) -> None:
                brought.setdefault(record.session.id, now)
                start(record, pipeline, now)

            monkeypatch.setattr(only, "_start", noted)
            t.watch()
            await t.until_playing(two)
            late_by = brought[two.id] - brought[one.id] - (START_S + FRAME_S)
            assert -0.001 < late_by < WAIT_S / 2
            stuck.steps.free("start")
            await t.until_playing(one)
            await t.until(lambda: two.state is SessionState.READY)

    asyncio.run(play())


def test_one_that_failed_lately_gets_no_head_start() -> None:
    async def play() -> None:
        async with theatre(replace(SMALL, policy=PolicyConfig(dwell_ms=0, rule=(Rule(port="1-1"),)))) as t:
            sick, spare = FakeVisitor("1"), FakeVisitor("2")
            sick.steps.fail("start", Deadline("late"))
            one, two = t.arrive(sick, "1-1"), t.arrive(spare, "1-2")
            await t.until(lambda: one.state is two.state is SessionState.READY)
            sick.source.plays = False
            t.watch()
            await t.until(lambda: one.state is SessionState.STREAMING)
            await t.until_playing(two)
            assert sick.source.frame()
            await t.until_playing(one)

    asyncio.run(play())


def test_one_that_is_interrupted_too_often_is_refused_by_its_own_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not as one that was unplugged: it is still there."""
    monkeypatch.setattr(director, "RETRY_S", (0.0,) * len(director.RETRY_S))

    async def play() -> None:
        async with theatre() as t:
            sick = FakeVisitor("1")
            sick.steps.fail("start", *(Interrupted("its process has ended") for _ in range(STREAM_TRIES)))
            one = t.arrive(sick, "1-1")
            await t.until(lambda: one.state is SessionState.READY)
            t.watch()
            await t.until(lambda: one.state is SessionState.QUARANTINED)
            assert one.reason == "its process has ended"
            assert not one.unplugged

    asyncio.run(play())


def test_what_may_never_play_leaves_at_once() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            stuck = FakeVisitor("2")
            one = t.arrive(FakeVisitor("1"), "1-1")
            await t.until_playing(one)
            stuck.steps.hold("start")
            t.arrive(stuck, "1-2")
            await stuck.steps.reached("start")
            never = PolicyConfig(dwell_ms=0, rule=(Rule(port="1-1", use="never"),))
            t.manager.apply(replace(t.manager.config, policy=never))
            await t.until_playing(None)
            await t.until(lambda: one.state is SessionState.READY)

    asyncio.run(play())


def test_called_off_before_its_first_frame() -> None:
    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            slow = FakeVisitor("1")
            slow.source.plays = False
            one = t.arrive(slow, "1-1")
            await t.until(lambda: one.state is SessionState.STREAMING)
            app.stop()
            await t.until(lambda: one.state is SessionState.READY)
            assert t.manager.stage.playing is None
            slow.source.plays = True
            app.start()
            await t.until_playing(one)

    asyncio.run(play())


def test_a_camera_mounted_on_its_head_is_set_upright() -> None:
    config = replace(SMALL, source={"*/2": SourceConfig(rotate=180)})

    async def play() -> None:
        async with theatre(config) as t:
            app = t.watch()
            visitor = FakeVisitor("2")
            await t.until_playing(t.arrive(visitor))
            await until_seen(app, visitor, upside_down=True)

    asyncio.run(play())


def test_a_camera_on_its_side_is_asked_for_what_fills_the_picture_turned() -> None:
    """And not for its largest mode, which alone is as high as the node is."""
    wide, largest = MODE, make_mode(NV12, 128, 96, MODE.interval)
    config = replace(SMALL, node=NodeConfig(width=48, height=64), source={"*": SourceConfig(rotate=90)})

    async def play() -> None:
        async with theatre(config) as t:
            t.watch()
            await t.until_playing(t.arrive(FakeVisitor("2", (largest, wide))))
            assert t.manager.stage.playing is not None
            assert t.manager.stage.playing.mode == wide

    asyncio.run(play())


def test_a_camera_that_plays_is_turned_when_that_is_configured() -> None:
    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            visitor = FakeVisitor("2")
            camera = t.arrive(visitor)
            await t.until_playing(camera)
            await until_seen(app, visitor, upside_down=False)

            async def started(times: int) -> None:
                await t.until(lambda: visitor.source.generation == times)

            for times, rotate in ((2, 180), (3, 0)):
                t.manager.apply(replace(t.manager.config, source={"*/2": SourceConfig(rotate=rotate)}))
                await started(times)
                await t.until_playing(camera)
                await until_seen(app, visitor, upside_down=rotate == 180)

    asyncio.run(play())


def test_a_failure_after_that_is_not_told_as_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(director, "BUSY_S", 0.05)
    monkeypatch.setattr(director, "RETRY_S", (60.0,) * len(director.RETRY_S))

    async def play() -> None:
        async with theatre() as t:
            t.watch()
            visitor = FakeVisitor("1")
            visitor.steps.fail("configure", OSError(errno.EBUSY, "busy"), Deadline("late"))
            one = t.arrive(visitor, "1-1")
            (only,) = t.manager.directors
            await t.until(lambda: one.id in only._records and bool(only._records[one.id].failures))
            only._settle()
            assert not t.manager.obstacle(one)

    asyncio.run(play())


def test_a_camera_in_use_elsewhere_is_waited_for_and_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(director, "BUSY_S", 0.05)

    async def play() -> None:
        async with theatre() as t:
            t.watch()
            busy = FakeVisitor("1")
            busy.steps.fail("configure", *[OSError(errno.EBUSY, "busy")] * (2 * STREAM_TRIES))
            one = t.arrive(busy, "1-1")
            await t.until(lambda: "another program" in t.manager.obstacle(one))
            await t.until_playing(one)

    asyncio.run(play())


@pytest.mark.parametrize(("mode", "elsewhere"), [(MODE, False), (raw_mode(), True)], ids=["finished", "raw"])
def test_what_loads_numpy_is_not_done_in_the_loop(
    mode: Mode, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading it took longer than the watchdog waits, on an emulated machine that was busy besides."""
    threads: list[threading.Thread] = []
    begin = Pipeline.begin

    def watched(*args: Any) -> Feed:
        threads.append(threading.current_thread())
        return begin(*args)

    monkeypatch.setattr(Pipeline, "begin", watched)

    async def play() -> None:
        async with theatre() as t:
            t.watch()
            session = t.arrive(FakeVisitor("1", (mode,)))
            await t.until_playing(session)

    asyncio.run(play())
    assert [thread is not threading.main_thread() for thread in threads] == [elsewhere]


class Tight(FakeSource):
    """One of those that share a bus which carries one of them."""

    bus: set[str]

    async def start(self, sink: FrameSink, generation: int) -> None:
        if self.bus:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.bus.add(self.identity.serial)
        await super().start(sink, generation)

    async def stop(self) -> None:
        await super().stop()
        await asyncio.sleep(0.02)  # as drivers take
        self.bus.discard(self.identity.serial)


def tight(bus: set[str], serial: str) -> FakeVisitor:
    made = FakeVisitor(serial)
    made.source = Tight(made.steps, serial)
    made.source.bus = bus
    return made


def test_one_that_has_no_room_beside_another_plays_when_that_has_stopped() -> None:
    """As of two webcams on one bus: waiting for the second one's first frame would be waiting for ever."""

    async def play() -> None:
        bus: set[str] = set()
        async with theatre() as t:
            t.watch()
            one = t.arrive(tight(bus, "1"), "1-1")
            await t.until_playing(one)
            two = t.arrive(tight(bus, "2"), "1-2")
            await t.until_playing(two)
            t.manager.use("1")
            await t.until_playing(one)
            t.manager.use("auto")
            await t.until_playing(two)
            assert not any(record.failures for record in t.manager.directors[0]._records.values())
            t.manager.depart("1-2")
            await t.until_playing(one)

    asyncio.run(play())


def test_one_that_has_no_room_at_all_takes_it_from_another_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(director, "RETRY_S", (0.0,) * len(director.RETRY_S))

    async def play() -> None:
        async with theatre() as t:
            t.watch()
            steady, greedy = FakeVisitor("1"), FakeVisitor("2")
            one = t.arrive(steady, "1-1")
            await t.until_playing(one)
            greedy.steps.fail("start", *(OSError(errno.ENOSPC, "No space left") for _ in range(STREAM_TRIES + 1)))
            two = t.arrive(greedy, "1-2")
            await t.until(lambda: two.state is SessionState.QUARANTINED)
            await t.until_playing(one)
            assert steady.steps.passed["start"] == 2

    asyncio.run(play())


class Stuck(FakeSource):
    """It has no room beside another, and hangs where it has."""

    async def start(self, sink: FrameSink, generation: int) -> None:
        if generation == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        await asyncio.Event().wait()


@pytest.mark.usefixtures("patient")
def test_one_that_hangs_where_it_has_room_gives_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(director, "ROOM_S", 0.05)

    async def play() -> None:
        async with theatre() as t:
            t.watch()
            steady, stuck = FakeVisitor("1"), FakeVisitor("2")
            stuck.source = Stuck(stuck.steps, "2")
            one = t.arrive(steady, "1-1")
            await t.until_playing(one)
            t.arrive(stuck, "1-2")
            await t.until(lambda: steady.steps.passed["stop"] == 1)
            await t.until_playing(one)
            for _ in range(3):
                t.manager.reconsider()
                await asyncio.sleep(0.02)
            assert t.manager.stage.playing is not None
            assert steady.steps.passed["start"] == 2

    asyncio.run(play())
