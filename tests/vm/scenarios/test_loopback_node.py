# SPDX-License-Identifier: GPL-2.0-or-later
"""The loopback node on a real v4l2loopback: conformance, apps, and what a killed daemon leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from maglens_driver.errors import MissingDependency, WrongState
from maglens_driver.mode import NV12, YUYV, Mode, make_mode
from maglens_v4l2 import loopback_control, v4l2
from maglens_v4l2.card import Card
from maglens_v4l2.loopback_node import BUFFERS, LoopbackNode
from maglens_v4l2.pipeline import Pipeline
from tests.unit.node_conformance import CHECKS, App, Check, Lateness, NumberedSource, check_gaps, filled, pattern
from tests.unit.v4l2_app import V4l2App
from tests.vm.conftest import Record, WatchUdev

SMALL = make_mode(NV12, 320, 240, Fraction(1, 30))
NAME = "maglens test"

FEED = """
import asyncio, sys
from fractions import Fraction
from maglens_driver.mode import NV12, make_mode
from maglens_v4l2.card import Card
from maglens_v4l2.loopback_node import LoopbackNode
from maglens_v4l2.pipeline import Pipeline

async def main():
    node = LoopbackNode.create(make_mode(NV12, 320, 240, Fraction(1, 30)), sys.argv[1])
    Pipeline(node, loop=asyncio.get_running_loop(), on_lost=print, on_control=print, card=Card(sys.argv[2]))
    print(node.path, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


MakeNode = Callable[..., LoopbackNode]


@pytest.fixture(autouse=True)
def create() -> Iterator[MakeNode]:
    """create(mode=SMALL): a node that is closed at the end, and its device removed."""
    subprocess.run(["modprobe", "v4l2loopback", "devices=0"], check=True)
    with contextlib.ExitStack() as stack:

        def made(mode: Mode = SMALL) -> LoopbackNode:
            node = LoopbackNode.create(mode, NAME)
            stack.callback(node.close)
            return node

        yield made
    subprocess.run(["udevadm", "settle"], check=True)  # udev looks into new devices too
    while (path := loopback_control.find(NAME)) is not None:
        assert loopback_control.remove(path)


@pytest.fixture
def open_app() -> Iterator[Callable[[str], V4l2App]]:
    """open_app(path): an app that is closed at the end."""
    with contextlib.ExitStack() as stack:

        def opened(path: str) -> V4l2App:
            app = V4l2App(path)
            stack.callback(app.close)
            return app

        yield opened


OpenApp = Callable[[str], V4l2App]


@dataclass
class LoopbackRig:
    node: LoopbackNode

    def open(self) -> App:
        return V4l2App(self.node.path)


@contextlib.contextmanager
def feeder(title: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, "-c", FEED, NAME, title], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Check, create: MakeNode) -> None:
    asyncio.run(check(LoopbackRig(create())))


def test_apps_see_a_camera_of_one_format_and_nothing_else(create: MakeNode, open_app: OpenApp) -> None:
    node = create()
    capability = v4l2.query_path(node.path)
    assert capability is not None
    assert capability.card.decode() == NAME
    assert capability.device_caps & v4l2.CAP_VIDEO_CAPTURE
    assert not capability.device_caps & v4l2.CAP_VIDEO_OUTPUT
    listing = subprocess.run(
        ["v4l2-ctl", "-d", node.path, "--list-formats-ext"], check=True, capture_output=True, text=True
    ).stdout
    assert listing.count("Size:") == 1
    assert "Size: Discrete 320x240" in listing
    assert "30.000 fps" in listing
    assert "'NV12'" in listing
    app = open_app(node.path)
    assert app.format() == SMALL
    app.close()
    node.close()
    hidden = v4l2.query_path(node.path)
    assert hidden is not None
    assert not hidden.device_caps & v4l2.CAP_VIDEO_CAPTURE  # nobody lists a camera that nobody feeds


def test_the_device_is_adopted_again_under_the_same_path(wait_for_udev: WatchUdev, create: MakeNode) -> None:
    first = create()
    path = first.path
    first.close()
    again = create(make_mode(YUYV, 640, 480, Fraction(1, 15)))
    assert again.path == path
    assert again.state().format == make_mode(YUYV, 640, 480, Fraction(1, 15))


def test_two_daemons_the_second_is_told(create: MakeNode) -> None:
    create()
    with pytest.raises(WrongState, match="another program feeds"):
        create()


def test_without_the_kernel_module_one_line_says_what_to_do(create: MakeNode) -> None:
    subprocess.run(["modprobe", "-r", "v4l2loopback"], check=True)
    with pytest.raises(MissingDependency) as caught:
        create()
    assert "v4l2loopback" in caught.value.hint
    subprocess.run(["modprobe", "v4l2loopback", "devices=0"], check=True)


def test_a_device_made_by_modprobe_is_adopted(create: MakeNode) -> None:
    subprocess.run(["modprobe", "-r", "v4l2loopback"], check=True)
    subprocess.run(
        ["modprobe", "v4l2loopback", "devices=1", "exclusive_caps=1", "max_buffers=16", f"card_label={NAME}"],
        check=True,
    )
    node = create()
    assert node.state().format == SMALL


def test_a_reader_that_lags_never_sees_half_of_another_picture(create: MakeNode, open_app: OpenApp) -> None:
    """Far behind, it is skipped to the newest; it may lose pictures but not mix them."""
    node = create()
    generation = node.adopt()
    assert node.submit(filled(node, generation, 0, time.monotonic_ns()))
    app = open_app(node.path)
    app.start()
    whole = {pattern(SMALL, number) for number in range(256)}
    for burst in (1, BUFFERS // 2, BUFFERS - 2, 3 * BUFFERS):
        for number in range(burst):
            assert node.submit(filled(node, generation, number, time.monotonic_ns()))
        while (picture := app.next(0)) is not None:
            assert picture.data in whole


def test_killed_daemon_leaves_the_reader_waiting_and_the_next_one_resumes_it(open_app: OpenApp) -> None:
    with feeder("one") as (first, path):
        app = open_app(path)
        app.start()
        assert app.next(5) is not None
        first.send_signal(signal.SIGKILL)
        first.wait()
        while app.next(0) is not None:
            pass  # what was queued before
        assert app.next(1.0) is None  # no error, no picture: it waits
        capability = v4l2.query(app.fd)
        assert capability.device_caps & v4l2.CAP_VIDEO_CAPTURE
        with feeder("two") as (_, again):
            assert again == path
            stamps = []
            for _ in range(30):
                picture = app.next(5)
                assert picture is not None
                assert len(picture.data) == SMALL.nbytes
                stamps.append(picture.timestamp_ns)
            assert stamps == sorted(set(stamps))


def test_while_an_app_has_it_open_the_format_stays(create: MakeNode, open_app: OpenApp) -> None:
    with feeder("one") as (first, path):
        app = open_app(path)
        app.start()
        assert app.next(5) is not None
        first.kill()
        first.wait()
        node = create(make_mode(YUYV, 640, 480, Fraction(1, 30)))
        assert node.state().format == SMALL
        assert node.state().streamers == 1
        generation = node.adopt()
        assert node.submit(filled(node, generation, 1, time.monotonic_ns()))


def test_the_first_picture_an_app_gets_is_not_an_old_one(open_app: OpenApp) -> None:
    with feeder("card") as (_, path):
        time.sleep(
            3
        )  # nobody watches: this is the time in question, and long enough to fill the ring on a busy machine
        before = time.monotonic_ns()
        app = open_app(path)
        app.start()
        pictures = [app.next(5) for _ in range(20)]
        stamps = [picture.timestamp_ns for picture in pictures if picture is not None]
    assert len(stamps) == 20
    assert stamps[0] > before - 500_000_000
    assert stamps == sorted(set(stamps))


def test_ffmpeg_records_through_card_source_and_card(ffmpeg_recorder: Record, create: MakeNode) -> None:
    """One ffmpeg, no error, timestamps that rise, frames in every second."""

    async def run() -> Path:
        node = create()
        loop = asyncio.get_running_loop()
        pipeline = Pipeline(node, loop=loop, on_lost=print, on_control=print, card=Card("Before"))
        recording = ffmpeg_recorder(node.path)
        await asyncio.to_thread(recording.wait_frames, 15)
        with Lateness() as lateness:
            for generation in (1, 2):
                feed = pipeline.begin(generation, SMALL)
                source = NumberedSource(SMALL, feed, generation)
                await asyncio.sleep(2)
                await asyncio.to_thread(source.stop)
                pipeline.end(Card("After", (str(generation),)), generation)
            await asyncio.sleep(1)
        await asyncio.to_thread(recording.stop)
        assert recording.errors() == []
        stamps = recording.timestamps_us()
        print(f"{len(stamps)} frames over {(stamps[-1] - stamps[0]) / 1e6:.2f} s, {pipeline.stats()}")
        check_gaps([stamp * 1000 for stamp in stamps], SMALL.interval_ns, lateness)
        await pipeline.close()
        return recording.path

    assert os.path.getsize(asyncio.run(run())) > 60 * SMALL.nbytes
