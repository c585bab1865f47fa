# SPDX-License-Identifier: GPL-2.0-or-later
"""LibcameraSource with its real child process, on the stand-in for libcamera."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from maglens_driver.control import Cid, ControlType
from maglens_driver.errors import Gone, Interrupted, MissingDependency, Refused, WrongState
from maglens_driver.frame import Frame, Lease
from maglens_driver.libcamera.limits import Limits
from maglens_driver.libcamera.source import LibcameraSource, Seen, camera_ids, cameras
from maglens_driver.mode import NV12, Mode, make_mode
from tests.unit.source_conformance import SourceConformance

FAKE = Path(__file__).parent / "libcamera_fake"
CAMERA = "/base/fake@1"
PATIENT = Limits(open_s=60, configure_s=60, start_s=60, set_s=60, stop_s=60, first_frame_s=60, stall_s=60)
"""On a busy machine a child may be kept waiting for seconds: that is no fault of its."""
BLOCKED, SILENT = replace(PATIENT, stop_s=0.5), replace(PATIENT, stall_s=1)
"""Where that is waited for."""


def environment(**behaviour: object) -> dict[str, str]:
    return {"PYTHONPATH": str(FAKE), "FAKE_LIBCAMERA": json.dumps(behaviour)}


class Memory:
    """A lease of the sink's own."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))
        self.released = False

    def release(self) -> None:
        self.released = True


class Sink:
    """Keeps what it was told; holds the newest ``hold`` frames."""

    def __init__(self, hold: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._lock = threading.Lock()
        self.hold = hold
        self.held: list[Frame] = []
        self.seen: list[tuple[int, int, int, int, int]] = []  # seq, luma, chroma, nbytes, generation
        self.frames: list[Frame] = []
        self.controls: list[tuple[int, int, int]] = []
        self.drops: list[str] = []
        self.lost_why: list[tuple[int, Exception]] = []
        self.leases_asked = 0

    def lease(self, nbytes: int) -> Lease | None:
        self.leases_asked += 1
        return Memory(nbytes)

    def deliver(self, frame: Frame) -> None:
        luma, chroma = frame.lease.view[0], frame.lease.view[frame.nbytes - 1]
        with self._lock:
            self.seen.append((frame.seq, luma, chroma, frame.nbytes, frame.generation))
            self.frames.append(frame)
            self.held.append(frame)
            over = self.held[: -self.hold] if self.hold else self.held[:]
            del self.held[: len(over)]
        for old in over:
            old.lease.release()
        self._note()

    def control(self, generation: int, control: int, value: int) -> None:
        self.controls.append((generation, control, value))
        self._note()

    def active(self, generation: int, control: int, active: bool) -> None: ...

    def dropped(self, generation: int, cause: str) -> None:
        self.drops.append(cause)
        self._note()

    def lost(self, generation: int, why: Exception) -> None:
        self.lost_why.append((generation, why))
        self._note()

    def let_go(self) -> None:
        for frame in self.held:
            frame.lease.release()
        self.held.clear()

    def _note(self) -> None:
        self._loop.call_soon_threadsafe(self._changed.set)

    async def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def scenario(
    body: Callable[[LibcameraSource], Awaitable[None]], limits: Limits = PATIENT, /, **behaviour: object
) -> None:
    """Run ``body`` with an open source; afterwards the child must be gone. (A closing waits for that as long as a
    stop may take, and no longer.)"""

    async def run() -> None:
        source = await LibcameraSource.open(CAMERA, limits=limits, environment=environment(**behaviour))
        try:
            await body(source)
        finally:
            pid = source.child_pid
            await source.close()
            assert pid is None or limits is BLOCKED or str(pid) not in os.listdir("/proc")

    asyncio.run(run())


class PluggedCamera:
    """The conformance test's way to a source; its cable is a file."""

    def __init__(self, cable: Path) -> None:
        self._cable = cable
        cable.touch()

    async def open(self) -> LibcameraSource:
        return await LibcameraSource.open(CAMERA, limits=PATIENT, environment=environment(cable=str(self._cable)))

    def unplug(self) -> bool:
        self._cable.unlink()
        return True


class TestConformance(SourceConformance):
    """What every source does."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> PluggedCamera:
        return PluggedCamera(tmp_path / "cable")


def wanted(source: LibcameraSource) -> Mode:
    return next(m for m in source.modes if m.fourcc == NV12 and m.width == 640 and m.interval == Fraction(1, 60))


def test_tells_what_the_camera_is() -> None:
    async def body(source: LibcameraSource) -> None:
        assert (source.identity.model, source.identity.serial) == ("fake sensor", CAMERA)
        first = source.modes[0]
        assert (first.fourcc, first.width, first.height, first.stride) == (NV12, 640, 480, 704)
        assert first.nbytes == 704 * 480 * 3 // 2
        assert first.interval == Fraction(1, 30)
        assert {m.width for m in source.modes} == {640, 320}  # odd sizes are not for us
        assert {1 / m.interval for m in source.modes} == {30, 60, 15}
        controls = {c.id: c for c in source.controls}
        exposure = controls[Cid.EXPOSURE_ABSOLUTE]
        assert (exposure.minimum, exposure.maximum, exposure.default) == (1, 667, 100)
        focus = controls[Cid.FOCUS_ABSOLUTE]
        assert (focus.minimum, focus.maximum, focus.default) == (0, 1200, 100)
        assert controls[Cid.EXPOSURE_AUTO].menu[1] == (1, "Manual Mode")
        assert controls[Cid.AUTO_FOCUS_START].type == ControlType.BUTTON
        assert Cid.WHITE_BALANCE_TEMPERATURE not in controls

    scenario(body)


def test_lists_cameras() -> None:
    assert asyncio.run(camera_ids(environment=environment())) == (CAMERA,)
    assert asyncio.run(cameras(environment=environment())) == (Seen(CAMERA, frozenset({(81, 3)})),)


def test_unknown_camera_is_gone() -> None:
    async def run() -> None:
        with pytest.raises(Gone, match="fake@1"):
            await LibcameraSource.open("nope", environment=environment())

    asyncio.run(run())


def test_without_library_names_the_package(tmp_path: Path) -> None:
    (tmp_path / "libcamera.py").write_text("raise ImportError('not here')\n")

    async def run() -> None:
        with pytest.raises(MissingDependency) as caught:
            await LibcameraSource.open(CAMERA, environment={"PYTHONPATH": str(tmp_path)})
        assert "python3-libcamera" in caught.value.hint

    asyncio.run(run())


@pytest.mark.parametrize(("planes", "untold"), [(1, False), (2, False), (2, True)])
def test_frames_come_without_a_copy(planes: int, untold: bool) -> None:
    async def body(source: LibcameraSource) -> None:
        mode = await source.configure(wanted(source))
        assert mode == wanted(source)
        sink = Sink()
        await source.start(sink, 7)
        await sink.until(lambda: len(sink.seen) >= 20)
        await source.stop()
        count = len(sink.seen)
        assert sink.leases_asked == 0
        assert [seq for seq, *_ in sink.seen] == list(range(count))
        assert {row[1:] for row in sink.seen} == {(128, 77 if planes == 2 else 128, mode.nbytes, 7)}
        stamps = [f.exposure_ns for f in sink.frames]
        assert stamps == sorted(stamps) and abs(stamps[-1] - time.monotonic_ns()) < 5e9
        meta = sink.frames[0].meta
        assert (meta.exposure_us, meta.gain_milli, meta.focus_cdpt, meta.temperature_k) == (12345, 2500, 325, 4200)
        assert source.counters["frames"] == count
        assert sink.lost_why == [] and sink.drops == []

    scenario(body, planes=planes, untold=untold)


def test_planes_apart_are_gathered() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink(hold=2)
        await source.start(sink, 1)
        await sink.until(lambda: len(sink.seen) >= 12)  # more than it has buffers
        await source.stop()
        assert sink.leases_asked == len(sink.seen)
        luma = 704 * 480
        view = sink.held[0].lease.view
        assert (view[0], view[luma - 1], view[luma], view[-1]) == (128, 128, 77, 77)

    scenario(body, apart=True)


def test_memory_that_can_shrink_is_refused() -> None:
    async def body(source: LibcameraSource) -> None:
        with pytest.raises(Exception, match="sealed") as caught:
            await source.configure(wanted(source))
        assert getattr(caught.value, "cause", None) == "child_buffer"
        assert source.child_pid is None

    scenario(body, unsealed=True)


def test_controls_take_effect_and_survive_a_new_start() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink()
        await source.start(sink, 1)
        await sink.until(lambda: bool(sink.seen))
        assert await source.set({Cid.BRIGHTNESS: 50, Cid.EXPOSURE_ABSOLUTE: 99999}) == {
            Cid.BRIGHTNESS: 50,
            Cid.EXPOSURE_ABSOLUTE: 667,
        }
        await sink.until(lambda: sink.seen[-1][1] == 178)
        await source.set({Cid.AUTO_FOCUS_START: 0})
        await sink.until(lambda: (1, Cid.AUTO_FOCUS_STATUS, 2) in sink.controls)
        assert (await source.get())[Cid.AUTO_FOCUS_STATUS] == 2
        await source.stop()
        again = Sink()
        await source.start(again, 2)
        await again.until(lambda: bool(again.seen))
        assert again.seen[0][1] == 178
        assert again.frames[0].meta.exposure_us == 66700
        with pytest.raises(Refused):
            await source.set({Cid.ZOOM_ABSOLUTE: 3})
        with pytest.raises(Refused):
            await source.set({Cid.AUTO_FOCUS_STATUS: 0})

    scenario(body)


def test_held_frames_stay_whole_over_stop_and_start() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink(hold=3)
        await source.start(sink, 1)
        await sink.until(lambda: len(sink.seen) >= 3)
        await source.stop()
        held = sink.held[:]
        await source.set({Cid.BRIGHTNESS: 100})
        again = Sink()
        await source.start(again, 2)
        await again.until(lambda: len(again.seen) >= 10)
        assert {frame.lease.view[0] for frame in held} == {128}
        assert {luma for _, luma, *_ in again.seen} == {228}
        for frame in held:
            frame.lease.release()
        again.hold = 5  # as many as there are buffers: all are in use again
        await again.until(lambda: len(again.held) == 5)
        again.let_go()
        await source.stop()

    scenario(body)


def test_a_full_sink_is_no_stall() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink(hold=5)
        await source.start(sink, 1)
        await sink.until(lambda: len(sink.seen) == 5)
        with pytest.raises(TimeoutError):
            await sink.until(lambda: len(sink.seen) > 5 or bool(sink.lost_why), SILENT.stall_s * 1.5)
        sink.hold = 0
        sink.let_go()
        await sink.until(lambda: len(sink.seen) >= 10)
        await source.stop()
        assert sink.lost_why == []

    scenario(body, SILENT)


@pytest.mark.parametrize(
    ("fault", "why", "limits"),
    [
        ("die_after", "ended by itself", PATIENT),
        ("gone_after", "lost the camera", PATIENT),
        ("hang_after", "no frame", SILENT),
    ],
)
def test_the_end_of_a_camera_is_told_once(fault: str, why: str, limits: Limits) -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink(hold=1)
        await source.start(sink, 3)
        await sink.until(lambda: bool(sink.lost_why))
        generation, error = sink.lost_why[0]
        assert generation == 3 and isinstance(error, Gone) and why in str(error)
        assert 0 < len(sink.seen) < 30
        assert sink.held[0].lease.view[0] == 128  # a lease outlives the camera
        sink.let_go()
        await source.stop()
        assert len(sink.lost_why) == 1
        with pytest.raises(WrongState):
            await source.start(sink, 4)
        # Usable again, with a new child.
        await source.configure(wanted(source))
        again = Sink()
        await source.start(again, 5)
        await again.until(lambda: len(again.seen) >= 3)
        assert source.counters["children"] == 2

    scenario(body, limits, **{fault: 30})


def test_a_child_that_blocks_in_stop_is_killed() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink()
        await source.start(sink, 1)
        await sink.until(lambda: bool(sink.seen))
        pid = source.child_pid
        began = time.monotonic()
        async with asyncio.timeout(PATIENT.stop_s):  # it blocks for ever
            await source.stop()
        assert time.monotonic() - began >= BLOCKED.stop_s
        count = len(sink.seen)
        assert sink.lost_why == []
        await source.configure(wanted(source))
        assert source.child_pid not in (None, pid)
        assert len(sink.seen) == count

    scenario(body, BLOCKED, stop="block")


def test_a_stopped_child_is_noticed_by_its_silence() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink()
        await source.start(sink, 1)
        await sink.until(lambda: bool(sink.seen))
        assert source.child_pid is not None
        os.kill(source.child_pid, signal.SIGSTOP)
        await sink.until(lambda: bool(sink.lost_why))
        await source.stop()
        assert len(sink.lost_why) == 1

    scenario(body, SILENT)


@pytest.mark.parametrize(("fault", "each"), [("blurred", 3), ("cancel_after", 6)])
def test_spoiled_frames_are_counted_and_not_shown(fault: str, each: int) -> None:
    """Those of requests that libcamera has cancelled, too; the camera that it has lost takes no other request."""

    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink()
        await source.start(sink, 1)
        await sink.until(lambda: len(sink.seen) >= 20)
        await source.stop()
        assert all((seq + 1) % each for seq, *_ in sink.seen[:8])
        assert sink.lost_why == []
        assert sink.drops and set(sink.drops) == {"spoiled"}
        assert source.counters["spoiled"] == len(sink.drops)

    scenario(body, **{fault: each})


def test_one_that_loses_every_frame_is_given_up() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink()
        await source.start(sink, 1)
        await sink.until(lambda: bool(sink.lost_why))
        assert isinstance(sink.lost_why[0][1], Interrupted)
        assert "every frame" in str(sink.lost_why[0][1])
        assert source.counters["spoiled"] > 1

    scenario(body, replace(PATIENT, first_frame_s=1), blurred="always")


def test_unreadable_metadata_costs_only_the_metadata() -> None:
    async def body(source: LibcameraSource) -> None:
        await source.configure(wanted(source))
        sink = Sink()
        await source.start(sink, 1)
        await sink.until(lambda: len(sink.seen) >= 5)
        await source.stop()
        assert sink.frames[-1].meta.exposure_us == 0

    scenario(body, unreadable=True)


def test_a_camera_without_a_clock_keeps_its_rate() -> None:
    async def body(source: LibcameraSource) -> None:
        slow = next(m for m in source.modes if m.width == 320 and m.interval == Fraction(1, 15))
        await source.configure(slow)
        sink = Sink()
        await source.start(sink, 1)
        await sink.until(lambda: len(sink.seen) >= 25)
        await source.stop()
        stamps = [f.exposure_ns for f in sink.frames]
        # The first few fill the empty buffers at once. A machine that holds it up makes one distance longer.
        interval_s = statistics.median(later - stamp for stamp, later in itertools.pairwise(stamps[5:])) / 1e9
        assert 10 < 1 / interval_s < 20

    scenario(body, unpaced=True)


def test_states() -> None:
    async def body(source: LibcameraSource) -> None:
        sink = Sink()
        await source.stop()
        with pytest.raises(WrongState):
            await source.start(sink, 1)
        near = await source.configure(make_mode(NV12, 1920, 1080, Fraction(1, 200)), test_only=True)
        assert (near.width, near.interval) == (640, Fraction(16666, 1000000))
        with pytest.raises(WrongState):
            await source.start(sink, 1)
        await source.configure(wanted(source))
        await source.start(sink, 1)
        with pytest.raises(WrongState):
            await source.configure(wanted(source))
        with pytest.raises(WrongState):
            await source.start(sink, 2)
        await source.stop()
        await source.stop()
        await source.close()
        await source.close()
        with pytest.raises(WrongState):
            await source.configure(wanted(source))

    scenario(body)


def test_many_starts_leak_nothing() -> None:
    async def body(source: LibcameraSource) -> None:
        def open_files() -> int:
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        async def round_trip() -> None:
            await source.configure(wanted(source))
            sink = Sink()
            await source.start(sink, 1)
            await sink.until(lambda: len(sink.seen) >= 2)
            await source.stop()

        await round_trip()
        files = open_files()
        for _ in range(5):
            await round_trip()
        assert open_files() == files

    scenario(body)


def test_the_child_ends_with_its_parent() -> None:
    """Even when it hangs inside libcamera: only the kernel can do that."""
    program = f"""
import asyncio, sys, os
sys.path[:0] = {[str(Path(__file__).parents[2] / "driver")]!r}
from maglens_driver.libcamera.source import LibcameraSource
from maglens_driver.libcamera.limits import Limits
class Sink:
    def lease(self, n): return None
    def deliver(self, frame): frame.lease.release()
    def control(self, *a): pass
    def dropped(self, *a): pass
    def lost(self, *a): pass
async def main():
    source = await LibcameraSource.open({CAMERA!r}, limits=Limits(stop_s=60))
    await source.configure(source.modes[0])
    await source.start(Sink(), 1)
    print(source.child_pid, flush=True)
    await source.stop()
asyncio.run(main())
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, **environment(stop="block")}
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    watch = os.pidfd_open(child)
    parent.kill()
    parent.wait()
    ended, _, _ = select.select([watch], [], [], 60)
    os.close(watch)
    parent.stdout.close()
    assert ended
