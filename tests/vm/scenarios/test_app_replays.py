# SPDX-License-Identifier: GPL-2.0-or-later
"""What OBS, Chromium, ffmpeg, GStreamer and PipeWire do to a node, done to the kernel's own.

Behind the controls is a module that has every automatic; a virtual one on USB with the real apps is in test_apps.py.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import select
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.names import SERVICE_UNIT
from maglens_v4l2 import canonical, v4l2
from maglens_v4l2.controls import Controls
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.reader import CAPTURE
from maglens_v4l2.replays import BURST_S
from maglens_v4l2.store import Store
from tests.unit.node_conformance import filled
from tests.unit.v4l2_app import V4l2App
from tests.vm.guest import app_calls
from tests.vm.guest.app_process import AppProcess
from tests.vm.guest.devices import SYSTEMD, succeed
from tests.vm.guest.limits import EVENT_S
from tests.vm.scenarios.test_kernel_node import NAME, SMALL

FFMPEG_BUFFERS = 256
CHROMIUM_STALL_S = 1.0
RING_MS = 50.0

FOCUS = ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus", ControlType.INTEGER, 0, 400, 10, 50, ControlFlag.RING)
IRIS = ControlInfo(Cid.IRIS_ABSOLUTE, "Iris", ControlType.INTEGER, 0, 595, 1, 395, ControlFlag.RING)
ZOOM = ControlInfo(Cid.ZOOM_ABSOLUTE, "Zoom", ControlType.INTEGER, 240, 700, 1, 240)
EXPOSURE = ControlInfo(Cid.EXPOSURE_ABSOLUTE, "Exposure", ControlType.INTEGER, 1, 320, 1, 80)
AUTO_FOCUS = ControlInfo(Cid.FOCUS_AUTO, "Auto Focus", ControlType.BOOLEAN, 0, 1, 1, 1)
AUTO_WHITE = ControlInfo(Cid.AUTO_WHITE_BALANCE, "Auto White", ControlType.BOOLEAN, 0, 1, 1, 1)
MAINS = ControlInfo(
    Cid.POWER_LINE_FREQUENCY, "Mains", ControlType.MENU, 0, 2, 1, 1, menu=((0, "Off"), (1, "50 Hz"), (2, "60 Hz"))
)
PATTERN = ControlInfo(Cid.TEST_PATTERN, "Pattern", ControlType.MENU, 0, 1, 1, 0, menu=((0, "Off"), (1, "Bars")))
START = ControlInfo(Cid.AUTO_FOCUS_START, "Start", ControlType.BUTTON, 0, 0, 0, 0)
STATUS = ControlInfo(Cid.AUTO_FOCUS_STATUS, "Status", ControlType.BITMASK, 0, 7, 0, 0, ControlFlag.READ_ONLY)
INFOS = (FOCUS, IRIS, ZOOM, EXPOSURE, AUTO_FOCUS, AUTO_WHITE, MAINS, PATTERN, START, STATUS)
UNSAVED = (START.id, STATUS.id)  # OBS keeps no buttons, and hides what is read-only


class Module:
    """Takes writes as a module does, and remembers them."""

    def __init__(self) -> None:
        self.values = {info.id: info.default for info in INFOS}
        self.writes: list[dict[int, int]] = []

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        self.writes.append(dict(values))
        self.values.update(values)
        return dict(values)


@dataclass
class Stage:
    """A node with every control, and what drives it."""

    node: KernelNode
    controls: Controls
    module: Module
    store: Store

    async def attach(self, identity: str = "maker/35mm/1") -> None:
        await self.controls.attach(identity, INFOS, self.module.values, self.module.set)

    async def until(self, true: Callable[[], bool], what: str = "") -> None:
        async with asyncio.timeout(EVENT_S):
            while not true():  # noqa: ASYNC110 what is waited for is everywhere
                await asyncio.sleep(0.002)

    async def settle(self) -> None:
        """Long enough for any decision that is under way."""
        await asyncio.sleep(4 * BURST_S)

    async def app(self, name: str) -> AppProcess:
        return await asyncio.to_thread(AppProcess, self.node.path, name)

    def shown(self, control: int) -> int:
        """What an app would read."""
        return self.node.state().values[control]


@pytest.fixture(scope="module", autouse=True)
def kernel_module() -> Iterator[None]:
    """No other camera than the test's; the module can be unloaded at the end."""
    if SYSTEMD.exists():
        succeed("systemctl", "stop", SERVICE_UNIT)
    succeed("modprobe", "maglens")
    yield
    succeed("udevadm", "settle")
    succeed("modprobe", "-r", "maglens")
    succeed("modprobe", "maglens")


def play(folder: Path, act: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        node = KernelNode.create(SMALL, NAME, camera_id="test", formats=[SMALL])
        node.adopt()
        store = Store(folder)
        controls = Controls(node, store)
        stage = Stage(node, controls, Module(), store)

        async def listen() -> None:
            async for event in node.events():
                controls.handle(event)

        listener = asyncio.create_task(listen())
        await stage.attach()
        try:
            await act(stage)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            await controls.close()
            node.close()

    asyncio.run(run())


@contextmanager
def feeding(node: KernelNode) -> Iterator[None]:
    """Frames at the node's rate from a thread, until the end of the block."""
    stop = Event()

    def feed() -> None:
        number = 0
        while not stop.wait(SMALL.interval_ns / 1e9):
            number += 1
            node.submit(filled(node, node.generation, number % 200 + 1, time.monotonic_ns()))

    with ThreadPoolExecutor(1) as pool:
        fed: Future[None] = pool.submit(feed)
        try:
            yield
        finally:
            stop.set()
            fed.result()


def test_every_control_reaches_apps_in_its_kind_and_unit(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        fd = os.open(stage.node.path, os.O_RDWR | os.O_NONBLOCK)
        try:
            listed = {entry.id: entry for entry in app_calls.controls(fd)}
            assert set(listed) == {info.id for info in canonical.CONTROLS}
            for info in canonical.CONTROLS:
                assert listed[info.id].type == info.type, info.name
                inactive = bool(listed[info.id].flags & app_calls.CTRL_FLAG_INACTIVE)
                assert inactive == (info.id not in stage.module.values), info.name
            zoom = listed[Cid.ZOOM_ABSOLUTE]
            assert (zoom.minimum, zoom.maximum) == (240, 700)  # 24 to 70 mm in tenths
            assert app_calls.value(fd, Cid.POWER_LINE_FREQUENCY) == 1
            stage.controls.changed(Cid.AUTO_FOCUS_STATUS, 1)
            assert app_calls.value(fd, Cid.AUTO_FOCUS_STATUS) == 1
            app_calls.set_control(fd, Cid.AUTO_FOCUS_START, 0)
            await stage.until(lambda: {Cid.AUTO_FOCUS_START: 0} in stage.module.writes)
            app_calls.set_control(fd, Cid.TEST_PATTERN, 1)
            await stage.until(lambda: stage.module.values[Cid.TEST_PATTERN] == 1)
            app_calls.set_control(fd, Cid.FOCUS_ABSOLUTE, 137)  # the module's grid is of tens
            await stage.until(lambda: app_calls.value(fd, Cid.FOCUS_ABSOLUTE) == 140)
        finally:
            os.close(fd)

    play(tmp_path, act)


def test_obs_writing_what_it_saved_leaves_automatics_and_the_ring_alone(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        module = stage.module
        with await stage.app("obs") as obs:
            saved: list[tuple[int, int | None]] = [(i.id, module.values[i.id]) for i in INFOS if i.id not in UNSAVED]
            await asyncio.to_thread(obs.write, saved)
            await stage.settle()
            assert module.writes == [], "nothing differs"
            await asyncio.to_thread(obs.write, [(FOCUS.id, 100)])  # a slider is moved
            await stage.until(lambda: module.values[FOCUS.id] == 100)
            assert module.values[AUTO_FOCUS.id] == 0, "a hand on the slider ends the automatic"
            saved = [(control, 100 if control == FOCUS.id else value) for control, value in saved]
            # Its box for the automatic stays ticked: OBS never reads a value back.
            stage.controls.changed(FOCUS.id, 220)  # then the ring is turned ...
            module.values[FOCUS.id] = 220
            with await stage.app("cheese") as other:  # ... and another app dims and puts the automatic on again
                await asyncio.to_thread(other.write, [(EXPOSURE.id, 40), (AUTO_FOCUS.id, 1)])
                await stage.until(lambda: module.values[AUTO_FOCUS.id] == 1)
            writes = len(module.writes)
            await asyncio.to_thread(obs.write, saved)  # the properties are opened
            await stage.settle()
            assert module.writes[writes:] == []
            assert (stage.shown(FOCUS.id), stage.shown(AUTO_FOCUS.id), stage.shown(EXPOSURE.id)) == (220, 1, 40)
        with await stage.app("obs") as again:  # started anew, it writes the same at once
            await asyncio.to_thread(again.write, saved)
            await stage.settle()
            assert module.writes[writes:] == []
            assert (stage.shown(FOCUS.id), stage.shown(AUTO_FOCUS.id), stage.shown(EXPOSURE.id)) == (220, 1, 40)

    play(tmp_path, act)


def test_obs_reads_the_inputs_and_sets_the_one_it_saved(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        fd = os.open(stage.node.path, os.O_RDWR | os.O_NONBLOCK)
        other = V4l2App(stage.node.path)
        try:
            entry = app_calls.Input(index=0)
            v4l2.call(fd, app_calls.VIDIOC_ENUMINPUT, entry)
            assert entry.name == b"Automatic"
            with feeding(stage.node):
                await asyncio.to_thread(other.start)
                app_calls.set_input(fd, app_calls.get_input(fd))  # also while somebody streams
        finally:
            other.close()
            os.close(fd)

    play(tmp_path, act)


def test_chromium_resets_at_open_and_undoes_nothing(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        with await stage.app("photographer") as hand:
            await asyncio.to_thread(hand.write, [(FOCUS.id, 300), (EXPOSURE.id, 20)])
            await stage.until(lambda: (stage.module.values[FOCUS.id], stage.module.values[EXPOSURE.id]) == (300, 20))
        fd = os.open(stage.node.path, os.O_RDWR | os.O_NONBLOCK)
        os.close(fd)  # the last one has closed: defaults are what is stored
        await stage.until(lambda: stage.store.get("maker/35mm/1").get(EXPOSURE.id) == 20)
        await stage.settle()
        writes = len(stage.module.writes)
        with await stage.app("chromium") as chromium:
            resets: list[tuple[int, int | None]] = [(i.id, None) for i in INFOS if i.id not in UNSAVED]
            await asyncio.to_thread(chromium.write, resets)
            await stage.settle()
        assert stage.module.writes[writes:] == []
        assert (stage.module.values[FOCUS.id], stage.module.values[AUTO_FOCUS.id]) == (300, 0)
        await stage.controls.reset()
        assert stage.shown(EXPOSURE.id) == EXPOSURE.default
        assert stage.shown(AUTO_FOCUS.id) == 1

    play(tmp_path, act)


def test_chromium_restarts_after_a_stall_and_sees_control_events(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        app = V4l2App(stage.node.path)
        try:
            app_calls.subscribe(app.fd, app_calls.EVENT_CTRL, FOCUS.id)
            await asyncio.to_thread(app.start)
            with feeding(stage.node):
                assert await asyncio.to_thread(app.next, EVENT_S)
            stalled = time.monotonic() + CHROMIUM_STALL_S
            while time.monotonic() < stalled:  # nobody feeds: the kernel does, so that it would not even restart
                assert await asyncio.to_thread(app.next, CHROMIUM_STALL_S) is not None
            app.stop()  # STREAMOFF and REQBUFS(0)
            await asyncio.to_thread(app.start)
            with feeding(stage.node):
                assert await asyncio.to_thread(app.next, EVENT_S)
            late = []
            for value in range(100, 300, 10):
                began = time.monotonic()
                stage.controls.changed(FOCUS.id, value)
                event = app_calls.next_event(app.fd, EVENT_S)
                late.append((time.monotonic() - began) * 1000)
                assert event is not None
                assert event.id == FOCUS.id
            assert sorted(late)[len(late) // 2] < RING_MS
        finally:
            app.close()

    play(tmp_path, act)


def test_ffmpeg_asks_for_256_buffers_and_gets_unpadded_pictures(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        app = V4l2App(stage.node.path, FFMPEG_BUFFERS)
        try:
            assert app_calls.get_input(app.fd) == 0
            parm = v4l2.StreamParm(type=CAPTURE)
            v4l2.call(app.fd, v4l2.VIDIOC_G_PARM, parm)
            v4l2.call(app.fd, v4l2.VIDIOC_S_PARM, parm)
            await asyncio.to_thread(app.start)
            assert 2 <= app.buffers <= FFMPEG_BUFFERS
            with feeding(stage.node):
                for _ in range(2 * app.buffers):
                    picture = await asyncio.to_thread(app.next, EVENT_S)
                    assert picture is not None
                    assert len(picture.data) == SMALL.nbytes
        finally:
            app.close()

    play(tmp_path, act)


def test_pipewire_exports_the_buffers_and_never_sees_an_error(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        app = V4l2App(stage.node.path)
        exported: list[int] = []
        try:
            assert [c.name for c in app_calls.controls(app.fd)]
            await asyncio.to_thread(app.start)
            exported = app_calls.export(app.fd, app.buffers)
            pictures = [mmap.mmap(fd, SMALL.nbytes, prot=mmap.PROT_READ) for fd in exported]
            poll = select.poll()
            poll.register(app.fd, select.POLLIN)
            shades = set()
            for feed in (True, False):  # a source, and none
                with feeding(stage.node) if feed else nullcontext():
                    for _ in range(8):
                        ((_, what),) = await asyncio.to_thread(poll.poll, EVENT_S * 1000)
                        assert what == select.POLLIN
                        buffer = v4l2.Buffer(type=CAPTURE, memory=v4l2.MEMORY_MMAP)
                        v4l2.call(app.fd, v4l2.VIDIOC_DQBUF, buffer)
                        shades.add(pictures[buffer.index][:64])
                        v4l2.call(app.fd, v4l2.VIDIOC_QBUF, buffer)
            assert len(shades) > 2, "what is exported is what is shown"
            for picture in pictures:
                picture.close()
        finally:
            for fd in exported:
                os.close(fd)
            app.close()

    play(tmp_path, act)


def test_gstreamer_hears_of_no_change_of_source_while_the_format_stays(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        app = V4l2App(stage.node.path)
        try:
            app_calls.subscribe(app.fd, app_calls.EVENT_SOURCE_CHANGE)
            await asyncio.to_thread(app.start)
            for _ in range(2):  # a swap of modules
                stage.node.adopt()
                await stage.attach("maker/73mm/2")
                with feeding(stage.node):
                    assert await asyncio.to_thread(app.next, EVENT_S)
            assert app_calls.next_event(app.fd, 0) is None
        finally:
            app.close()

    play(tmp_path, act)
