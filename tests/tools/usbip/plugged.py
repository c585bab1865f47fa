# SPDX-License-Identifier: GPL-2.0-or-later
"""Plugged: an emulated camera in a process of its own, for scenarios."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.tools.usbip import vhci

_ROOT: Final = Path(__file__).parents[3]
STOP_S: Final = 20.0
"""How long it may take the camera's process to unplug itself."""


class Plugged:
    """A camera, plugged in from __enter__ to __exit__ or :meth:`unplug`; ``options`` as for the ``plug`` command."""

    def __init__(self, *options: str) -> None:
        path = os.pathsep.join((str(_ROOT / "driver"), os.environ.get("PYTHONPATH", "")))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tools.usbip", "plug", *options],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        if words[:2] != ["plugged", "port"]:
            self._process.wait()
            raise AssertionError(f"the camera was not plugged in: {' '.join(words)}")
        self.port = int(words[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def unplug(self) -> None:
        """Pull it out. Returns when the kernel has let go of the port; udev comes later."""
        vhci.detach(self.port)
        self._process.wait(STOP_S)

    def kill(self) -> None:
        """End the camera's process without a word: the kernel finds its socket closed and takes the device away."""
        self._process.kill()
        self._process.wait(STOP_S)
