# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the paths side by side, in turn, on User Mode Linux; their figures go to ``$OUT/path.json``.

python -m tests.bench.path.guest REPEATS FRAMES [PATH ...]
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maglens_driver.mode import NV12, SRGGB10P, fourcc_text
from maglens_driver.names import ENV_TIME_FACTOR
from tests.bench.path.still import index_of

BUILD = Path("/tmp/c_reader")
READER = str(BUILD / "c_reader")
HERE = Path(__file__).parent
UHD, FHD, VGA = (3840, 2160), (1920, 1080), (640, 480)
FAST, VIDEO = 200, 30
USBFS_MB = 512
LOOPBACK = "/dev/video42"
LIMIT_S = 40.0
TIME_FACTOR = "4"  # module, host and app share a processor, and that one with the machine
MOSTLY = 0.9  # of the pictures an app counts have to be the module's
MORE = 60  # frames a feeder goes on beyond what the app takes
Figures = dict[str, Any]


def sh(command: str) -> None:
    """Run it, or fail."""
    subprocess.run(["sh", "-ec", command], check=True)


@contextmanager
def module() -> Iterator[int]:
    """The module that sends as fast as it can, attached; its process."""
    still = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.path.still"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert still.stdin is not None
    assert still.stdout is not None
    try:
        line = still.stdout.readline()
        if line.strip() != "attached":
            raise RuntimeError(f"the module said {line!r}")
        sh("udevadm settle")
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
    """Processor time that the machine has spent, less that of one process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = self._read()

    def spent_s(self) -> float:
        """Seconds since this was made."""
        return self._read() - self._began

    def _read(self) -> float:
        user, nice, system, _, _, irq, softirq = (
            int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
        )
        own = Path(f"/proc/{self._pid}/stat").read_text().rsplit(")", 1)[1].split()
        excluded = int(own[11]) + int(own[12])
        return (user + nice + system + irq + softirq - excluded) / os.sysconf("SC_CLK_TCK")


def app(device: str, frames: int, module_pid: int, *mode: str) -> Figures:
    """Watch a node; with the processor time that everything but the module took for it."""
    meter = Meter(module_pid)
    command = [str(BUILD / "app"), device, str(frames), *mode]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    found: Figures = json.loads(done.stdout)
    return {**found, "cpu_ms": 1000 * meter.spent_s() / frames}


def ours(pid: int, code: int, size: tuple[int, int], rate: int, frames: int) -> Figures:
    """Python's path; the app's figures and its own."""
    arguments = [fourcc_text(code), str(size[0]), str(size[1]), str(rate)]
    feeder = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.path.ours", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert feeder.stdin is not None
    assert feeder.stdout is not None
    seen = app(feeder.stdout.readline().strip(), frames, pid)
    feeder.stdin.close()
    told = json.loads(feeder.stdout.readline())
    feeder.wait(LIMIT_S)
    if told["lost"] or told["submitted"] < MOSTLY * frames:  # the app has counted fillers
        raise RuntimeError(f"ours: {told}")
    return {**seen, "feeder": told}


def floor(pid: int, code: int, size: tuple[int, int], rate: int, frames: int) -> Figures:
    """libusb in C, straight into the node's ring."""
    index = index_of(code, size, rate)
    command = [READER, "--present", "--node", "--mode", str(index), "--stream", str(frames + MORE)]
    feeder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert feeder.stderr is not None
    lines = (line.strip() for line in feeder.stderr)
    try:
        seen = app(next(line for line in lines if line.startswith("/dev/video")), frames, pid)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"c_reader: {list(lines)}") from error
    if feeder.wait(LIMIT_S):
        raise RuntimeError(f"c_reader: {list(lines)}")
    return seen


def loopback(pid: int, feeder: str, size: tuple[int, int], rate: int, frames: int) -> Figures:
    """libusb in C, a pipe, a well-known program, v4l2loopback."""
    index = index_of(NV12, size, rate)
    reader = f"{READER} --present --no-crc --stdout --mode {index} --stream {frames + 4 * MORE}"
    sh(f"v4l2loopback-ctl set-caps {LOOPBACK} NV12:{size[0]}x{size[1]}@{rate}/1 >/dev/null 2>&1 || true")
    pipe = subprocess.Popen(["sh", "-c", f"{reader} 2>/tmp/reader.log | {feeder}"], stdout=subprocess.DEVNULL)
    try:
        while "producing" not in (shown := loopback_state()) and pipe.poll() is None:
            os.sched_yield()
        if pipe.poll() is not None:
            raise RuntimeError(f"{feeder}: ended by itself, {shown}: {Path('/tmp/reader.log').read_text()}")
        return app(LOOPBACK, frames, pid)
    finally:
        pipe.wait(LIMIT_S)


def loopback_state() -> str:
    """``producing`` once something writes to the device: a reader sees its format then."""
    done = subprocess.run(
        ["v4l2-ctl", "-d", LOOPBACK, "--get-fmt-video"], stdout=subprocess.PIPE, text=True, check=False
    )
    return "producing" if "NV12" in done.stdout else done.stdout


def uvc(frames: int) -> Figures:
    """What the kernel itself makes of a webcam."""
    with webcam() as pid:
        return app(webcam_node(), frames, pid, "NV12", str(VGA[0]), str(VGA[1]))


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
    command = [sys.executable, "-m", "tests.bench.path.bulk", str(index_of(NV12, UHD, FAST)), str(frames)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    return {"frames_per_s": float(done.stdout)}


def bulk_floor(frames: int) -> Figures:
    """The same in C."""
    command = [READER, "--present", "--mode", str(index_of(NV12, UHD, FAST)), "--stream", str(frames)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    found: Figures = json.loads(done.stdout)
    return found


def paths(pid: int, frames: int) -> dict[str, Callable[[], Figures]]:
    """What is run in turn."""
    short = max(40, frames // 4)
    return {
        "pass/ours": lambda: ours(pid, NV12, UHD, FAST, frames),
        "pass/floor": lambda: floor(pid, NV12, UHD, FAST, frames),
        "raw/ours": lambda: ours(pid, SRGGB10P, UHD, FAST, frames),
        "bulk/ours": lambda: bulk_ours(frames),
        "bulk/floor": lambda: bulk_floor(frames),
        "latency/ours": lambda: ours(pid, NV12, FHD, VIDEO, short),
        "latency/floor": lambda: floor(pid, NV12, FHD, VIDEO, short),
        "vga/ours": lambda: ours(pid, NV12, VGA, VIDEO, short),
        "vga/uvc": lambda: uvc(short),
        "pass/ffmpeg": lambda: loopback(pid, ffmpeg(UHD, FAST), UHD, FAST, short),
        "pass/gstreamer": lambda: loopback(pid, gstreamer(UHD, FAST), UHD, FAST, short),
    }


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
    with module() as pid:
        for _ in range(repeats):
            for name, run in paths(pid, frames).items():
                if name not in only and only:
                    continue
                found.setdefault(name, []).append(run())
                print(name, json.dumps(found[name][-1]), flush=True)
    Path(os.environ["OUT"], "path.json").write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
