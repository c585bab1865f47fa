# SPDX-License-Identifier: GPL-2.0-or-later
"""Recording: what ffmpeg, as an app, gets from a V4L2 node, bit for bit and with the kernel's timestamps.

`-ts default` takes each buffer's timestamp as it is (CLOCK_MONOTONIC for drivers and loopback devices),
`-copyts` keeps it, and a NUT file stores it in the demuxer's microseconds.
"""

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.vm.guest.limits import EVENT_S
from tests.vm.guest.program import Program, ProgramError


class Recording(Program):
    """One ffmpeg that records a node from __enter__ to __exit__ (or stop)."""

    good = (0, 255)  # 255 is how ffmpeg says that a signal ended it and the file is complete

    def __init__(self, device: str | Path, path: Path, options: Sequence[str] = ()) -> None:
        """options: for the input, such as -input_format nv12 -video_size 1280x720."""
        self.path = path
        self.frames = 0
        self._rest = b""
        command = [
            "ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "level+info", "-nostats", "-y",
            "-progress", "pipe:1", "-stats_period", "0.1",
            "-f", "v4l2", "-ts", "default", *options, "-i", str(device),
            "-c", "copy", "-copyts", "-f", "nut", str(path),
        ]  # fmt: skip
        super().__init__(command, path.with_suffix(".stderr"), progress=True)

    def wait_frames(self, count: int, deadline_s: float = EVENT_S) -> int:
        """Wait until that many frames are in the file; how many there are."""
        end = time.monotonic() + deadline_s
        assert self.process.stdout is not None
        while self.frames < count:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise ProgramError(f"{self.frames} of {count} frames within {deadline_s} s:\n{self.said}")
            data = os.read(self.process.stdout.fileno(), 1 << 14)
            if not data:
                raise ProgramError(f"ffmpeg ended by itself after {self.frames} frames:\n{self.said}")
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

    def stop(self) -> bytes:
        """See :meth:`Program.stop`."""
        progress = super().stop()
        self._progress(progress)
        return progress

    def errors(self) -> list[str]:
        """Lines of ffmpeg at level error or worse."""
        return [line for line in self.said.splitlines() if line.startswith(("[error]", "[fatal]", "[panic]"))]

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
