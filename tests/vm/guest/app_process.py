# SPDX-License-Identifier: GPL-2.0-or-later
"""App process: a process of a given name that writes controls, as the node tells apps apart by name and process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

REPLAY = """
import json, os, sys
from pathlib import Path
from maglens_v4l2 import v4l2
from tests.vm.guest import app_calls

Path("/proc/self/comm").write_text(sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    for control, value in json.loads(line):
        fd = os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK)  # as OBS does for each
        if value is None:
            value = app_calls.control(fd, control).default_value  # as Chromium does at open
        app_calls.set_control(fd, control, value)
        os.close(fd)
    print("done", flush=True)
"""


class AppProcess:
    """It lives from ``with`` to its end."""

    def __init__(self, device: str, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", REPLAY, device, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._hear("ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        assert self._process.returncode == 0

    def write(self, values: Sequence[tuple[int, int | None]]) -> None:
        """Set these controls as fast as it can, opening the node anew for each; None is the control's default."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(values) + "\n")
        self._process.stdin.flush()
        self._hear("done")

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == word, f"the app said {said!r}"
