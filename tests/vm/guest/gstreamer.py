# SPDX-License-Identifier: GPL-2.0-or-later
"""GStreamer: the real gst-launch that records a V4L2 node as raw pictures, one after the other."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from maglens_driver.mode import Mode, fourcc_text
from maglens_driver.virtual import mark
from tests.demo.recording import Shot

STOP_S = 60.0


class Gstreamer:
    """One gst-launch from ``with`` to its end. Raises ``AssertionError`` with what it said when it fails."""

    def __init__(self, device: str, path: Path, mode: Mode) -> None:
        self.path, self.mode = path, mode
        caps = f"video/x-raw,format={fourcc_text(mode.fourcc)},width={mode.width},height={mode.height}"
        caps += f",framerate={1 / mode.interval}/1"
        command = ["gst-launch-1.0", "-e", "v4l2src", f"device={device}", "!", caps, "!", "queue", "!"]
        self._said = path.with_suffix(".log")
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*command, "filesink", f"location={path}"], stdout=said, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        elif self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def frames(self) -> int:
        """How many pictures are in the file."""
        return self.path.stat().st_size // self.mode.nbytes if self.path.exists() else 0

    def stop(self) -> None:
        """End of stream; it has to have gone on until now, and to end well."""
        assert self._process.poll() is None, self._said.read_text()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(STOP_S)
        said = self._said.read_text()
        assert self._process.returncode == 0, said
        assert "ERROR" not in said, said

    def shots(self) -> Iterator[Shot]:
        """Every picture; without timestamps, which such a file does not hold."""
        height, width = self.mode.height, self.mode.width
        with self.path.open("rb") as raw:
            for index in range(self.frames):
                picture = raw.read(self.mode.nbytes)
                luma = np.frombuffer(picture, np.uint8, width * height).reshape(height, width)
                found = mark.read(luma)
                one = found if isinstance(found, mark.Mark) else None
                yield Shot(index, 0, one, isinstance(found, mark.Mixed))
