# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the paths side by side on User Mode Linux; their figures go to ``$OUT/path.json``.

python -m tests.bench.path.guest [--quick] [PATH ...]

First short runs in turn, again and again, for rates with the processor saturated; then one long run of each for
latency and processor time, whose windows are the repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from maglens_driver.mode import NV12, SRGGB10P, fourcc_text
from maglens_driver.names import ENV_TIME_FACTOR
from maglens_driver.usb.discovery import Discovery
from tests.bench.path.meter import BUILD, LIMIT_S, Figures, Span, apps
from tests.bench.path.still import FASTEST, STEPS, index_of

READER = str(BUILD / "c_reader")
HERE = Path(__file__).parent
UHD, FHD, VGA = (3840, 2160), (1920, 1080), (640, 480)
VIDEO = 30
REPEATS = 3
TURNS = {"pass/floor": 5, "pass/ours": 5}  # of a pair that is promised; REPEATS of all others
SHORT, QUICK_SHORT = Span(1, 4.0), Span(1, 2.0)
LONG, QUICK_LONG = Span(REPEATS, 20.0), Span(REPEATS, 2.0)  # the first is a run of a minute
BULK_FRAMES, QUICK_BULK_FRAMES = 120, 60
TRIAL, TRIALS = Span(1, 2.0), 6  # a rate that is tried, and how many are at most
ABOVE = 1.05
KEPT_UP, FELL = 0.98, 0.9  # of the pictures that were offered: there is room for more; it is too many
READERS, MODULES = (1, 2, 4), (1, 2, 3)  # one of either is the plain path
USBFS_MB = 512
LOOPBACKS = {UHD: 42, FHD: 43}  # a device for each size: it is fixed for as long as someone holds one
TIME_FACTOR = "4"  # module, host and app share a processor, and that one with the machine
ENDLESS = 10_000_000  # frames: until killed
PIPE_READ = (
    262_144  # bytes that fdsrc asks for: by whole pictures, a buffer for however little comes, it is half as fast
)
Runs = dict[str, Callable[[], list[Figures]]]


def sh(command: str) -> None:
    """Run it, or fail."""
    subprocess.run(["sh", "-ec", command], check=True)


async def enumerated(count: int) -> None:
    """Until the host has so many modules."""
    async with Discovery() as discovery, asyncio.timeout(LIMIT_S):
        events = discovery.events()
        while len(discovery.present()) < count:
            await anext(events)


@contextmanager
def ending(command: list[str], **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that goes on until it is told to end."""
    running = subprocess.Popen(command, text=True, **how)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise


@contextmanager
def module(number: int = 1) -> Iterator[int]:
    """The module that sends as fast as it can, attached; its process."""
    command = [sys.executable, "-m", "tests.bench.path.still", str(number)]
    still = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert still.stdin is not None
    assert still.stdout is not None
    try:
        line = still.stdout.readline()
        if line.strip() != "attached":
            raise RuntimeError(f"the module said {line!r}")
        asyncio.run(enumerated(number))
        yield still.pid
    finally:
        still.stdin.close()
        still.wait(LIMIT_S)


@contextmanager
def webcam(*options: str) -> Iterator[int]:
    """A UVC camera on a bulk endpoint, behind vhci-hcd; its process."""
    plugged = subprocess.Popen(
        [sys.executable, "-m", "tests.tools.usbip", "plug", "--stamped", *options],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert plugged.stdout is not None
    try:
        line = plugged.stdout.readline()
        if not line.startswith("plugged"):
            raise RuntimeError(f"the emulated camera said {line!r}")
        yield plugged.pid
    finally:
        plugged.terminate()
        plugged.wait(LIMIT_S)


def webcam_node() -> str:
    """The emulated camera's picture device, once it is there."""
    with subprocess.Popen(["udevadm", "monitor", "-k", "-s", "video4linux"], stdout=subprocess.PIPE) as monitor:
        assert monitor.stdout is not None
        try:
            while True:
                for name in sorted(Path("/sys/class/video4linux").glob("video*/uevent")):
                    driver = name.parent / "device" / "driver"
                    index = (name.parent / "index").read_text().strip()
                    if driver.exists() and driver.resolve().name == "uvcvideo" and index == "0":
                        sh("udevadm settle")
                        return f"/dev/{name.parent.name}"
                monitor.stdout.readline()
        finally:
            monitor.kill()


def ours(pids: list[int], code: int, size: tuple[int, int], rate: int, span: Span, readers: int = 1) -> list[Figures]:
    """Python's path, of as many modules as there are; the apps' figures and its own."""
    arguments = [fourcc_text(code), *(str(n) for n in (*size, rate, len(pids)))]
    feeder = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.path.ours", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert feeder.stdin is not None
    assert feeder.stdout is not None
    try:
        nodes = feeder.stdout.readline().split()
        if not nodes:
            raise RuntimeError("ours ended by itself")
        seen = apps(nodes * readers, span, pids)
        feeder.stdin.close()
        told = json.loads(feeder.stdout.readline() or "{}")
        feeder.wait(LIMIT_S)
    finally:
        feeder.kill()
        feeder.wait()
    if not told or any(stage["lost"] for stage in told["stages"]):
        raise RuntimeError(f"ours: {told}")
    return [{**window, "rate": rate, "feeder": told} for window in seen]


class Fastest:
    """Our path at the rate at which most pictures reach the app: more would only be left out, which costs, and a
    node of a higher rate would fill in. ``guess`` has the rate to begin with. A run that keeps up, or falls behind,
    has the next one offered a little more, or less."""

    def __init__(self, pids: list[int], code: int, size: tuple[int, int], guess: Callable[[], float]) -> None:
        self._pids = pids
        self._code = code
        self._size = size
        self._guess = guess
        self._steps = sorted(STEPS[size])
        self._rate = 0

    def __call__(self, span: Span) -> list[Figures]:
        """One run; before the first, the rate is found."""
        if not self._rate:
            self._rate = self._best()
        found = self._run(self._rate, span)
        reached = sum(one["frames_per_s"] for one in found) / len(found)
        if reached >= KEPT_UP * self._rate:
            self._rate = min((step for step in self._steps if step > self._rate), default=self._rate)
        elif reached < FELL * self._rate:
            self._rate = max((step for step in self._steps if step < self._rate), default=self._rate)
        return found

    def _best(self) -> int:
        """From a little above the guess downward, until a rate is kept up with."""
        rate = min((step for step in self._steps if step >= ABOVE * self._guess()), default=self._steps[-1])
        tried: dict[int, float] = {}
        while rate not in tried and len(tried) < TRIALS:
            reached = tried[rate] = self._run(rate, TRIAL)[0]["frames_per_s"]
            if reached >= KEPT_UP * rate:
                break
            rate = max((step for step in self._steps if step <= (rate + reached) / 2), default=self._steps[0])
        return max(tried, key=lambda step: tried[step])

    def _run(self, rate: int, span: Span) -> list[Figures]:
        return ours(self._pids, self._code, self._size, rate, span)


def floor(pids: list[int], size: tuple[int, int], rate: int, span: Span) -> list[Figures]:
    """libusb in C, straight into the node's ring."""
    command = [READER, "--present", "--node", "--mode", str(index_of(NV12, size, rate)), "--stream", str(ENDLESS)]
    said: list[str] = []
    with ending(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as feeder:
        assert feeder.stderr is not None
        for line in feeder.stderr:
            said.append(line.strip())
            if line.startswith("/dev/video"):
                break
        else:
            raise RuntimeError(f"c_reader made no node: {said}")
        seen = apps(said[-1:], span, pids)
        if feeder.poll() is not None:
            raise RuntimeError(f"c_reader ended by itself: {feeder.stderr.read()}")
        return seen


def loopback(pids: list[int], feeder: str, size: tuple[int, int], rate: int, span: Span) -> list[Figures]:
    """libusb in C, a pipe, a well-known program, v4l2loopback."""
    device = f"/dev/video{LOOPBACKS[size]}"
    sh(f"v4l2loopback-ctl set-caps {device} NV12:{size[0]}x{size[1]}@{rate}/1 >/dev/null 2>&1 || true")
    mode = str(index_of(NV12, size, rate))
    command = [READER, "--present", "--no-crc", "--stdout", "--mode", mode, "--stream", str(ENDLESS)]
    with (
        Path("/tmp/reader.log").open("w") as log,
        ending(command, stdout=subprocess.PIPE, stderr=log) as reader,
        ending(shlex.split(feeder + device), stdin=reader.stdout, stdout=subprocess.DEVNULL) as copier,
    ):
        assert reader.stdout is not None
        reader.stdout.close()  # the copier has it
        while "NV12" not in (shown := shown_by(device)) and copier.poll() is None:
            os.sched_yield()
        if copier.poll() is not None:
            raise RuntimeError(f"{feeder}: ended by itself, {shown}: {Path(log.name).read_text()}")
        return apps([device], span, pids)


def shown_by(device: str) -> str:
    """What a reader of the device would see, once something writes to it."""
    command = ["v4l2-ctl", "-d", device, "--get-fmt-video"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


def uvc(span: Span, *options: str) -> list[Figures]:
    """What the kernel itself makes of a webcam."""
    with webcam(*options) as pid:
        return apps([webcam_node()], span, [pid], "NV12", str(VGA[0]), str(VGA[1]))


def ffmpeg(size: tuple[int, int], rate: int) -> str:
    """Copies what it reads to v4l2loopback, whose device the command ends with."""
    return (
        f"ffmpeg -v error -f rawvideo -pixel_format nv12 -video_size {size[0]}x{size[1]} -framerate {rate} -i - "
        "-c:v copy -f v4l2 "
    )


def gstreamer(size: tuple[int, int], rate: int) -> str:
    """The same."""
    return (
        f"gst-launch-1.0 -q fdsrc blocksize={PIPE_READ} ! rawvideoparse format=nv12 "
        f"width={size[0]} height={size[1]} framerate={rate}/1 ! v4l2sink sync=false io-mode=mmap device="
    )


def bulk_ours(frames: int) -> list[Figures]:
    """Checked frames into buffers nobody looks at."""
    command = [sys.executable, "-m", "tests.bench.path.bulk", str(index_of(NV12, UHD, FASTEST)), str(frames)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    return [{"frames_per_s": float(done.stdout)}]


def bulk_floor(frames: int) -> list[Figures]:
    """The same in C."""
    command = [READER, "--present", "--mode", str(index_of(NV12, UHD, FASTEST)), "--stream", str(frames)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    return [json.loads(done.stdout)]


class Paths:
    """What is run with one module."""

    def __init__(self, pids: list[int], short: Span, long: Span, frames: int) -> None:
        self._pids = pids
        self._short, self._long = short, long
        self._frames = frames
        self._least = 0.0  # what C does
        self._passed = Fastest(pids, NV12, UHD, self._guess)
        self._developed = Fastest(pids, SRGGB10P, UHD, self._guess)
        self._small = Fastest(pids, NV12, VGA, lambda: max(STEPS[VGA]))

    def _floor(self) -> list[Figures]:
        found = floor(self._pids, UHD, FASTEST, self._short)
        self._least = found[0]["frames_per_s"]
        return found

    def _guess(self) -> float:
        if not self._least:
            self._floor()
        return self._least

    def short(self) -> Runs:
        """As fast as it goes."""
        pids, span, frames = self._pids, self._short, self._frames
        return {
            "pass/floor": self._floor,
            "pass/ours": partial(self._passed, span),
            "pass/ffmpeg": partial(loopback, pids, ffmpeg(UHD, FASTEST), UHD, FASTEST, span),
            "pass/gstreamer": partial(loopback, pids, gstreamer(UHD, FASTEST), UHD, FASTEST, span),
            "raw/ours": partial(self._developed, span),
            "bulk/ours": partial(bulk_ours, frames),
            "bulk/floor": partial(bulk_floor, frames),
            "vga-pass/ours": partial(self._small, span),
            "vga-pass/uvc": partial(uvc, span, "--unpaced"),
        }

    def long(self) -> Runs:
        """At 30 pictures a second, but for 4K."""
        pids, span = self._pids, self._long
        return {
            "1080p/ours": partial(ours, pids, NV12, FHD, VIDEO, span),
            "1080p/floor": partial(floor, pids, FHD, VIDEO, span),
            "1080p/ffmpeg": partial(loopback, pids, ffmpeg(FHD, VIDEO), FHD, VIDEO, span),
            "1080p/gstreamer": partial(loopback, pids, gstreamer(FHD, VIDEO), FHD, VIDEO, span),
            "vga/ours": partial(ours, pids, NV12, VGA, VIDEO, span),
            "vga/uvc": partial(uvc, span),
            "4k/ours": partial(self._passed, span),
            "4k/floor": partial(floor, pids, UHD, FASTEST, span),
            **{f"readers/{n}": partial(ours, pids, NV12, FHD, VIDEO, span, n) for n in READERS[1:]},
        }


def growth(first: list[int], span: Span) -> Iterator[tuple[str, Callable[[], list[Figures]]]]:
    """Two modules, three, each with a node and an app of its own; the first is there."""
    with ExitStack() as attached:
        pids = [*first]
        for number in MODULES[1:]:
            pids.append(attached.enter_context(module(number)))
            yield f"modules/{number}", partial(ours, [*pids], NV12, FHD, VIDEO, span)


class Book:
    """What was found. It is written after every run: one that is cut off leaves what it has."""

    def __init__(self, told: Path, only: list[str]) -> None:
        self.failed = False
        self._told = told
        self._only = only
        self._found: dict[str, list[Figures]] = {}

    def wants(self, name: str) -> bool:
        """Whether it was asked for."""
        return not self._only or any(one.startswith(name) for one in self._only)

    def keep(self, name: str, run: Callable[[], list[Figures]]) -> None:
        """Run it, if it is wanted. One that fails does not keep the others from being measured."""
        if self._only and name not in self._only:
            return
        try:
            windows = run()
        except (RuntimeError, subprocess.SubprocessError) as error:
            self.failed = True
            print(f"{name}: FAILED: {error}", flush=True)
            return
        self._found.setdefault(name, []).extend(windows)
        self._told.write_text(json.dumps(self._found))
        for figures in windows:
            print(name, json.dumps(figures), flush=True)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("paths", nargs="*", metavar="PATH")
    chosen = parser.parse_args()
    short, long, frames = (QUICK_SHORT, QUICK_LONG, QUICK_BULK_FRAMES) if chosen.quick else (SHORT, LONG, BULK_FRAMES)
    os.environ[ENV_TIME_FACTOR] = TIME_FACTOR
    numbers = ",".join(str(n) for n in LOOPBACKS.values())
    sh("modprobe -a libcomposite dummy_hcd maglens vhci-hcd uvcvideo; "
       f"modprobe v4l2loopback devices={len(LOOPBACKS)} video_nr={numbers} exclusive_caps=0,0 max_width=8192 "
       "max_height=8192; "
       f"echo {USBFS_MB} > /sys/module/usbcore/parameters/usbfs_memory_mb; "
       f"make -s -C {shlex.quote(str(HERE.parent / 'c_reader'))} BUILD={BUILD}")  # fmt: skip
    book = Book(Path(os.environ["OUT"], "path.json"), chosen.paths)
    with module() as pid:
        paths = Paths([pid], short, long, frames)
        for turn in range(max(TURNS.values())):
            for name, run in paths.short().items():
                if turn < TURNS.get(name, REPEATS):
                    book.keep(name, run)
        for name, run in paths.long().items():
            book.keep(name, run)
        if book.wants("modules/"):
            for name, run in growth([pid], long):
                book.keep(name, run)
    return int(book.failed)


if __name__ == "__main__":
    sys.exit(main())
