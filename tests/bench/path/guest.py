# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the paths side by side, in turn, on User Mode Linux; their figures go to ``$OUT/path.json``.

python -m tests.bench.path.guest REPEATS FRAMES
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
from tests.bench.path.still import index_of

BUILD = Path("/tmp/c_reader")
READER = str(BUILD / "c_reader")
HERE = Path(__file__).parent
UHD, FHD = (3840, 2160), (1920, 1080)
FAST, VIDEO = 200, 30
USBFS_MB = 512
LOOPBACK = "/dev/video42"
LIMIT_S = 60.0
MORE = 60  # frames a feeder goes on beyond what the app takes
Figures = dict[str, Any]


def sh(command: str) -> None:
    """Run it, or fail."""
    subprocess.run(["sh", "-ec", command], check=True)


@contextmanager
def module() -> Iterator[None]:
    """The module that sends as fast as it can, attached."""
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
        yield
    finally:
        still.stdin.close()
        still.wait(LIMIT_S)


def app(device: str, frames: int) -> Figures:
    """Watch a node."""
    done = subprocess.run([BUILD / "app", device, str(frames)], stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    found: Figures = json.loads(done.stdout)
    return found


def ours(code: int, size: tuple[int, int], rate: int, frames: int) -> Figures:
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
    seen = app(feeder.stdout.readline().strip(), frames)
    feeder.stdin.close()
    told = json.loads(feeder.stdout.readline())
    feeder.wait(LIMIT_S)
    if told["lost"]:
        raise RuntimeError(f"ours: {told}")
    cpu = told["cpu_s"] / max(1, told["submitted"]) + seen["cpu_s"] / seen["frames"]
    return {**seen, "feeder": told, "cpu_ms": 1000 * cpu}


def floor(code: int, size: tuple[int, int], rate: int, frames: int) -> Figures:
    """libusb in C, straight into the node's ring."""
    index = index_of(code, size, rate)
    command = [READER, "--present", "--node", "--mode", str(index), "--stream", str(frames + MORE)]
    feeder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert feeder.stderr is not None
    lines = (line.strip() for line in feeder.stderr)
    seen = app(next(line for line in lines if line.startswith("/dev/video")), frames)
    _, status, used = os.wait4(feeder.pid, 0)
    if status:
        raise RuntimeError(f"c_reader: {list(lines)}")
    cpu = (used.ru_utime + used.ru_stime) / (frames + MORE) + seen["cpu_s"] / seen["frames"]
    return {**seen, "cpu_ms": 1000 * cpu}


def loopback(feeder: str, code: int, size: tuple[int, int], rate: int, frames: int) -> Figures:
    """libusb in C, a pipe, a well-known program, v4l2loopback."""
    index = index_of(code, size, rate)
    reader = f"{BUILD}/c_reader --present --no-crc --stdout --mode {index} --stream {frames + 4 * MORE}"
    pipe = subprocess.Popen(
        ["sh", "-c", f"{reader} 2>/tmp/reader.log | {feeder}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        sh(f"until v4l2-ctl -d {LOOPBACK} --get-fmt-video | grep -q {size[0]}/{size[1]}; do "
           "v4l2-ctl --wait-for-event=source_change=0 -d /dev/null 2>/dev/null || udevadm settle; done")  # fmt: skip
        seen = app(LOOPBACK, frames)
    finally:
        pipe.wait(LIMIT_S)
    return seen


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


def paths(frames: int) -> dict[str, Callable[[], Figures]]:
    """What is run in turn."""
    short = max(40, frames // 4)
    return {
        "pass/ours": lambda: ours(NV12, UHD, FAST, frames),
        "pass/floor": lambda: floor(NV12, UHD, FAST, frames),
        "raw/ours": lambda: ours(SRGGB10P, UHD, FAST, frames),
        "bulk/ours": lambda: bulk_ours(frames),
        "bulk/floor": lambda: bulk_floor(frames),
        "latency/ours": lambda: ours(NV12, FHD, VIDEO, short),
        "latency/floor": lambda: floor(NV12, FHD, VIDEO, short),
        "pass/ffmpeg": lambda: loopback(ffmpeg(UHD, FAST), NV12, UHD, FAST, short),
        "pass/gstreamer": lambda: loopback(gstreamer(UHD, FAST), NV12, UHD, FAST, short),
    }


def main() -> int:
    """See the module."""
    repeats, frames = int(sys.argv[1]), int(sys.argv[2])
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    sh("modprobe -a libcomposite dummy_hcd maglens; "
       f"modprobe v4l2loopback devices=1 video_nr={LOOPBACK[10:]} exclusive_caps=0 max_width=8192 max_height=8192; "
       f"echo {USBFS_MB} > /sys/module/usbcore/parameters/usbfs_memory_mb; "
       f"make -s -C {shlex.quote(str(HERE.parent / 'c_reader'))} BUILD={BUILD}")  # fmt: skip
    found: dict[str, list[Figures]] = {}
    with module():
        for _ in range(repeats):
            for name, run in paths(frames).items():
                if only not in name:
                    continue
                found.setdefault(name, []).append(run())
                print(name, json.dumps(found[name][-1]), flush=True)
    Path(os.environ["OUT"], "path.json").write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
