# SPDX-License-Identifier: MIT
"""Stack: light on a sensor, kept in files under what it was made of, so that what was drawn once is there at once the
next time. Files are mapped, never read whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from maglens_driver.virtual.bayer import Samples

MAX_BYTES: Final = 4 << 30  # of one directory; those not used for the longest time go first
_SUFFIX: Final = ".light"


class Stack:
    """A directory of mosaics. A file is written under another name and renamed when it is whole."""

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes

    def find(self, key: str, height: int, width: int) -> Samples | None:
        """What was kept under ``key``, or None."""
        path = self._directory / (key + _SUFFIX)
        try:
            if path.stat().st_size != 2 * height * width:
                return None
            os.utime(path)
            return np.memmap(path, np.uint16, "r", shape=(height, width))
        except FileNotFoundError:
            return None

    def keep(self, key: str, light: Samples) -> Samples:
        """Keep it; the answer is the kept one."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._make_room(light.nbytes)
        with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
            light.tofile(file)
            Path(file.name).rename(self._directory / (key + _SUFFIX))
        found = self.find(key, *light.shape)
        return light if found is None else found

    def _make_room(self, nbytes: int) -> None:
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in self._directory.glob("*" + _SUFFIX)]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total + nbytes <= self._max_bytes:
                return
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            total -= size
