# SPDX-License-Identifier: GPL-2.0-or-later
"""GStreamer: the real gst-launch that records a V4L2 node as raw pictures, one after the other, and says the time of
each."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maglens_driver.mode import Mode, fourcc_text
from maglens_driver.virtual import mark
from tests.demo.recording import Shot
from tests.vm.guest.program import Program

PROBE = "seen"
TIME = re.compile(rf"/GstIdentity:{PROBE}: last-message = chain .* pts: (\d+):(\d\d):(\d\d)\.(\d{{9}})")


class Gstreamer(Program):
    """One gst-launch from ``with`` to its end."""

    def __init__(self, device: str, path: Path, mode: Mode) -> None:
        self.path, self.mode = path, mode
        caps = f"video/x-raw,format={fourcc_text(mode.fourcc)},width={mode.width},height={mode.height}"
        caps += f",framerate={1 / mode.interval}/1"
        command = ["gst-launch-1.0", "-e", "-v", "v4l2src", f"device={device}", "!", caps, "!"]
        command += ["identity", f"name={PROBE}", "silent=false", "!", "queue", "!"]
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

    def timestamps_ns(self) -> list[int]:
        """When each picture that came was taken, as v4l2src reckons it from the node's timestamps; from the start."""
        found = (tuple(map(int, match.groups())) for match in TIME.finditer(self.said))
        return [((hours * 60 + minutes) * 60 + s) * 1_000_000_000 + ns for hours, minutes, s, ns in found]

    def lumas(self) -> Iterator[bytes]:
        """The luma of every picture."""
        with self.path.open("rb") as raw:
            for _ in range(self.frames):
                yield raw.read(self.mode.nbytes)[: self.mode.width * self.mode.height]

    def shots(self) -> Iterator[Shot]:
        """Every picture, each with its time."""
        times = self.timestamps_ns()
        assert len(times) == self.frames
        for index, (raw, time_ns) in enumerate(zip(self.lumas(), times, strict=True)):
            found = mark.read(np.frombuffer(raw, np.uint8).reshape(self.mode.height, self.mode.width))
            one = found if isinstance(found, mark.Mark) else None
            yield Shot(index, time_ns, one, isinstance(found, mark.Mixed))
