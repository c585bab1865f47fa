# SPDX-License-Identifier: GPL-2.0-or-later
"""The bridge's kernel node on maglens.ko: conformance, controls and inputs both ways, a producer that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

import pytest

from maglens_driver.control import Cid
from maglens_driver.errors import Gone, MissingDependency, WrongState
from maglens_driver.mode import NV12, YUYV, make_mode
from maglens_v4l2 import canonical, v4l2
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.node import ControlChange, ControlSet, FormatChosen, InputChosen, InputInfo, NodeEvent
from maglens_v4l2.node_kind import NodeKind
from maglens_v4l2.nodes import open_node
from tests.unit.node_conformance import CHECKS, App, Check, Lateness, check_gaps, filled, pattern
from tests.unit.v4l2_app import V4l2App
from tests.vm.guest.devices import succeed

SMALL = make_mode(NV12, 320, 240, Fraction(1, 30))
NAME = "maglens test"

FEED = """
import asyncio, sys
from maglens_v4l2.card import Card
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.pipeline import Pipeline

async def main():
    node = KernelNode.adopt_fd(int(sys.argv[1]))
    Pipeline(node, loop=asyncio.get_running_loop(), on_lost=print, on_control=print, card=Card("fed"))
    print(node.path, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

MakeNode = Callable[[], KernelNode]
OpenApp = Callable[[str], V4l2App]


@pytest.fixture(autouse=True)
def create() -> Iterator[MakeNode]:
    """create(): a camera of one format that is gone at the end; the module can then be unloaded."""
    succeed("systemctl", "stop", "maglensd.service")
    succeed("modprobe", "maglens")
    with contextlib.ExitStack() as stack:

        def made() -> KernelNode:
            node = KernelNode.create(SMALL, NAME, camera_id="test", formats=[SMALL])
            stack.callback(node.close)
            return node

        yield made
    succeed("udevadm", "settle")
    succeed("modprobe", "-r", "maglens")
    succeed("modprobe", "maglens")


@pytest.fixture
def open_app() -> Iterator[OpenApp]:
    """open_app(path): an app that is closed at the end."""
    with contextlib.ExitStack() as stack:

        def opened(path: str) -> V4l2App:
            app = V4l2App(path)
            stack.callback(app.close)
            return app

        yield opened


@dataclass
class KernelRig:
    node: KernelNode

    def open(self) -> App:
        return V4l2App(self.node.path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Check, create: MakeNode) -> None:
    asyncio.run(check(KernelRig(create())))


async def until(events: AsyncIterator[NodeEvent], wanted: Callable[[NodeEvent], bool]) -> NodeEvent:
    async with asyncio.timeout(10):
        async for event in events:
            if wanted(event):
                return event
    raise AssertionError("the events ended")


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ctl(path: str, *words: str) -> str:
    return succeed("v4l2-ctl", "-d", path, *words)


def test_every_canonical_format_and_control_is_taken() -> None:
    node = KernelNode.create(make_mode(YUYV, 1280, 720, Fraction(1, 30)), NAME, camera_id="test")
    try:
        assert node.state().format == make_mode(YUYV, 1280, 720, Fraction(1, 30))
        listing = ctl(node.path, "--list-formats-ext")
        assert "'YUYV'" in listing
        assert "'NV12'" in listing
        assert "Size: Discrete 1920x1080" in listing
        assert "Stepwise" not in listing
        controls = ctl(node.path, "--list-ctrls-menus")
        assert controls.count("flags=") >= len(canonical.CONTROLS)
        assert controls.count("inactive") == len(canonical.CONTROLS)
        assert "focus_absolute" in controls
        assert "100000" in controls  # ISO 100, as V4L2 counts
    finally:
        node.close()


def test_an_app_sets_a_control_and_the_daemon_pushes_what_came_of_it(create: MakeNode) -> None:
    async def run() -> None:
        node = create()
        generation = node.adopt()
        node.push(generation, Cid.FOCUS_ABSOLUTE, ControlChange(value=50, range=(0, 400, 1, 50), active=True))
        events = node.events()
        waiting = asyncio.create_task(until(events, lambda e: isinstance(e, ControlSet)))
        await asyncio.to_thread(ctl, node.path, "--set-ctrl", "focus_absolute=333")
        event = await waiting
        assert isinstance(event, ControlSet)
        assert (event.id, event.value) == (Cid.FOCUS_ABSOLUTE, 333)
        assert event.process > 0
        assert event.program == "v4l2-ctl"
        assert node.state().values[Cid.FOCUS_ABSOLUTE] == 333
        node.push(generation, Cid.FOCUS_ABSOLUTE, ControlChange(value=300))
        assert "300" in await asyncio.to_thread(ctl, node.path, "--get-ctrl", "focus_absolute")
        node.push(generation - 1, Cid.FOCUS_ABSOLUTE, ControlChange(value=1))
        assert node.state().values[Cid.FOCUS_ABSOLUTE] == 300
        node.push(generation, Cid.FOCUS_ABSOLUTE, ControlChange(active=False))
        assert "inactive" in await asyncio.to_thread(ctl, node.path, "--list-ctrls")

    asyncio.run(run())


def test_a_ring_reaches_a_subscribed_reader_within_50_ms(create: MakeNode) -> None:
    node = create()
    generation = node.adopt()
    node.push(generation, Cid.FOCUS_ABSOLUTE, ControlChange(value=0, range=(0, 400, 1, 0), active=True))
    app = os.open(node.path, os.O_RDWR | os.O_NONBLOCK)
    try:
        v4l2.call(app, v4l2.VIDIOC_SUBSCRIBE_EVENT, v4l2.EventSubscription(type=3, id=Cid.FOCUS_ABSOLUTE))
        late = []
        for value in range(1, 21):
            began = time.monotonic()
            node.push(generation, Cid.FOCUS_ABSOLUTE, ControlChange(value=value))
            v4l2.call(app, v4l2.VIDIOC_DQEVENT, v4l2.Event())  # does not block: it is there
            late.append(time.monotonic() - began)
        assert sorted(late)[len(late) // 2] < 0.05
    finally:
        os.close(app)


def test_inputs_are_pushed_and_chosen(create: MakeNode) -> None:
    async def run() -> None:
        node = create()
        node.adopt()
        node.push_inputs([InputInfo("Automatic", True), InputInfo("35 mm", True), InputInfo("Webcam", False)])
        listing = await asyncio.to_thread(ctl, node.path, "--list-inputs")
        assert "35 mm" in listing
        assert listing.count("no signal") == canonical.INPUTS - 2
        waiting = asyncio.create_task(until(node.events(), lambda e: isinstance(e, InputChosen)))
        await asyncio.to_thread(ctl, node.path, "--set-input", "1")
        event = await waiting
        assert isinstance(event, InputChosen)
        assert event.index == 1
        assert node.state().input == 1

    asyncio.run(run())


def test_an_app_chooses_a_format_between_streams() -> None:
    async def run() -> None:
        node = KernelNode.create(SMALL, NAME, camera_id="test")
        try:
            generation = node.adopt()
            old = filled(node, generation, 1, time.monotonic_ns())
            waiting = asyncio.create_task(until(node.events(), lambda e: isinstance(e, FormatChosen)))
            await asyncio.to_thread(ctl, node.path, "--set-fmt-video", "width=640,height=480,pixelformat=YUYV")
            event = await waiting
            assert isinstance(event, FormatChosen)
            assert event.format == make_mode(YUYV, 640, 480, Fraction(1, 30)) == node.state().format
            assert not node.submit(old)
            assert node.submit(filled(node, generation, 1, time.monotonic_ns()))
        finally:
            node.close()

    asyncio.run(run())


def test_a_killed_producer_leaves_the_picture_and_the_next_one_goes_on(create: MakeNode, open_app: OpenApp) -> None:
    node = create()
    kept = node.fileno()
    command = [sys.executable, "-c", FEED, str(kept)]
    pictures: list[tuple[int, int]] = []  # length and timestamp
    stop = threading.Event()

    def watch(app: V4l2App) -> None:
        while not stop.is_set():
            picture = app.next(5)
            assert picture is not None
            pictures.append((len(picture.data), picture.timestamp_ns))

    app = open_app(node.path)
    app.start()
    with ThreadPoolExecutor(1) as pool, Lateness() as lateness:
        watching = pool.submit(watch, app)
        for _ in range(3):
            with subprocess.Popen(command, pass_fds=[kept], stdout=subprocess.PIPE, text=True) as feeder:
                assert feeder.stdout is not None
                assert feeder.stdout.readline().strip() == node.path
                more = len(pictures) + 30
                wait_for(lambda: len(pictures) >= more)  # noqa: B023 awaited here
                feeder.kill()
            more = len(pictures) + 30  # nobody feeds: the kernel does
            wait_for(lambda: len(pictures) >= more)  # noqa: B023 awaited here
        stop.set()
        watching.result()
    assert {length for length, _ in pictures} == {SMALL.nbytes}
    check_gaps([stamp for _, stamp in pictures], SMALL.interval_ns, lateness)
    again = KernelNode.adopt_fd(os.dup(kept))
    generation = again.adopt()
    assert again.submit(filled(again, generation, 9, time.monotonic_ns()))
    found = [picture for _ in range(20) if (picture := app.next(5)) is not None]
    assert pattern(SMALL, 9) in [picture.data for picture in found]
    again.close()


def test_closing_takes_the_camera_away(create: MakeNode) -> None:
    node = create()
    path = node.path
    lease = node.lease(SMALL.nbytes)
    assert lease is not None
    node.close()
    del lease
    succeed("udevadm", "settle")
    assert not os.path.exists(path)
    with pytest.raises(Gone):
        node.adopt()


def test_what_is_kept_and_is_no_camera_is_refused() -> None:
    with open("/dev/null") as nothing, pytest.raises(WrongState):
        KernelNode.adopt_fd(nothing.fileno())
    empty = os.open("/dev/maglens", os.O_RDWR)
    with pytest.raises(WrongState):
        KernelNode.adopt_fd(empty)
    os.close(empty)


def test_without_the_module_one_line_says_what_to_do_and_loopback_is_next() -> None:
    succeed("modprobe", "-r", "maglens")
    succeed("modprobe", "v4l2loopback", "devices=0")
    try:
        with pytest.raises(MissingDependency) as caught:
            KernelNode.create(SMALL)
        assert "modprobe maglens" in caught.value.hint
        node = open_node(NodeKind.AUTO, [SMALL])
        assert not node.caps.controls
        node.close()
        succeed("udevadm", "settle")
        succeed("v4l2loopback-ctl", "delete", node.path)
    finally:
        succeed("modprobe", "maglens")
