# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel ring: the frame slots that maglens.ko shares with us, lent one owner at a time."""

from __future__ import annotations

import mmap
import threading

from maglens_v4l2.loan import Loan


class KernelRing:
    """The slots of one camera. The one submitted last stays the kernel's until another has been submitted."""

    def __init__(self, fd: int, size: int, slot_size: int, held: int | None) -> None:
        self.slot_size = slot_size
        self._lock = threading.Lock()
        whole = memoryview(mmap.mmap(fd, size))
        self._views = [whole[at : at + slot_size] for at in range(0, size, slot_size)]
        self._held = held
        self._free = [index for index in range(len(self._views)) if index != held]

    @property
    def held(self) -> int | None:
        """The slot submitted last."""
        return self._held

    def lease(self, nbytes: int) -> Loan | None:
        """A slot of at least ``nbytes``; None when that is too much, or all are lent."""
        if nbytes > self.slot_size:
            return None
        with self._lock:
            if not self._free:
                return None
            index = self._free.pop()
            return Loan(self, index, self._views[index])

    def take_back(self, index: int) -> None:
        """A loan ended without being shown."""
        with self._lock:
            self._free.append(index)

    def submitted(self, loan: Loan) -> None:
        """``loan``'s slot was shown and is held from now on; the one held before is free again."""
        loan.keep()
        index = loan.index
        with self._lock:
            if self._held is not None and self._held != index:
                self._free.append(self._held)
            self._held = index

    def close(self) -> None:
        """No more loans. The mapping, and with it the camera, goes when the last one that is out has ended."""
        with self._lock:
            self._free.clear()
            self._views.clear()
