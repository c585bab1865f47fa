# SPDX-License-Identifier: GPL-2.0-or-later
"""Pool: a bounded set of page-aligned buffers of one size, lent one owner at a time."""

from __future__ import annotations

import mmap
import threading

from maglens_v4l2.loan import Loan


class BufferPool:
    """At most ``count`` buffers of ``nbytes`` bytes each, made when first needed and then kept. Thread-safe."""

    def __init__(self, count: int, nbytes: int) -> None:
        self.count = count
        self.nbytes = nbytes
        self._lock = threading.Lock()
        self._views: list[memoryview] = []
        self._free: list[int] = []

    def lease(self, nbytes: int) -> Loan | None:
        """A buffer of at least ``nbytes``; None when it is larger than the pool's, or all are lent."""
        if nbytes > self.nbytes:
            return None
        with self._lock:
            if self._free:
                index = self._free.pop()
            elif len(self._views) < self.count:
                index = len(self._views)
                self._views.append(memoryview(mmap.mmap(-1, self.nbytes)))
            else:
                return None
            return Loan(self, index, self._views[index])

    def take_back(self, index: int) -> None:
        """A loan has ended."""
        with self._lock:
            self._free.append(index)

    @property
    def lent(self) -> int:
        """How many are out."""
        with self._lock:
            return len(self._views) - len(self._free)
