# SPDX-License-Identifier: GPL-2.0-or-later
"""The manager with the real pipeline and a node in memory: who plays when, and that a failure stays one module's."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from maglens_daemon import stage, status
from maglens_daemon.config import Config, NodeConfig, PolicyConfig, PortConfig, PowerConfig, Rule
from maglens_daemon.director import STREAM_TRIES
from maglens_daemon.errors import NotFound
from maglens_daemon.fake import FOCUS, MODE, FakeVisitor
from maglens_daemon.in_process import VirtualVisitor
from maglens_daemon.legacy import Legacy
from maglens_daemon.manager import Manager
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_driver.errors import BadModule, Deadline, Gone, MissingDependency
from maglens_driver.mode import MJPG, Mode
from maglens_driver.virtual.source import VirtualSource
from maglens_v4l2.memory_node import MemoryNode, MemoryReader
from maglens_v4l2.node import Node
from maglens_v4l2.store import Store

SMALL = Config(node=NodeConfig(width=64, height=48), policy=PolicyConfig(dwell_ms=0))
WAIT_S = 10.0


class Theatre:
    """A manager at work, and one app."""

    def __init__(self, config: Config, also: Sequence[Mode], legacy: Legacy | None, input: int) -> None:
        self._also = also
        self._input = input
        self._folder = tempfile.TemporaryDirectory(prefix="maglens-")
        self.manager = Manager(config, self._open_node, Store(Path(self._folder.name)), legacy=legacy)
        self.nodes: list[MemoryNode] = []
        self.trouble: list[Exception] = []
        self._turn = asyncio.Event()
        self.manager.listeners.append(self._turn.set)

    async def _open_node(self, name: str, settings: NodeConfig) -> Node:
        if self.trouble:
            raise self.trouble[0]
        self.nodes.append(MemoryNode([settings.mode, *self._also]))
        self.nodes[-1].open().choose_input(self._input)
        return self.nodes[-1]

    def watch(self) -> MemoryReader:
        """An app opens the node and streams."""
        reader = self.nodes[-1].open()
        reader.start()
        return reader

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait for a change of the manager after which ``condition`` holds."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():
                    self._turn.clear()
                    if not condition():
                        await self._turn.wait()
        except TimeoutError:
            pytest.fail(f"never came: {what}; {status.status(self.manager)}")

    async def until_playing(self, session: Session | None) -> None:
        def plays() -> bool:
            playing = self.manager.stage.playing
            if session is None:
                return playing is None
            return playing is not None and playing.session is session and session.state is SessionState.STREAMING

        await self.until(plays, f"{session and session.port.path} plays")

    def arrive(self, visitor: FakeVisitor, port: str = "1-1") -> Session:
        session = self.manager.arrive(port, 5000, visitor)
        assert session is not None
        return session


@asynccontextmanager
async def theatre(
    config: Config = SMALL,
    *,
    trouble: Exception | None = None,
    also: Sequence[Mode] = (),
    legacy: Legacy | None = None,
    input: int = 0,
) -> AsyncIterator[Theatre]:
    """``input``: as an app has chosen it before the manager has the node."""
    made = Theatre(config, also, legacy, input)
    if trouble is not None:
        made.trouble.append(trouble)
    running = asyncio.create_task(made.manager.run())
    await made.manager.settled()
    try:
        yield made
        assert not running.done(), running
    finally:
        await made.manager.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_streams_only_while_somebody_watches() -> None:
    async def play() -> None:
        async with theatre() as t:
            visitor = FakeVisitor()
            session = t.arrive(visitor)
            await t.until(lambda: session.state is SessionState.READY)
            assert t.manager.stage.playing is None
            app = t.watch()
            await t.until_playing(session)
            assert visitor.source.frame(200)
            while (got := await asyncio.to_thread(app.copy, WAIT_S)) is not None:
                if got[1][0] == 200:
                    break
            assert got is not None
            app.stop()
            await t.until_playing(None)
            await t.until(lambda: session.state is SessionState.READY)
            assert visitor.source.sink is None

    asyncio.run(play())


def test_a_node_that_fails_again_is_not_made_in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cause would fail it at once; what may have changed that is waited for, at least for a while."""

    async def play() -> None:
        async with theatre() as t:
            played = t.manager.stage
            waits, hinted = asyncio.Event(), played._hinted_within

            async def noted(limit_s: float) -> bool:
                waits.set()
                return await hinted(limit_s)

            monkeypatch.setattr(played, "_hinted_within", noted)
            played._on_failed(Gone("the node was taken away"))
            await t.until(lambda: len(t.nodes) == 2 and played.pipeline is not None, "at once")
            assert not waits.is_set()
            played._on_failed(Gone("the node was taken away"))
            await asyncio.wait_for(waits.wait(), WAIT_S)
            assert len(t.nodes) == 2
            t.manager.node_hint()
            await t.until(lambda: len(t.nodes) == 3, "it was hinted at")

    monkeypatch.setattr(stage, "NODE_SETTLE_S", 10 * WAIT_S)
    asyncio.run(play())


def test_controls_are_written_once_a_frame_was_seen_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with theatre() as t:
            visitor = FakeVisitor("stored")
            t.manager.store.put("fake/camera/stored", FOCUS.id, 300)
            session = t.arrive(visitor)
            t.watch()
            await t.until_playing(session)
            assert visitor.steps.passed["set"] == 0, "no frame came yet"
            assert visitor.source.frame(200)
            await visitor.steps.reached("set")
            async with asyncio.timeout(WAIT_S):
                while visitor.source.values != {FOCUS.id: 300}:  # noqa: ASYNC110 the step is reached before its effect
                    await asyncio.sleep(0)

    asyncio.run(play())


def test_controls_are_set_and_the_ring_is_heard_while_nobody_watches() -> None:
    async def play() -> None:
        async with theatre() as t:
            visitor, store = FakeVisitor("rests"), t.manager.store
            store.put("fake/camera/rests", FOCUS.id, 300)
            session = t.arrive(visitor)

            async def until_it_is(value: int) -> None:
                async with asyncio.timeout(WAIT_S):
                    while visitor.source.values != {FOCUS.id: value}:  # noqa: ASYNC110 a value has no event
                        await asyncio.sleep(0)
                    while store.get("fake/camera/rests") != {FOCUS.id: value}:  # noqa: ASYNC110
                        await asyncio.sleep(0)

            await until_it_is(300)  # what is stored for it, at once
            t.nodes[-1].open().set_control(FOCUS.id, 120)  # as v4l2-ctl does, which streams nothing
            await until_it_is(120)
            visitor.source.values[FOCUS.id] = 200  # a hand on the ring
            session.hear_control(FOCUS.id, 200)
            await until_it_is(200)
            writes = visitor.steps.passed["set"]
            app = t.watch()
            await t.until_playing(session)
            assert visitor.source.frame(200)
            async with asyncio.timeout(WAIT_S):
                while visitor.steps.passed["set"] == writes:  # noqa: ASYNC110 the stored value, once more
                    await asyncio.sleep(0)
            await until_it_is(200)
            app.stop()
            await t.until_playing(None)
            await t.manager.set_controls(session, {FOCUS.id: 80})
            await until_it_is(80)

    asyncio.run(play())


def test_a_module_that_did_not_answer_is_asked_for_its_controls_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "ATTACH_AGAIN_S", (0.0, 0.0))

    async def play() -> None:
        async with theatre() as t:
            visitor = FakeVisitor("late")
            t.manager.store.put("fake/camera/late", FOCUS.id, 300)
            visitor.steps.fail("set", Deadline("no answer"), Deadline("no answer"))
            t.arrive(visitor)
            async with asyncio.timeout(WAIT_S):
                while visitor.source.values != {FOCUS.id: 300}:  # noqa: ASYNC110 a value has no event
                    await asyncio.sleep(0)

    asyncio.run(play())


def test_what_a_module_says_of_its_controls_is_held_to_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with theatre() as t:
            liar = FakeVisitor()
            liar.source.values = {FOCUS.id: -7, FOCUS.id + 1: 3}

            async def lies(values: Mapping[int, int]) -> Mapping[int, int]:
                return {FOCUS.id: 9999}

            monkeypatch.setattr(liar.source, "set", lies)
            session = t.arrive(liar)
            controls = t.manager.stage.controls
            assert controls is not None
            await t.until(lambda: t.manager.stage.heeded is session)
            async with asyncio.timeout(WAIT_S):
                while controls.values != {FOCUS.id: FOCUS.minimum}:  # noqa: ASYNC110 a value has no event
                    await asyncio.sleep(0)
            assert await t.manager.get_controls(session) == {FOCUS.id: FOCUS.minimum}
            assert await t.manager.set_controls(session, {FOCUS.id: 80}) == {FOCUS.id: FOCUS.maximum}
            session.hear_control(FOCUS.id, -2)
            assert controls.values == {FOCUS.id: FOCUS.minimum}

    asyncio.run(play())


def test_a_module_that_leaves_takes_its_controls_with_it() -> None:
    async def play() -> None:
        async with theatre() as t:
            session = t.arrive(FakeVisitor())
            await t.until(lambda: t.manager.stage.heeded is session)
            t.manager.depart("1-1")
            await t.until(lambda: t.manager.stage.heeded is None)
            controls = t.manager.stage.controls
            assert controls is not None
            assert controls.identity == ""

    asyncio.run(play())


def test_a_format_that_cannot_be_made_of_the_present_mode_takes_another() -> None:
    """MJPEG is passed on, never made: what plays is configured anew, while the app is between two streams."""

    async def play() -> None:
        jpeg = replace(SMALL.node.mode, fourcc=MJPG, stride=0)
        async with theatre(also=(jpeg,)) as t:
            visitor = FakeVisitor(modes=[MODE, jpeg])
            session = t.arrive(visitor)
            app = t.watch()
            await t.until_playing(session)
            app.stop()
            app.choose_format(jpeg)
            app.start()
            await t.until(lambda: session.mode == jpeg and session.state is SessionState.STREAMING)
            assert visitor.steps.passed["configure"] == 2

    asyncio.run(play())


def test_an_app_that_only_reconfigures_costs_no_restart() -> None:
    async def play() -> None:
        async with theatre() as t:
            visitor = FakeVisitor()
            session = t.arrive(visitor)
            app = t.watch()
            await t.until_playing(session)
            app.stop()
            app.start()
            await asyncio.sleep(1.0)
            assert visitor.steps.passed["start"] == 1
            assert t.manager.stage.playing is not None

    asyncio.run(play())


def test_what_is_snapped_on_last_plays_and_the_other_takes_over() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            first, second = FakeVisitor("1"), FakeVisitor("2")
            one = t.arrive(first, "1-1")
            await t.until_playing(one)
            two = t.arrive(second, "1-2")
            await t.until_playing(two)
            await t.until(lambda: one.state is SessionState.READY, "the first has stopped")
            second.unplug()
            t.manager.depart("1-2")
            await t.until_playing(one)
            assert t.manager.stage.playing is not None
            assert t.manager.stage.playing.generation == 3
            await t.until(lambda: t.manager.sessions == [one], "the second has left")

    asyncio.run(play())


def test_rules_and_choice() -> None:
    rules = PolicyConfig(dwell_ms=0, rule=(Rule(identity="fake/camera/1"),))

    async def play() -> None:
        async with theatre(replace(SMALL, policy=rules)) as t:
            t.watch()
            one, two = t.arrive(FakeVisitor("1"), "1-1"), t.arrive(FakeVisitor("2"), "1-2")
            await t.until_playing(one)
            assert t.manager.use("2") == "fake/camera/2"
            await t.until_playing(two)
            assert t.manager.use("auto") == "auto"
            await t.until_playing(one)
            t.manager.apply(replace(t.manager.config, policy=PolicyConfig(dwell_ms=0, rule=(Rule(port="1-2"),))))
            await t.until_playing(two)
            with pytest.raises(NotFound, match="no module fit 'x'; there is fake/camera/1, fake/camera/2"):
                t.manager.use("x")
            with pytest.raises(NotFound, match="2 modules fit 'camera'"):
                t.manager.use("camera")

    asyncio.run(play())


def test_two_with_one_identity(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            one = t.arrive(FakeVisitor("7"), "1-1")
            await t.until_playing(one)
            two = t.arrive(FakeVisitor("7"), "1-2")
            await t.until(lambda: two.state is SessionState.QUARANTINED)
            assert "1-1" in two.reason
            assert "1-2" in two.reason
            assert t.manager.stage.playing is not None
            assert t.manager.stage.playing.session is one
            t.manager.depart("1-1")
            t.manager.depart("1-2")
            await t.until(lambda: not t.manager.sessions)
            three = t.arrive(FakeVisitor("7"), "1-2")
            await t.until_playing(three)

    asyncio.run(play())


@pytest.mark.parametrize("error", [BadModule("descriptor_crc", "broken"), RuntimeError("a defect"), Deadline("late")])
@pytest.mark.parametrize("step", ["open", "agree", "configure", "start", "stop", "close"])
def test_one_modules_failure_touches_nobody_else(step: str, error: Exception) -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            healthy = FakeVisitor("1")
            one = t.arrive(healthy, "1-1")
            await t.until_playing(one)
            sick = FakeVisitor("2")
            sick.steps.fail(step, *[error] * 10)
            two = t.arrive(sick, "1-2")
            if step in ("stop", "close"):
                await t.until_playing(two)
            else:
                await t.until(lambda: two.state is SessionState.QUARANTINED)
            t.manager.depart("1-2")
            await t.until_playing(one)
            await t.until(lambda: t.manager.sessions == [one])
            assert healthy.source.frame()

    asyncio.run(play())


def test_a_stream_that_breaks_is_started_again_but_not_for_ever() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            visitor = FakeVisitor()
            session = t.arrive(visitor)
            for number in range(1, STREAM_TRIES):
                await t.until(lambda n=number: visitor.steps.passed["start"] == n and visitor.source.sink is not None)  # type: ignore[misc]
                visitor.source.lose(Deadline("it hangs"))
            await t.until(lambda: visitor.steps.passed["start"] == STREAM_TRIES and visitor.source.sink is not None)
            visitor.source.lose(Deadline("it hangs"))
            await t.until(lambda: session.state is SessionState.QUARANTINED)
            assert session.reason == "it hangs"
            assert t.manager.stage.playing is None

    asyncio.run(play())


def test_the_source_is_gone_before_the_port_says_so() -> None:
    async def play() -> None:
        async with theatre() as t:
            app = t.watch()
            visitor = FakeVisitor()
            session = t.arrive(visitor)
            await t.until_playing(session)
            visitor.source.lose(Gone("unplugged"))
            await t.until_playing(None)
            assert session.state is not SessionState.QUARANTINED
            t.manager.depart("1-1")
            await t.until(lambda: not t.manager.sessions)
            assert await asyncio.to_thread(app.copy, WAIT_S) is not None

    asyncio.run(play())


def test_ten_contacts_within_a_second() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            for _ in range(10):
                t.arrive(FakeVisitor("1"))
                await asyncio.sleep(0.02)
                t.manager.depart("1-1")
                await asyncio.sleep(0.02)
            last = t.arrive(FakeVisitor("1"))
            await t.until_playing(last)
            await t.until(lambda: t.manager.sessions == [last])

    asyncio.run(play())


def test_dwell_keeps_a_loose_contact_from_flickering() -> None:
    async def play() -> None:
        async with theatre(replace(SMALL, policy=PolicyConfig(dwell_ms=400))) as t:
            t.watch()
            one = t.arrive(FakeVisitor("1"), "1-1")
            await t.until_playing(one)
            for _ in range(3):
                loose = FakeVisitor("2")
                t.arrive(loose, "1-2")
                await asyncio.sleep(0.05)
                t.manager.depart("1-2")
                assert loose.steps.passed["start"] == 0
                assert t.manager.stage.playing is not None
                assert t.manager.stage.playing.session is one
                await t.until(lambda: t.manager.sessions == [one])
            await t.until_playing(t.arrive(FakeVisitor("2"), "1-2"))

    asyncio.run(play())


def test_the_budget_is_shared_and_given_back() -> None:
    async def play() -> None:
        async with theatre(replace(SMALL, power=PowerConfig(budget_mw=4800))) as t:
            one = t.arrive(FakeVisitor("1"), "1-1")
            await t.until(lambda: one.state is SessionState.READY)
            assert t.manager.allotment.granted_mw == 4500
            two = t.arrive(FakeVisitor("2"), "1-2")
            await t.until(lambda: two.state is SessionState.READY)
            assert two.contract is None, "300 mW are less than its cheapest mode, so nothing is offered"
            assert "no power is left for it" in t.manager.obstacle(two)
            assert t.manager.allotment.granted_mw == 4500
            t.manager.depart("1-1")
            t.manager.depart("1-2")
            await t.until(lambda: not t.manager.sessions)
            assert t.manager.allotment.granted_mw == 0

    asyncio.run(play())


BIG = replace(MODE, mw=2000)


@pytest.mark.parametrize(
    ("modes", "want_mw", "reason"),
    [
        ([BIG], 1000, "needs 2000 mW, the contract gives 1000"),
        ([replace(MODE, mbit_s=3751)], 2000, "needs 3751 Mbit/s, the link carries 3750"),
        ([], 2000, "no sensor of its own"),
    ],
)
def test_what_cannot_play_says_why(modes: list[Mode], want_mw: int, reason: str) -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            session = t.arrive(FakeVisitor(modes=modes, want_mw=want_mw))
            await t.until(lambda: bool(t.manager.obstacle(session)))
            assert reason in t.manager.obstacle(session)
            assert t.manager.stage.playing is None
            (module,) = status.status(t.manager)["modules"]
            assert reason in module["obstacle"]

    asyncio.run(play())


def test_no_node_is_one_clear_line_and_mended_without_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    problem = MissingDependency("the kernel module v4l2loopback is not loaded", hint="sudo modprobe v4l2loopback")

    async def play() -> None:
        async with theatre(trouble=problem) as t:
            session = t.arrive(FakeVisitor())
            await t.until(lambda: session.state is SessionState.READY)
            for _ in range(3):
                t.manager.node_hint()
                await asyncio.sleep(0.01)
            assert status.node_status(t.manager, t.manager.stage)["hint"] == "sudo modprobe v4l2loopback"
            t.trouble.clear()
            t.manager.node_hint()
            await t.until(lambda: t.manager.stage.node is not None)
            t.watch()
            await t.until_playing(session)

    asyncio.run(play())
    told = [r for r in caplog.records if "v4l2loopback" in r.getMessage()]
    assert len(told) == 1
    assert "try: sudo modprobe v4l2loopback" in told[0].getMessage()


def test_a_node_that_goes_is_made_again() -> None:
    async def play() -> None:
        async with theatre() as t:
            t.watch()
            session = t.arrive(FakeVisitor())
            await t.until_playing(session)
            t.nodes[0].close()
            await t.until(lambda: len(t.nodes) == 2 and t.manager.stage.node is t.nodes[1])
            t.watch()
            await t.until_playing(session)

    asyncio.run(play())


def test_a_port_that_is_switched_off_is_left_alone() -> None:
    async def play() -> None:
        async with theatre(replace(SMALL, port={"1-1": PortConfig(enabled=False)})) as t:
            visitor = FakeVisitor()
            assert t.manager.arrive("1-1", 5000, visitor) is None
            assert t.manager.sessions == []
            assert visitor.steps.passed["open"] == 0

    asyncio.run(play())


def test_a_virtual_module_through_the_whole_of_it() -> None:
    """Nothing is fake here but USB."""

    async def play() -> None:
        async with theatre(Config(node=NodeConfig(width=640, height=480))) as t:
            source = VirtualSource("35mm")
            await source.prepare()
            app = t.watch()
            await t.until(lambda: t.manager.stage.pipeline is not None and t.manager.stage.pipeline.watched)
            visitor = VirtualVisitor(source)
            session = t.manager.arrive("virtual", 5000, visitor)
            assert session is not None
            await t.until_playing(session)
            pipeline = t.manager.stage.pipeline
            assert pipeline is not None
            while pipeline.stats().submitted < 3:
                assert await asyncio.to_thread(app.copy, WAIT_S) is not None
            (module,) = status.status(t.manager)["modules"]
            assert module["state"] == "streaming"
            contract = module["contract"]
            assert contract is not None
            assert contract["mv"] * contract["operating_ma"] == max(m.mw for m in source.modes) * 1000
            assert not contract["capability_mismatch"]
            assert module["mode"] is not None
            assert module["mode"]["text"] == "640x480 NV12 30 fps"
            assert module["attach_to_frame_ms"] is not None
            assert 0 < module["attach_to_frame_ms"] < WAIT_S * 1000
            visitor.unplug()
            t.manager.depart("virtual")
            await t.until(lambda: not t.manager.sessions)

    asyncio.run(play())
