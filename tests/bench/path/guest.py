# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the paths side by side, in turn, on User Mode Linux; their figures go to ``$OUT/path.json``.

python -m tests.bench.path.guest REPEATS FRAMES [PATH ...]
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from maglens_driver.mode import NV12, SRGGB10P, fourcc_text
from maglens_driver.names import ENV_TIME_FACTOR
from maglens_driver.usb.discovery import Discovery
from tests.bench.path.still import FASTEST, STEPS, index_of

BUILD = Path("/tmp/c_reader")
READER = str(BUILD / "c_reader")
HERE = Path(__file__).parent
UHD, FHD, VGA = (3840, 2160), (1920, 1080), (640, 480)
VIDEO = 30
TRIAL, TRIALS = 30, 3  # frames at a rate that is tried, and how many are
ABOVE = 1.05
READERS, MODULES = (1, 2, 4), (1, 2, 3)
USBFS_MB = 512
LOOPBACK = "/dev/video42"
LIMIT_S = 40.0
SLOWEST = 12.0  # frames a second: what lasts longer has stopped
TIME_FACTOR = "4"  # module, host and app share a processor, and that one with the machine
APP_WARM_UP = 40  # pictures that an app takes before it counts
MORE = 100  # frames a feeder goes on beyond what the app takes
Figures = dict[str, Any]


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
def webcam() -> Iterator[int]:
    """A UVC camera on a bulk endpoint, behind vhci-hcd; its process."""
    plugged = subprocess.Popen(
        [sys.executable, "-m", "tests.tools.usbip", "plug"],
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


class Meter:
    """Processor time that the machine has spent, less that of some processes."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._began = self._read()

    def spent_s(self) -> float:
        """Seconds since this was made."""
        return self._read() - self._began

    def _read(self) -> float:
        user, nice, system, _, _, irq, softirq = (
            int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
        )
        ticks = user + nice + system + irq + softirq
        for pid in self._pids:
            own = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks -= int(own[11]) + int(own[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def apps(devices: list[str], frames: int, pids: list[int], *mode: str) -> Figures:
    """Watch nodes, each by an app of its own; the first one's figures, the rate of all together, and the processor
    time per picture that everything but the modules took."""
    meter = Meter(*pids)
    running = [
        subprocess.Popen([str(BUILD / "app"), device, str(frames), *mode], stdout=subprocess.PIPE)
        for device in devices
    ]
    try:
        printed = [one.communicate(timeout=LIMIT_S + frames / SLOWEST)[0] for one in running]
    finally:
        for one in running:
            one.kill()
    spent = meter.spent_s()
    if any(one.returncode for one in running):
        raise RuntimeError(f"app: {[one.returncode for one in running]}")
    found: list[Figures] = [json.loads(text) for text in printed]
    rate = sum(one["frames_per_s"] for one in found)
    seen = sum(one["frames"] + APP_WARM_UP for one in found)
    return {**found[0], "frames_per_s": rate, "cpu_ms": 1000 * spent / seen}


def ours(pids: list[int], code: int, size: tuple[int, int], rate: int, frames: int, readers: int = 1) -> Figures:
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
        seen = apps(nodes * readers, frames, pids)
        feeder.stdin.close()
        told = json.loads(feeder.stdout.readline() or "{}")
        feeder.wait(LIMIT_S)
    finally:
        feeder.kill()
        feeder.wait()
    if not told or any(stage["lost"] for stage in told["stages"]):
        raise RuntimeError(f"ours: {told}")
    return {**seen, "feeder": told}


class Fastest:
    """Our path at about the rate at which pictures can reach the app: more would only be left out, which costs, and a
    node of a higher rate would fill in. ``guess`` has the rate to begin with."""

    def __init__(self, pids: list[int], code: int, guess: Callable[[], float]) -> None:
        self._pids = pids
        self._code = code
        self._guess = guess
        self._rate = 0

    def __call__(self, frames: int) -> Figures:
        """One run; the first is for finding the rate."""
        if not self._rate:
            self._rate = _step(self._guess())
            for _ in range(TRIALS):
                slower = _step(self._run(TRIAL)["frames_per_s"])
                if slower >= self._rate:
                    break
                self._rate = slower
        return {**self._run(frames), "rate": self._rate}

    def _run(self, frames: int) -> Figures:
        return ours(self._pids, self._code, UHD, self._rate, frames)


def _step(rate: float) -> int:
    """The next that the module has above a rate."""
    return min((step for step in STEPS if step >= ABOVE * rate), default=max(STEPS))


def floor(pids: list[int], code: int, size: tuple[int, int], rate: int, frames: int) -> Figures:
    """libusb in C, straight into the node's ring."""
    index = index_of(code, size, rate)
    command = [READER, "--present", "--node", "--mode", str(index), "--stream", str(frames + MORE)]
    feeder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert feeder.stderr is not None
    said: list[str] = []
    try:
        for line in feeder.stderr:
            said.append(line.strip())
            if line.startswith("/dev/video"):
                break
        else:
            raise RuntimeError(f"c_reader made no node: {said}")
        seen = apps(said[-1:], frames, pids)
        if feeder.wait(LIMIT_S):
            raise RuntimeError(f"c_reader: {feeder.stderr.read()}")
        return seen
    finally:
        feeder.kill()
        feeder.wait()


def loopback(pids: list[int], feeder: str, size: tuple[int, int], rate: int, frames: int) -> Figures:
    """libusb in C, a pipe, a well-known program, v4l2loopback."""
    index = index_of(NV12, size, rate)
    reader = f"{READER} --present --no-crc --stdout --mode {index} --stream {frames + 4 * MORE}"
    sh(f"v4l2loopback-ctl set-caps {LOOPBACK} NV12:{size[0]}x{size[1]}@{rate}/1 >/dev/null 2>&1 || true")
    command = ["sh", "-c", f"{reader} 2>/tmp/reader.log | {feeder}"]
    pipe = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while "producing" not in (shown := loopback_state()) and pipe.poll() is None:
            os.sched_yield()
        if pipe.poll() is not None:
            raise RuntimeError(f"{feeder}: ended by itself, {shown}: {Path('/tmp/reader.log').read_text()}")
        return apps([LOOPBACK], frames, pids)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pipe.pid, signal.SIGKILL)
        pipe.wait()


def loopback_state() -> str:
    """``producing`` once something writes to the device: a reader sees its format then."""
    done = subprocess.run(
        ["v4l2-ctl", "-d", LOOPBACK, "--get-fmt-video"], stdout=subprocess.PIPE, text=True, check=False
    )
    return "producing" if "NV12" in done.stdout else done.stdout


def uvc(frames: int) -> Figures:
    """What the kernel itself makes of a webcam."""
    with webcam() as pid:
        return apps([webcam_node()], frames, [pid], "NV12", str(VGA[0]), str(VGA[1]))


def ffmpeg(size: tuple[int, int], rate: int) -> str:
    """Copies what it reads to v4l2loopback."""
    return (
        f"ffmpeg -v error -f rawvideo -pixel_format nv12 -video_size {size[0]}x{size[1]} -framerate {rate} -i - "
        f"-c:v copy -f v4l2 {LOOPBACK}"
    )


def gstreamer(size: tuple[int, int], rate: int) -> str:
    """The same."""
    return (
        f"gst-launch-1.0 -q fdsrc blocksize={size[0] * size[1] * 3 // 2} ! rawvideoparse format=nv12 "
        f"width={size[0]} height={size[1]} framerate={rate}/1 ! v4l2sink sync=false io-mode=mmap device={LOOPBACK}"
    )


def bulk_ours(frames: int) -> Figures:
    """Checked frames into buffers nobody looks at."""
    command = [sys.executable, "-m", "tests.bench.path.bulk", str(index_of(NV12, UHD, FASTEST)), str(frames)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    return {"frames_per_s": float(done.stdout)}


def bulk_floor(frames: int) -> Figures:
    """The same in C."""
    command = [READER, "--present", "--mode", str(index_of(NV12, UHD, FASTEST)), "--stream", str(frames)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    found: Figures = json.loads(done.stdout)
    return found


def paths(pids: list[int], frames: int) -> dict[str, Callable[[], Figures]]:
    """What is run in turn."""
    short = max(40, frames // 4)
    least: list[float] = []  # what C does

    def c() -> Figures:
        figures = floor(pids, NV12, UHD, FASTEST, frames)
        least.append(figures["frames_per_s"])
        return figures

    def best() -> float:
        if not least:
            c()
        return least[0]

    passed, developed = Fastest(pids, NV12, best), Fastest(pids, SRGGB10P, best)
    return {
        "pass/floor": c,
        "pass/ours": lambda: passed(frames),
        "raw/ours": lambda: developed(frames),
        "bulk/ours": lambda: bulk_ours(frames),
        "bulk/floor": lambda: bulk_floor(frames),
        "latency/ours": lambda: ours(pids, NV12, FHD, VIDEO, short),
        "latency/floor": lambda: floor(pids, NV12, FHD, VIDEO, short),
        "vga/ours": lambda: ours(pids, NV12, VGA, VIDEO, short),
        "vga/uvc": lambda: uvc(short),
        "pass/ffmpeg": lambda: loopback(pids, ffmpeg(UHD, FASTEST), UHD, FASTEST, short),
        "pass/gstreamer": lambda: loopback(pids, gstreamer(UHD, FASTEST), UHD, FASTEST, short),
        **{f"readers/{n}": partial(ours, pids, NV12, FHD, VIDEO, short, n) for n in READERS},
    }


def growth(frames: int) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """One module, two, three, each with a node and an app of its own."""
    with ExitStack() as attached:
        pids: list[int] = []
        for number in MODULES:
            pids.append(attached.enter_context(module(number)))
            yield f"modules/{number}", partial(ours, pids, NV12, FHD, VIDEO, frames)


def main() -> int:
    """See the module."""
    repeats, frames = int(sys.argv[1]), int(sys.argv[2])
    only = sys.argv[3:]
    os.environ[ENV_TIME_FACTOR] = TIME_FACTOR
    sh("modprobe -a libcomposite dummy_hcd maglens vhci-hcd uvcvideo; "
       f"modprobe v4l2loopback devices=1 video_nr={LOOPBACK[10:]} exclusive_caps=0 max_width=8192 max_height=8192; "
       f"echo {USBFS_MB} > /sys/module/usbcore/parameters/usbfs_memory_mb; "
       f"make -s -C {shlex.quote(str(HERE.parent / 'c_reader'))} BUILD={BUILD}")  # fmt: skip
    found: dict[str, list[Figures]] = {}
    told = Path(os.environ["OUT"], "path.json")
    failed = False

    def keep(name: str, run: Callable[[], Figures]) -> None:
        """One that fails does not keep the others from being measured."""
        nonlocal failed
        try:
            figures = run()
        except (RuntimeError, subprocess.SubprocessError) as error:
            failed = True
            print(f"{name}: FAILED: {error}", flush=True)
            return
        found.setdefault(name, []).append(figures)
        told.write_text(json.dumps(found))  # a run that is cut off leaves what it has found
        print(name, json.dumps(figures), flush=True)

    with module() as pid:
        all_paths = paths([pid], frames)
        for _ in range(repeats):
            for name, run in all_paths.items():
                if name in only or not only:
                    keep(name, run)
    if "modules" in only or not only:
        for _ in range(repeats):
            for name, run in growth(max(40, frames // 4)):
                keep(name, run)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
