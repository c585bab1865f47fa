# SPDX-License-Identifier: GPL-2.0-or-later
"""The module source on a real kernel: discovery, streaming, every fault of a stream, and being pulled off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from maglens_driver.control import Cid
from maglens_driver.errors import BadModule, Deadline, Gone, MaglensError, Refused
from maglens_driver.frame import Frame
from maglens_driver.gadget.client import SimClient
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, source_capabilities
from maglens_driver.link.wire import CapabilityLevel, EventKind, Info
from maglens_driver.mode import NV12, YUYV, Mode, make_mode
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.discovery import DeviceEventKind, Discovery
from maglens_driver.usb.requests import Requests
from maglens_driver.usb.source import ModuleSource
from maglens_driver.virtual.mark import Mark, read
from tests.unit.source_conformance import RecordingSink, SourceConformance
from tests.vm.conftest import put_away

T = TypeVar("T")
READY_S = 120.0  # an emulated processor renders the pictures
ATTACH_S = 30.0
FRAMES = 100
SMALL = make_mode(NV12, 640, 480, Fraction(1, 15))
MOST_LOST = 3  # frame intervals, by the protocol
AWAY_S = 2.0  # to be told of an unplug, on an emulated processor


@pytest.fixture(scope="module", autouse=True)
def alone(without_daemon: None) -> None:
    """The kernel needs its simulated USB."""
    subprocess.run(["modprobe", "-a", "libcomposite", "dummy_hcd"], check=True)


@pytest.fixture(scope="module")
def virtual() -> Iterator[SimClient]:
    """A virtual module of the tests' own, detached."""
    process = subprocess.Popen(
        [sys.executable, "-m", "maglens_driver.gadget.sim", "35mm"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready"), line
        with SimClient("35mm") as client:
            yield client
    finally:
        process.terminate()
        assert process.wait(READY_S) == 0


@pytest.fixture
def sim(virtual: SimClient) -> Iterator[SimClient]:
    """Detached and well, before and after."""
    yield virtual
    put_away(virtual)


@contextlib.asynccontextmanager
async def attached(sim: SimClient) -> AsyncIterator[tuple[Discovery, UsbDevice]]:
    """Snap it on and wait until it is recognised."""
    async with Discovery() as discovery:
        sim.attach()
        async with asyncio.timeout(ATTACH_S):
            async for event in discovery.events():
                if event.kind is DeviceEventKind.ADDED:
                    assert event.device is not None
                    yield discovery, event.device
                    return


def contract(requests: Requests) -> None:
    """What the daemon's contract does, with 5 V 900 mA."""
    requests.power_send(source_capabilities([FixedPdo(5000, 900)], 0))
    request = requests.power_receive()
    assert request is not None and request.type is PdType.REQUEST
    requests.power_send(PdMessage(PdType.ACCEPT, 1))
    requests.power_send(PdMessage(PdType.PS_RDY, 2))


@contextlib.asynccontextmanager
async def ready(sim: SimClient, want: Mode = SMALL) -> AsyncIterator[ModuleSource]:
    """A source with a contract, configured."""
    async with attached(sim) as (_, device):
        source = await ModuleSource.open(device)
        try:
            await source.control.run(contract, 5)
            got = await source.configure(want)
            assert (got.fourcc, got.width, got.height) == (want.fourcc, want.width, want.height)
            yield source
        finally:
            await source.close()


def marks(frames: list[Frame]) -> list[Mark]:
    """What is written in the pictures; only in those that are still held."""
    found = []
    for f in frames:
        step = 2 if f.mode.fourcc == YUYV else 1
        rows = np.frombuffer(f.lease.view, np.uint8, f.mode.stride * f.mode.height).reshape(f.mode.height, -1)
        mark = read(np.ascontiguousarray(rows[:, : f.mode.width * step : step]))
        assert isinstance(mark, Mark), f"frame {f.seq} carries {mark}"
        found.append(mark)
    return found


def test_from_attach_to_a_hundred_frames(sim: SimClient) -> None:
    async def body() -> None:
        async with ready(sim) as source:
            assert source.identity.serial == sim.status()["identity"]["serial"]
            sink = RecordingSink(buffers=FRAMES + 16, keep=FRAMES)
            begun = time.monotonic_ns()
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= FRAMES, 60)
            await source.stop()
            numbers = [m.number for m in marks(sink.frames[-FRAMES:])]
            assert numbers == sorted(set(numbers))
            assert not sink.losses
            for one, two in pairwise(sink.frames):
                assert one.seq < two.seq and one.exposure_ns < two.exposure_ns
            assert all(begun - 10**9 < f.exposure_ns < time.monotonic_ns() for f in sink.frames)
            stay = sim.status()["stays"][-1]
            assert len(sink.frames) >= 0.95 * stay["frames_sent"] - 4  # what was under way at the stop
            assert source.counters["frames"] == len(sink.frames)
            assert source.clock.fit is not None

    asyncio.run(body())


@pytest.mark.parametrize("want", [make_mode(YUYV, 1280, 720, Fraction(1, 15)), SMALL])
def test_payloads_that_end_with_a_short_and_with_a_zero_length_packet(want: Mode, sim: SimClient) -> None:
    """1280x720 YUYV is 1800 whole packets of 1024 bytes, 640x480 NV12 is 450."""

    async def body() -> None:
        async with ready(sim, want) as source:
            sink = RecordingSink(keep=2)
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 10, 60)
            await source.stop()
            assert not set(sink.drops) - {"no_buffer"}
            marks(sink.frames[-2:])

    asyncio.run(body())


STREAM_FAULTS = {
    "leader-magic": "leader_magic",
    "leader-crc": "leader_crc",
    "leader-epoch": "leader_epoch",
    "leader-geometry": "leader_geometry",
    "leader-length": "leader_geometry",  # it lies about the payload's
    "leader-short": "leader_length",
    "id-back": "leader_id",
    "payload-short": "payload_short",
    "payload-long": "payload_long",
    "payload-crc": "payload_crc",
    "trailer-missing": "trailer_missing",
    "trailer-crc": "trailer_crc",
    "trailer-incomplete": "payload_incomplete",
    "halt": "halted",
}


HARMLESS = ("frames", "left_out", "lost", "stale", "clock_samples")


async def dropped(sink: RecordingSink, cause: str) -> None:
    await sink.until(lambda s: s.drops[cause] >= 1)


async def more(sink: RecordingSink, count: int) -> None:
    """So many frames from now on."""
    goal = len(sink.frames) + count
    await sink.until(lambda s: len(s.frames) >= goal)


def lost(before: dict[str, Any], after: dict[str, Any], seen: set[int]) -> int:
    """Frames that the module spoilt, had cut off, or sent in vain; not those that it left out for being late, which
    an emulated one does all the time. ``seen``: numbers that were delivered."""
    spoilt: int = sum(after[k] - before[k] for k in ("frames_damaged", "frames_cut"))
    sent: set[int] = {n for first, last in after["runs"] for n in range(first, last + 1)}
    return spoilt + len({n for n in sent if min(seen) < n < max(seen)} - seen)


def test_every_fault_of_a_stream_is_counted_by_cause_and_mended(sim: SimClient) -> None:
    async def body() -> None:
        async with ready(sim) as source:
            sink = RecordingSink(buffers=64, keep=1)
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 10)
            first = sink.frames[-1]
            offset = marks([first])[0].number - first.seq
            for fault, cause in STREAM_FAULTS.items():
                begun, counted = len(sink.frames), dict(source.counters)
                stay = sim.status()["stays"][-1]
                sim.fault(fault)
                await dropped(sink, cause)
                await more(sink, 5)
                new = {c: n - counted.get(c, 0) for c, n in source.counters.items() if n != counted.get(c, 0)}
                damage = {c: n for c, n in new.items() if c not in HARMLESS}
                assert damage == {cause: 1}, fault
                seen = {f.seq + offset for f in sink.frames[begun - 1 :]}
                count = lost(stay, sim.status()["stays"][-1], seen)
                assert 1 <= count <= MOST_LOST, f"{fault}: {count} frames lost"
                assert not sink.losses
            assert source.counters.get("stall", 0) == 0
            await source.stop()
            assert sink.out == 1

    asyncio.run(body())


def test_a_stall_is_mended_by_a_new_start(sim: SimClient) -> None:
    async def body() -> None:
        async with ready(sim) as source:
            sink = RecordingSink(buffers=64)
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 5)
            sim.fault("stall")
            async with asyncio.timeout(20):
                while source.counters.get("stall", 0) == 0:
                    await source.control.info()  # the rest of the module still answers
            sim.clear()
            await more(sink, 5)
            numbers = [f.seq for f in sink.frames]
            assert numbers == sorted(set(numbers)) and not sink.losses
            await source.stop()

    asyncio.run(body())


def test_a_stall_that_stays_is_lost_but_not_gone(sim: SimClient) -> None:
    async def body() -> None:
        async with ready(sim) as source:
            sink = RecordingSink()
            await source.start(sink, 3)
            await sink.until(lambda s: len(s.frames) >= 2)
            sim.fault("stall")
            await sink.until(lambda s: bool(s.losses), 30)
            assert [(g, type(why)) for g, why in sink.losses] == [(3, Deadline)]
            await source.stop()
            assert sink.out == 0
            sim.clear()
            again = RecordingSink()
            await source.configure(SMALL)
            await source.start(again, 4)
            await again.until(lambda s: len(s.frames) >= 3)

    asyncio.run(body())


def test_pulled_off_in_the_middle_of_a_frame_is_gone_promptly_and_once(sim: SimClient) -> None:
    async def body() -> None:
        for _ in range(3):
            async with ready(sim) as source:
                sink = RecordingSink()
                await source.start(sink, 5)
                await sink.until(lambda s: len(s.frames) >= 5)
                stay = (await asyncio.to_thread(sim.detach, mid_frame=True))["stay"]
                await sink.until(lambda s: bool(s.losses))
                assert time.monotonic() - stay["detach_ns"] / 1e9 < AWAY_S
                assert stay["frames_cut"] == 1
                assert [(g, type(why)) for g, why in sink.losses] == [(5, Gone)]
                await source.stop()
                assert sink.out == 0
                with pytest.raises(Gone):
                    await source.configure(SMALL)
                with pytest.raises(Gone):
                    await source.get()
            assert len(sink.losses) == 1 and not sink.after_lost

    asyncio.run(body())


def test_pulled_off_in_every_state(sim: SimClient) -> None:
    """Each ends in ``Gone`` at the next call, none hangs, and close always works."""

    async def opened(device: UsbDevice) -> ModuleSource:
        return await ModuleSource.open(device)

    async def contracted(device: UsbDevice) -> ModuleSource:
        source = await opened(device)
        await source.control.run(contract, 5)
        return source

    async def configured(device: UsbDevice) -> ModuleSource:
        source = await contracted(device)
        await source.configure(SMALL)
        return source

    async def started(device: UsbDevice) -> ModuleSource:
        source = await configured(device)
        await source.start(RecordingSink(), 1)
        return source

    async def stopped(device: UsbDevice) -> ModuleSource:
        source = await started(device)
        await source.stop()
        return source

    async def standing_by(device: UsbDevice) -> ModuleSource:
        source = await contracted(device)
        await source.control.standby()
        return source

    async def body(reach: Callable[[UsbDevice], Awaitable[ModuleSource]]) -> None:
        async with attached(sim) as (discovery, device):
            source = await reach(device)
            await asyncio.to_thread(sim.detach)
            async with asyncio.timeout(ATTACH_S):
                removed = await anext(discovery.events())
            assert removed.kind is DeviceEventKind.REMOVED and removed.device == device
            with pytest.raises(Gone):
                await source.control.info()
            await source.stop()
            await source.close()
        with pytest.raises(Gone):
            await ModuleSource.open(device)

    for reach in (opened, contracted, configured, started, stopped, standing_by):
        asyncio.run(body(reach))


def test_a_stranger_is_refused_and_never_talked_to(sim: SimClient) -> None:
    async def body() -> None:
        sim.fault("stranger")
        async with Discovery() as discovery:
            sim.attach()
            async with asyncio.timeout(ATTACH_S):
                event = await anext(discovery.events())
            assert event.kind is DeviceEventKind.REFUSED and event.device is None and event.reason
            assert discovery.present() == []
        assert sim.status()["stays"][-1]["vendor_requests"] == 0

    asyncio.run(body())


REPLY_FAULTS: Mapping[str, tuple[type[MaglensError], str]] = {
    "reply-short": (BadModule, "control_length"),
    "reply-long": (BadModule, "control_length"),
    "reply-magic": (BadModule, "control_magic"),
    "reply-tag": (BadModule, "control_tag"),
    "reply-late": (Deadline, ""),
    "reply-never": (Deadline, ""),
}


@pytest.mark.parametrize("fault", REPLY_FAULTS)
def test_a_bad_reply_is_an_error_and_the_next_is_good(fault: str, sim: SimClient) -> None:
    kind, cause = REPLY_FAULTS[fault]

    async def body() -> None:
        async with attached(sim) as (_, device):
            source = await ModuleSource.open(device)
            try:
                sim.fault(fault)
                with pytest.raises(kind) as error:
                    await source.control.info()
                assert getattr(error.value, "cause", "") == cause
                sim.clear()
                assert (await answered(source)).boot_id == source.boot_id
            finally:
                await source.close()

    asyncio.run(body())


async def answered(source: ModuleSource) -> Info:
    """INFO; once more where FunctionFS has not got over a request that was never served."""
    try:
        return await source.control.info()
    except Deadline:
        return await source.control.info()


DESCRIPTOR_FAULTS = {
    "descriptor-long": "descriptor_length",
    "descriptor-truncated": "descriptor_truncated",
    "descriptor-crc": "descriptor_crc",
    "descriptor-order": "descriptor_deterministic",
    "descriptor-duplicate": "descriptor_deterministic",
    "descriptor-depth": "descriptor_depth",
    "descriptor-count": "descriptor_items",
    "descriptor-zero": "descriptor_field",
    "descriptor-huge": "descriptor_field",
    "descriptor-version": "descriptor_version",
}


def test_every_bad_descriptor_has_its_cause(sim: SimClient) -> None:
    async def body() -> None:
        async with attached(sim) as (_, device):
            for fault, cause in DESCRIPTOR_FAULTS.items():
                sim.fault(fault)
                with pytest.raises(BadModule) as error:
                    await ModuleSource.open(device)
                assert error.value.cause == cause, fault
                sim.clear()
            source = await ModuleSource.open(device)
            await source.close()

    asyncio.run(body())


def test_a_ring_a_button_and_less_power_to_do_things_are_told(sim: SimClient) -> None:
    async def body() -> None:
        async with ready(sim) as source:
            sink = RecordingSink()
            await source.start(sink, 2)
            events = source.events()

            async def next_of(kind: EventKind) -> tuple[int, int]:
                async with asyncio.timeout(10):
                    async for event in events:
                        if event.kind == kind:
                            return event.id, event.value
                raise AssertionError("the events ended")

            sim.ring("focus", 123)
            assert await next_of(EventKind.CONTROL) == (Cid.FOCUS_ABSOLUTE, 123)
            await sink.until(lambda s: (2, Cid.FOCUS_ABSOLUTE, 123) in s.controls)
            sim.button(1, True)
            assert await next_of(EventKind.BUTTON) == (1, 1)
            sim.capability("temperature", "reduced")
            assert (await next_of(EventKind.CAPABILITY))[1] == CapabilityLevel.REDUCED
            assert (await source.get())[Cid.FOCUS_ABSOLUTE] == 123
            assert await source.set({Cid.FOCUS_ABSOLUTE: 50}) == {Cid.FOCUS_ABSOLUTE: 50}

    asyncio.run(body())


def test_two_programs_cannot_stream_one_module(sim: SimClient) -> None:
    async def body() -> None:
        async with ready(sim) as first:
            second = await ModuleSource.open(first.device)  # asking is allowed
            try:
                with pytest.raises(Refused) as error:
                    await second.configure(SMALL)
                assert error.value.status == "CLAIMED" and first.device.devnode in error.value.hint
            finally:
                await second.close()
            sink = RecordingSink()
            await first.configure(SMALL)
            await first.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 3)

    asyncio.run(body())


DIES = """
import asyncio, sys
sys.path.insert(0, {tree!r})
from tests.vm.scenarios.test_module_source import *
async def body():
    async with Discovery() as discovery:
        source = await ModuleSource.open(discovery.present()[0])
        await source.control.run(contract, 5)
        await source.configure(SMALL)
        sink = RecordingSink()
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= 3)
        print("streaming", flush=True)
        await asyncio.Event().wait()
asyncio.run(body())
"""


def test_a_host_that_was_killed_leaves_nothing_in_the_way(sim: SimClient) -> None:
    async def body() -> None:
        async with attached(sim) as (_, device):
            tree = str(Path(__file__).parents[3])
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", DIES.format(tree=tree), stdout=asyncio.subprocess.PIPE
            )
            assert child.stdout is not None
            assert await child.stdout.readline() == b"streaming\n"
            child.send_signal(signal.SIGKILL)
            await child.wait()
            source = await ModuleSource.open(device)
            try:
                await source.configure(SMALL)
                sink = RecordingSink(keep=4)
                await source.start(sink, 9)
                await sink.until(lambda s: len(s.frames) >= 5)
                assert not set(sink.drops) - {"no_buffer"}
                marks(sink.frames[-2:])
            finally:
                await source.close()

    asyncio.run(body())


def resources() -> tuple[int, list[str]]:
    """File descriptors of this process, and threads of sources."""
    gc.collect()  # what other tests have left
    threads = [t.name for t in threading.enumerate() if t.name.startswith(("control-", "stream-"))]
    return len(os.listdir("/proc/self/fd")), threads


def test_attaching_again_and_again_leaves_nothing_behind(sim: SimClient) -> None:
    async def once() -> None:
        async with ready(sim) as source:
            sink = RecordingSink()
            await source.start(sink, 1)
            await sink.until(lambda s: len(s.frames) >= 1)
            await asyncio.to_thread(sim.detach)
            await sink.until(lambda s: bool(s.losses))

    async def body() -> None:
        for _ in range(2):
            await once()
        before = resources()
        for _ in range(8):
            await once()
        assert resources() == before
        assert before[1] == []

    asyncio.run(body())


@pytest.mark.usefixtures("patient")
class TestConformance(SourceConformance):
    """ModuleSource is a Source, on a real kernel too."""

    @pytest.fixture
    def rig(self, sim: SimClient) -> Any:
        class Rig:
            """Attaches, and gives the module a contract."""

            async def open(self) -> ModuleSource:
                async with attached(sim) as (_, device):
                    source = await ModuleSource.open(device)
                    await source.control.run(contract, 5)
                    return source

            def unplug(self) -> bool:
                sim.detach()
                return True

        return Rig()
