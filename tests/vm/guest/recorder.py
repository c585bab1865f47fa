# SPDX-License-Identifier: GPL-2.0-or-later
"""Recording: what ffmpeg, as an app, gets from a V4L2 node, bit for bit and with the kernel's timestamps.

`-ts default` takes each buffer's timestamp as it is (CLOCK_MONOTONIC for drivers and loopback devices),
`-copyts` keeps it, and a NUT file stores it in the demuxer's microseconds.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.vm.guest.limits import EVENT_S

STOP_S = 30.0
"""ffmpeg gets this long to write the end of the file."""


class RecorderError(AssertionError):
    """ffmpeg ended by itself or reported an error; the message has its standard error."""


class Recording:
    """One ffmpeg that records a node from __enter__ to __exit__ (or stop)."""

    def __init__(self, device: str | Path, path: Path, options: Sequence[str] = ()) -> None:
        """options: for the input, such as -input_format nv12 -video_size 1280x720."""
        self.path = path
        self.stderr_path = path.with_suffix(".stderr")
        self.frames = 0
        command = [
            "ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "level+info", "-nostats", "-y",
            "-progress", "pipe:1", "-stats_period", "0.1",
            "-f", "v4l2", "-ts", "default", *options, "-i", str(device),
            "-c", "copy", "-copyts", "-f", "nut", str(path),
        ]  # fmt: skip
        with self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, bufsize=0)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def stderr(self) -> str:
        """What ffmpeg said so far."""
        return self.stderr_path.read_text(errors="replace")

    def wait_frames(self, count: int, deadline_s: float = EVENT_S) -> int:
        """Wait until that many frames are in the file; how many there are."""
        end = time.monotonic() + deadline_s
        assert self.process.stdout is not None
        while self.frames < count:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise RecorderError(f"{self.frames} of {count} frames within {deadline_s} s:\n{self.stderr}")
            data = os.read(self.process.stdout.fileno(), 1 << 14)
            if not data:
                raise RecorderError(f"ffmpeg ended by itself after {self.frames} frames:\n{self.stderr}")
            self._progress(data)
        return self.frames

    def wait_more(self, count: int, deadline_s: float = EVENT_S) -> int:
        """Wait until so many frames more than now are in the file; how many there are."""
        assert self.process.stdout is not None
        while select.select([self.process.stdout], [], [], 0)[0] and (
            data := os.read(self.process.stdout.fileno(), 1 << 14)
        ):
            self._progress(data)
        return self.wait_frames(self.frames + count, deadline_s)

    def stop(self) -> None:
        """End the recording; RecorderError if ffmpeg was gone already or failed. A second stop does nothing."""
        if self.process.returncode is not None:
            return
        if self.process.poll() is not None:
            raise RecorderError(f"ffmpeg ended by itself ({self.process.returncode}):\n{self.stderr}")
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=STOP_S)
        self._progress(output)
        # 255 is how ffmpeg says that a signal ended it and the file is complete.
        if self.process.returncode not in (0, 255):
            raise RecorderError(f"ffmpeg failed ({self.process.returncode}):\n{self.stderr}")

    def errors(self) -> list[str]:
        """Lines of ffmpeg at level error or worse."""
        return [line for line in self.stderr.splitlines() if line.startswith(("[error]", "[fatal]", "[panic]"))]

    def timestamps_us(self) -> list[int]:
        """The timestamp of every frame in the file, in microseconds of CLOCK_MONOTONIC."""
        command = ["ffprobe", "-v", "error", "-of", "json", "-show_entries", "packet=pts:stream=time_base"]
        probed = json.loads(subprocess.run([*command, str(self.path)], capture_output=True, check=True).stdout)
        numerator, denominator = map(int, probed["streams"][0]["time_base"].split("/"))
        return [int(packet["pts"]) * numerator * 1_000_000 // denominator for packet in probed["packets"]]

    def _progress(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            key, _, value = line.partition(b"=")
            if key == b"frame":
                self.frames = int(value)
