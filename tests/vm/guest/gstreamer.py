# SPDX-License-Identifier: GPL-2.0-or-later
"""GStreamer: the real gst-launch that records a V4L2 node as raw pictures, one after the other."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maglens_driver.mode import Mode, fourcc_text
from maglens_driver.virtual import mark
from tests.demo.recording import Shot
from tests.vm.guest.program import Program


class Gstreamer(Program):
    """One gst-launch from ``with`` to its end."""

    def __init__(self, device: str, path: Path, mode: Mode) -> None:
        self.path, self.mode = path, mode
        caps = f"video/x-raw,format={fourcc_text(mode.fourcc)},width={mode.width},height={mode.height}"
        caps += f",framerate={1 / mode.interval}/1"
        command = ["gst-launch-1.0", "-e", "v4l2src", f"device={device}", "!", caps, "!", "queue", "!"]
        super().__init__([*command, "filesink", f"location={path}"], path.with_suffix(".log"))

    @property
    def frames(self) -> int:
        """How many pictures are in the file."""
        return self.path.stat().st_size // self.mode.nbytes if self.path.exists() else 0

    def stop(self) -> bytes:
        """End of stream: it has to end well, and without an error before."""
        progress = super().stop()
        assert "ERROR" not in self.said, self.said
        return progress

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
