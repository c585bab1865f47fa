# SPDX-License-Identifier: GPL-2.0-or-later
"""Recording: what an app truly saw, frame by frame, read back from the file that it wrote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maglens_driver.virtual import mark

Luma = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shot:
    """One recorded frame: its number in the file, its time (CLOCK_MONOTONIC, ns) and its mark.

    The time is the node's own timestamp, start of exposure, or in a recording of :mod:`arrivals` when the app
    dequeued it. ``mark`` is None on a card, ``mixed`` true where one picture holds parts of two.
    """

    index: int
    time_ns: int
    mark: mark.Mark | None
    mixed: bool


@dataclass(frozen=True, slots=True)
class Recording:
    """A file of uncompressed video."""

    path: Path
    width: int
    height: int
    shots: tuple[Shot, ...]


def _probe(path: Path) -> tuple[int, int, list[int]]:
    """Width, height, and every packet's timestamp in ns."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json"]
    command += ["-show_entries", "stream=width,height:packet=pts_time", str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    stream = found["streams"][0]
    times = [round(float(packet["pts_time"]) * 1e9) for packet in found["packets"]]
    return int(stream["width"]), int(stream["height"]), times


def pictures(path: Path, pixel_format: str, frame_bytes: int) -> Iterator[bytes]:
    """Every frame of a file in a raw pixel format, none made up and none left out."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-fps_mode", "passthrough", "-vf", "setpts=N"]
    command += ["-pix_fmt", pixel_format, "-f", "rawvideo", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as decoder:
        assert decoder.stdout is not None
        while len(raw := decoder.stdout.read(frame_bytes)) == frame_bytes:
            yield raw
        if raw:
            raise ValueError(f"{path} ends with {len(raw)} bytes of a frame of {frame_bytes}")
    if decoder.returncode:
        raise ValueError(f"ffmpeg could not read {path} to its end (exit {decoder.returncode})")


def read(path: Path, ahead_ns: int = 0) -> Recording:
    """Read a recording, whose clock is ``ahead_ns`` ahead of CLOCK_MONOTONIC.

    Raises ``ValueError`` when pictures and timestamps do not match in number.
    """
    width, height, times = _probe(path)
    shots = []
    for index, raw in enumerate(pictures(path, "gray", width * height)):
        luma: Luma = np.frombuffer(raw, np.uint8).reshape(height, width)
        found = mark.read(luma)
        when = times[index] - ahead_ns if index < len(times) else -1
        mixed = isinstance(found, mark.Mixed)
        shots.append(Shot(index, when, found if isinstance(found, mark.Mark) else None, mixed))
    if len(shots) != len(times):
        raise ValueError(f"{path} has {len(times)} packets but {len(shots)} pictures")
    return Recording(path, width, height, tuple(shots))
