# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocations: what Python sets aside while something runs. Proof that no frame is copied into memory of its own."""

from __future__ import annotations

import sys
import tracemalloc
from types import TracebackType
from typing import Self

_open: list[Allocations] = []


class Allocations:
    """``peak`` is how many bytes more than at the start were in use at once, of all threads (bytes, bytearray, numpy
    and Python's own objects); ``maps`` how many memory maps were made."""

    def __init__(self) -> None:
        self.peak = self.maps = 0
        self._base = 0

    def __enter__(self) -> Self:
        tracemalloc.start()
        _open.append(self)
        self.restart()
        return self

    def restart(self) -> None:
        """Forget what was so far: caches have been filled."""
        self.maps = 0
        tracemalloc.reset_peak()
        self._base = tracemalloc.get_traced_memory()[0]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.peak = tracemalloc.get_traced_memory()[1] - self._base
        _open.remove(self)
        tracemalloc.stop()


def _hook(event: str, arguments: object) -> None:
    if event == "mmap.__new__":
        for one in _open:
            one.maps += 1


sys.addaudithook(_hook)  # for good: there is no way to take it back
