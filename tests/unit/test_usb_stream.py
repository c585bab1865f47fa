# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module can do wrong while it streams: each damage has its cause, and good frames come again."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import threading
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import TypeVar

import pytest

from maglens_driver.control import Cid
from maglens_driver.errors import BadModule, Deadline, Gone, MaglensError, Refused
from maglens_driver.link import wire
from maglens_driver.link.wire import Op
from maglens_driver.mode import MJPG
from maglens_driver.usb import stream
from maglens_driver.usb.checks import OUT_OF_STEP
from maglens_driver.usb.fake import trailer_for
from maglens_driver.usb.source import ModuleSource
from maglens_driver.usb.stream import ALLOWED, Phase
from maglens_driver.usb.transport import NoTransferMemory
from tests.unit.source_conformance import RecordingSink
from tests.unit.usb_rig import DESCRIPTOR, FakeRig

T = TypeVar("T")
Writes = list[bytes]
NV12_MODE, YUYV_MODE, MJPG_MODE = range(3)


def run(rig: FakeRig, body: Callable[[ModuleSource, RecordingSink], Awaitable[T]], mode: int = NV12_MODE) -> T:
    """``body`` with a source that is configured and a sink."""

    async def whole() -> T:
        source = await rig.open()
        try:
            await source.configure(source.modes[mode])
            return await body(source, RecordingSink(keep=3))
        finally:
            await source.close()

    return asyncio.run(whole())


def resealed(raw: bytes, **changes: int) -> bytes:
    return wire.seal(dataclasses.replace(wire.Leader.unpack(raw), **changes))


def retrailed(raw: bytes, **changes: int) -> bytes:
    return wire.seal(dataclasses.replace(wire.Trailer.unpack(raw), **changes))


def flipped(raw: bytes, at: int = -1) -> bytes:
    changed = bytearray(raw)
    changed[at] ^= 0x55
    return bytes(changed)


DAMAGE: dict[str, tuple[str, Callable[[Writes], Writes]]] = {
    "wrong magic": ("leader_magic", lambda w: [resealed(w[0], magic=5), *w[1:]]),
    "newer major": ("leader_version", lambda w: [resealed(w[0], major=2), *w[1:]]),
    "leader's crc": ("leader_crc", lambda w: [flipped(w[0]), *w[1:]]),
    "old epoch": ("leader_epoch", lambda w: [resealed(w[0], epoch=0), *w[1:]]),
    "other width": ("leader_geometry", lambda w: [resealed(w[0], width=66), *w[1:]]),
    "other height": ("leader_geometry", lambda w: [resealed(w[0], height=50), *w[1:]]),
    "other stride": ("leader_geometry", lambda w: [resealed(w[0], stride=256), *w[1:]]),
    "other fourcc": ("leader_geometry", lambda w: [resealed(w[0], fourcc=5), *w[1:]]),
    "lying length": ("leader_geometry", lambda w: [resealed(w[0], payload_bytes=9999), *w[1:]]),
    "id going back": ("leader_id", lambda w: [resealed(w[0], frame_id=0), *w[1:]]),
    "short leader": ("leader_length", lambda w: [w[0][:12], *w[1:]]),
    "long leader": ("leader_length", lambda w: [w[0] + bytes(500), *w[1:]]),
    "leader missing": ("leader_length", lambda w: w[1:]),
    "empty leader": ("leader_length", lambda w: [b"", *w[1:]]),
    "short payload": ("payload_short", lambda w: [w[0], w[1][:-1], w[2]]),
    "very short payload": ("payload_short", lambda w: [w[0], w[1][:10], w[2]]),
    "empty payload": ("payload_short", lambda w: [w[0], b"", w[2]]),
    "long payload": ("payload_long", lambda w: [w[0], w[1] + b"x", w[2]]),
    "very long payload": ("payload_long", lambda w: [w[0], w[1] * 3, w[2]]),
    "payload missing": ("payload_short", lambda w: [w[0], w[2]]),
    "payload's crc": ("payload_crc", lambda w: [w[0], flipped(w[1]), w[2]]),
    "first byte": ("payload_crc", lambda w: [w[0], flipped(w[1], 0), w[2]]),
    "trailer missing": ("trailer_missing", lambda w: w[:2]),
    "short trailer": ("trailer_length", lambda w: [*w[:2], w[2][:31]]),
    "trailer's magic": ("trailer_magic", lambda w: [*w[:2], retrailed(w[2], magic=1)]),
    "trailer's major": ("trailer_version", lambda w: [*w[:2], retrailed(w[2], major=9)]),
    "trailer's crc": ("trailer_crc", lambda w: [*w[:2], flipped(w[2])]),
    "another's trailer": ("trailer_frame", lambda w: [*w[:2], retrailed(w[2], frame_id=0)]),
    "trailer's length": ("trailer_frame", lambda w: [*w[:2], retrailed(w[2], payload_bytes=1)]),
    "incomplete": ("payload_incomplete", lambda w: [*w[:2], retrailed(w[2], flags=1)]),
}
BAD_FRAME = 5


class Once:
    """A frame hook that damages one frame: the first from ``first`` on (a slow machine skips some)."""

    def __init__(self, damage: Callable[[Writes], Writes], first: int = 3) -> None:
        self.damage = damage
        self.first = first
        self.damaged = -1

    def __call__(self, frame_id: int, writes: Writes) -> Writes:
        if self.damaged < 0 and frame_id >= self.first:
            self.damaged = frame_id
            return self.damage(writes)
        return writes


@pytest.mark.parametrize(("packet", "fifo"), [(64, 0), (1024, 64)])
@pytest.mark.parametrize("mode", [NV12_MODE, YUYV_MODE], ids=["odd", "whole-packets"])
@pytest.mark.parametrize("name", DAMAGE)
def test_one_damaged_frame_is_dropped_by_cause_and_the_next_come(
    name: str, mode: int, packet: int, fifo: int
) -> None:
    cause, damage = DAMAGE[name]
    frame = Once(damage, BAD_FRAME)

    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: bool(s.drops) and len(s.frames) > 3 and s.frames[-1].seq > frame.damaged + 2)
        await source.stop()
        assert sink.drops == {cause: 1}
        assert source.counters[cause] == 1
        numbers = [f.seq for f in sink.frames]
        assert numbers == sorted(set(numbers)) and frame.damaged not in numbers
        flushed = rig.module.requests.count(Op.FLUSH)
        assert flushed == (1 if cause in OUT_OF_STEP else 0)
        assert not sink.losses and sink.out == 3

    rig = FakeRig(packet=packet, fifo=fifo, frame=frame)
    run(rig, body, mode)


@pytest.mark.parametrize("name", [n for n in DAMAGE if DAMAGE[n][0] in OUT_OF_STEP])
def test_at_most_three_frames_are_lost(name: str) -> None:
    """Of those that the module makes while the stream is mended, however slow this machine is."""
    _, damage = DAMAGE[name]

    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 10)
        await source.stop()
        numbers = [f.seq for f in sink.frames]
        assert max(b - a for a, b in pairwise(numbers)) <= 4

    run(FakeRig(patient=True, frame=Once(damage)), body)


LEFT_OVER: dict[str, Callable[[Writes], Writes]] = {
    "zero length": lambda w: [b"", *w],
    "a trailer": lambda w: [w[2], *w],
    "a packet": lambda w: [bytes(512), *w],
    "two packets": lambda w: [bytes(1024), *w],
    "an old leader": lambda w: [resealed(w[0], epoch=0), *w],
    "a packet and the leader": lambda w: [bytes(512) + w[0], *w[1:]],
}


@pytest.mark.parametrize("name", LEFT_OVER)
def test_what_a_fifo_still_held_is_thrown_away(name: str) -> None:
    """Stop and start again: the first transfers hold rests of the stream before, and perhaps the leader behind."""

    def frame(frame_id: int, writes: Writes) -> Writes:
        again = rig.module.requests.count(Op.START) == 2
        return LEFT_OVER[name](writes) if again and frame_id == 0 else writes

    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 3)
        await source.stop()
        await source.start(sink, 2)
        await sink.until(lambda s: s.frames[-1].generation == 2)
        await source.stop()
        assert not sink.drops, "no frame was lost"
        assert next(f for f in sink.frames if f.generation == 2).seq == 0
        assert (source.counters.get("stale", 0) > 0) is (name != "a packet and the leader")

    rig = FakeRig(packet=512, frame=frame, patient=True)
    run(rig, body, YUYV_MODE)


def test_a_first_frame_that_is_damaged_is_not_hunted_for_ever() -> None:
    def frame(frame_id: int, writes: Writes) -> Writes:
        if rig.module.requests.count(Op.START) == 2 and rig.module.requests.count(Op.FLUSH) == 0:
            return [flipped(writes[0]), *writes[1:]]
        return writes

    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 3)
        await source.stop()
        await source.start(sink, 2)
        await sink.until(lambda s: s.frames[-1].generation == 2)
        assert rig.module.requests.count(Op.FLUSH) == 1

    rig = FakeRig(packet=512, frame=frame)
    run(rig, body)


def test_compressed_frames_vary_in_length() -> None:
    def frame(frame_id: int, writes: Writes) -> Writes:
        payload = writes[1][: 100 + 64 * (frame_id % 50)]
        leader = dataclasses.replace(wire.Leader.unpack(writes[0]), payload_bytes=len(payload), crc32c=0)
        return [wire.seal(leader), payload, wire.seal(trailer_for(leader, payload))]

    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 60)
        await source.stop()
        assert not sink.drops
        assert all(f.nbytes == 100 + 64 * (f.seq % 50) for f in sink.frames)

    run(FakeRig(packet=64, frame=frame), body, MJPG_MODE)


@pytest.mark.parametrize(("cut", "cause"), [(-1, "payload_short"), (1, "payload_long")])
def test_a_compressed_frame_of_another_length_than_its_leader_says(cut: int, cause: str) -> None:
    frame = Once(lambda w: [w[0], (w[1] + b"x")[: len(w[1]) + cut], w[2]])

    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 10)
        await source.stop()
        assert sink.drops == {cause: 1}

    run(FakeRig(frame=frame), body, MJPG_MODE)


def test_the_payload_arrives_as_it_was_sent() -> None:
    sent: dict[int, bytes] = {}

    def frame(frame_id: int, writes: Writes) -> Writes:
        sent[frame_id] = writes[1]
        return writes

    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 20)
        await source.stop()
        for f in sink.frames[-3:]:
            assert bytes(f.lease.view[: f.nbytes]) == sent[f.seq]

    run(FakeRig(frame=frame), body)


def test_large_frames_are_read_in_parts_within_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maglens_driver.usb.plan.PART_BYTES", 2048)

    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 20)
        await source.stop()
        assert not sink.drops

    rig = FakeRig(packet=512, memory=8192)
    run(rig, body, YUYV_MODE)


@pytest.mark.parametrize("name", ["short payload", "long payload", "very short payload", "payload missing"])
def test_damage_of_frames_in_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maglens_driver.usb.plan.PART_BYTES", 1024)
    cause, damage = DAMAGE[name]

    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 10)
        await source.stop()
        assert sink.drops == {cause: 1}

    run(FakeRig(packet=512, frame=Once(damage)), body, YUYV_MODE)


def test_the_queue_shrinks_to_what_the_kernel_gives() -> None:
    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        rig.transport.streams[0]._memory = 8000  # others have taken the rest meanwhile
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 20)
        await source.stop()
        assert not sink.drops

    rig = FakeRig()
    run(rig, body)


def test_no_memory_at_all_names_the_limit() -> None:
    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        rig.transport.streams[0]._memory = 100
        with pytest.raises(NoTransferMemory):
            await source.start(sink, 1)
        assert sink.out == 0

    rig = FakeRig()
    run(rig, body)


def test_a_limit_below_one_frame_is_refused_with_the_command() -> None:
    async def whole() -> None:
        source = await FakeRig(memory=4096).open()
        try:
            with pytest.raises(Refused) as error:
                await source.configure(source.modes[MJPG_MODE])
            assert error.value.status == "NO_MEM" and "usbfs_memory_mb" in error.value.hint
        finally:
            await source.close()

    asyncio.run(whole())


def test_a_halted_endpoint_is_cleared() -> None:
    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 3)
        rig.module.halted = True
        await sink.until(lambda s: s.drops["halted"] == 1)
        count = len(sink.frames)
        await sink.until(lambda s: len(s.frames) >= count + 3)
        await source.stop()

    rig = FakeRig()
    run(rig, body)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stalls are noticed soon."""
    monkeypatch.setattr("maglens_driver.link.limits.STALL_MIN_S", 0.05)
    monkeypatch.setattr("maglens_driver.link.limits.FIRST_FRAME_S", 0.3)
    monkeypatch.setattr("maglens_driver.link.limits.STALL_INTERVALS", 1)


@pytest.mark.usefixtures("hasty")
class TestStall:
    def test_the_stream_is_started_anew_and_numbers_go_on_rising(self) -> None:
        stalled = threading.Event()

        def frame(frame_id: int, writes: Writes) -> Writes:
            if frame_id >= 5 and not stalled.is_set():
                return []
            return writes

        async def body(source: ModuleSource, sink: RecordingSink) -> None:
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 3)
            await sink.until(lambda s: rig.module.requests.count(Op.START) == 2)
            stalled.set()
            count = len(sink.frames)
            await sink.until(lambda s: len(s.frames) >= count + 5)
            await source.stop()
            numbers = [f.seq for f in sink.frames]
            assert numbers == sorted(set(numbers))
            assert source.counters["stall"] == 1 and not sink.losses

        rig = FakeRig(frame=frame)
        run(rig, body)

    def test_twice_is_lost(self) -> None:
        async def body(source: ModuleSource, sink: RecordingSink) -> None:
            await source.start(sink, 4)
            await sink.until(lambda s: bool(s.losses))
            assert isinstance(sink.losses[0][1], Deadline)
            assert rig.module.requests.count(Op.START) == 2
            assert sink.out == 0
            await source.stop()
            await source.configure(source.modes[0])  # it is not gone: it may be tried again
            assert len(sink.losses) == 1

        rig = FakeRig(frame=lambda i, w: [])
        run(rig, body)

    def test_endless_damage_is_a_stall_too(self) -> None:
        async def body(source: ModuleSource, sink: RecordingSink) -> None:
            await source.start(sink, 1)
            await sink.until(lambda s: bool(s.losses))
            assert isinstance(sink.losses[0][1], Deadline)
            assert set(sink.drops) == {"payload_short"}

        run(FakeRig(frame=lambda i, w: [w[0], w[1][:5], w[2]]), body)


class TestMending:
    def break_flush(self, error: MaglensError) -> FakeRig:
        def reply(op: int, raw: bytes) -> bytes:
            if op == Op.RESULT and rig.module.requests[-2] == Op.FLUSH:
                raise error
            return raw

        rig = FakeRig(frame=Once(lambda w: w[:2]), reply=reply)
        return rig

    def test_a_flush_that_fails_becomes_stop_and_start(self) -> None:
        async def body(source: ModuleSource, sink: RecordingSink) -> None:
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 10)
            await source.stop()
            assert not sink.losses
            assert rig.module.requests.count(Op.START) == 2

        rig = self.break_flush(Deadline("late"))
        run(rig, body)

    def test_an_unplug_during_flush_is_gone(self) -> None:
        async def body(source: ModuleSource, sink: RecordingSink) -> None:
            await source.start(sink, 1)
            await sink.until(lambda s: bool(s.losses))
            assert isinstance(sink.losses[0][1], Gone) and sink.out <= 3

        run(self.break_flush(Gone("pulled")), body)

    def test_stop_during_flush_ends_cleanly(self) -> None:
        held, go = threading.Event(), threading.Event()

        def reply(op: int, raw: bytes) -> bytes:
            if op == Op.RESULT and rig.module.requests[-2] == Op.FLUSH:
                held.set()
                go.wait(5)
            return raw

        async def body(source: ModuleSource, sink: RecordingSink) -> None:
            await source.start(sink, 1)
            assert await asyncio.to_thread(held.wait, 5)
            stopping = asyncio.ensure_future(source.stop())
            await asyncio.sleep(0)  # let it begin
            go.set()
            await stopping
            assert not sink.losses
            await source.start(sink, 2)
            await sink.until(lambda s: s.frames[-1].generation == 2)

        rig = FakeRig(frame=Once(lambda w: w[:2]), reply=reply)
        run(rig, body)


def test_a_start_and_a_stop_that_are_called_off_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(source: ModuleSource, sink: RecordingSink) -> None:
        go, asked = threading.Event(), asyncio.Event()
        start_module = source.control.start

        async def start(epoch: int) -> None:
            await start_module(epoch)
            asked.set()

        def hold() -> None:
            go.wait(5)

        monkeypatch.setattr(source.control, "start", start)
        engine = source._engine
        assert engine is not None
        engine._post(hold)  # a busy machine: the thread comes to nothing
        starting = asyncio.ensure_future(source.start(sink, 1))
        await asked.wait()
        starting.cancel()
        await asyncio.sleep(0)  # it stops the stream, as it must
        assert engine.stop().cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await source.start(sink, 2)
        await sink.until(lambda s: bool(s.frames))
        assert {frame.generation for frame in sink.frames} == {2}

    run(FakeRig(), body)


class TestEvents:
    EVENT = wire.Event(wire.EVENT_MAGIC, 1, wire.EventKind.CONTROL, 1, Cid.FOCUS_ABSOLUTE, 120, 0)

    def test_a_turned_ring_reaches_sink_and_reader(self) -> None:
        async def body(source: ModuleSource, sink: RecordingSink) -> None:
            await source.start(sink, 9)
            rig.module.send_event(self.EVENT.pack())
            assert await anext(aiter(source.events())) == self.EVENT
            await sink.until(lambda s: s.controls == [(9, Cid.FOCUS_ABSOLUTE, 120)])
            await source.stop()
            rig.module.send_event(dataclasses.replace(self.EVENT, seq=5).pack())
            assert (await anext(aiter(source.events()))).seq == 5
            assert len(sink.controls) == 1
            assert source.counters["events_lost"] == 3

        rig = FakeRig()
        run(rig, body)

    def test_damaged_events_are_counted_and_the_next_come(self) -> None:
        async def body(source: ModuleSource, sink: RecordingSink) -> None:
            good = self.EVENT.pack()
            for raw in (b"", good[:-1], b"X" + good[1:], good[:2] + b"\7" + good[3:], good):
                rig.module.send_event(raw)
            assert await anext(aiter(source.events())) == self.EVENT
            assert source.counters["event_length"] == 2
            assert source.counters["event_magic"] == 1 and source.counters["event_version"] == 1

        rig = FakeRig()
        run(rig, body)

    def test_events_end_with_the_unplug_and_with_close(self) -> None:
        async def whole(unplug: bool) -> None:
            rig = FakeRig()
            source = await rig.open()

            async def read() -> list[wire.Event]:
                return [event async for event in source.events()]

            reader = asyncio.ensure_future(read())
            if unplug:
                await source.configure(source.modes[0])  # the interface is claimed now
                rig.unplug()
            else:
                await asyncio.sleep(0)
                await source.close()
            assert await asyncio.wait_for(reader, 5) == []
            await source.close()

        asyncio.run(whole(True))
        asyncio.run(whole(False))


def test_a_module_left_streaming_by_a_dead_host_is_stopped_first() -> None:
    async def whole() -> None:
        rig = FakeRig()
        rig.module.configure(DESCRIPTOR.modes[1])
        rig.module.start(77)
        rig.module.responder.state = wire.ModuleState.STREAMING
        source = await rig.open()
        await source.configure(source.modes[0])
        sink = RecordingSink()
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 3)
        assert not sink.drops
        await source.close()

    asyncio.run(whole())


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0},
        {"height": 1 << 20},
        {"payload_bytes": 0},
        {"payload_bytes": 4609},
        {"payload_bytes": 1 << 30},
        {"stride": 32},
        {"interval_denominator": 0},
        {"interval_numerator": 0},
        {"interval_denominator": 5000},
        {"fourcc": MJPG, "stride": 0, "width": 4098, "height": 4096},
    ],
)
def test_an_impossible_configuration_is_refused(changes: dict[str, int]) -> None:
    def reply(op: int, raw: bytes) -> bytes:
        if op != Op.RESULT:
            return raw
        head, body = wire.open_payload(raw)
        answer = dataclasses.replace(wire.Configured.unpack(body), **changes)
        return wire.pack_reply(wire.Status.OK, head.tag, answer.pack())

    async def whole() -> None:
        source = await FakeRig(reply=reply).open()
        try:
            with pytest.raises(BadModule) as error:
                await source.configure(source.modes[0])
            assert error.value.cause == "configured"
        finally:
            await source.close()

    asyncio.run(whole())


def test_the_diagram_is_the_table() -> None:
    drawn = set()
    for left, right in re.findall(r"^    ([A-Z, ]+) -> ([A-Z]+)", stream.__doc__ or "", re.MULTILINE):
        for name in left.split(","):
            drawn.add((Phase[name.strip()], Phase[right]))
    assert drawn == ALLOWED
