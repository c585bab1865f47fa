# SPDX-License-Identifier: MIT
"""Stack: light on a sensor, and whole raw frames, kept in files under what they were made of, so that what was drawn
once is there at once the next time. Files are mapped, and their pages looked up before anybody plays them: a frame in
which each page faults is late."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

MAX_BYTES: Final = 4 << 30  # of one directory; those not used for the longest time go first
_SUFFIX: Final = ".light"

T = TypeVar("T", np.uint8, np.uint16)


class Stack:
    """A directory of arrays. A file is written under another name and renamed when it is whole."""

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self.max_bytes = max_bytes

    def find(self, key: str, shape: tuple[int, int], kind: type[T]) -> npt.NDArray[T] | None:
        """What was kept under ``key``, or None."""
        path = self._directory / (key + _SUFFIX)
        try:
            if path.stat().st_size != np.dtype(kind).itemsize * shape[0] * shape[1]:
                return None
            os.utime(path)
            found = np.memmap(path, kind, "r", shape=shape)
        except FileNotFoundError:
            return None
        np.bitwise_or.reduce(found.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE])  # lets other threads go on
        return found

    def keep(self, key: str, drawn: npt.NDArray[T]) -> npt.NDArray[T]:
        """Keep it; the answer is the kept one."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._make_room(drawn.nbytes)
        with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
            drawn.tofile(file)
            Path(file.name).rename(self._directory / (key + _SUFFIX))
        found = self.find(key, (drawn.shape[0], drawn.shape[1]), drawn.dtype.type)
        return drawn if found is None else found

    def _make_room(self, nbytes: int) -> None:
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in self._directory.glob("*" + _SUFFIX)]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total + nbytes <= self.max_bytes:
                return
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            total -= size
