# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel ring: the frame slots that maglens.ko shares with us, lent one owner at a time."""

from __future__ import annotations

import gc
import mmap
import threading

from maglens_v4l2.loan import Loan


class KernelRing:
    """The slots of one camera. The one submitted last stays the kernel's until another has been submitted.

    The mapping counts as this process's memory (40 MB at 1080p), so it is made with the first loan, and goes with the
    last one that ends while nobody watches.
    """

    def __init__(self, fd: int, size: int, slot_size: int, held: int | None) -> None:
        self.slot_size = slot_size
        self._fd = fd
        self._size = size
        self._lock = threading.Lock()
        # Under the lock:
        self._views: list[memoryview] = []
        self._held = held
        self._free = [index for index in range(size // slot_size) if index != held]
        self._lent = 0
        self._resting = True
        self._closed = False

    @property
    def held(self) -> int | None:
        """The slot submitted last."""
        return self._held

    @property
    def mapped(self) -> bool:
        """Whether the slots are in this process's memory now."""
        return bool(self._views)

    def rest(self, resting: bool) -> None:
        """Whether nobody watches. Slots are lent all the same."""
        with self._lock:
            self._resting = resting
            unmapped = self._unmap_if_idle()
        self._let_go(unmapped)

    def lease(self, nbytes: int) -> Loan | None:
        """A slot of at least ``nbytes``; None when that is too much, or all are lent."""
        if nbytes > self.slot_size:
            return None
        with self._lock:
            if not self._free or self._closed:
                return None
            if not self._views:
                whole = memoryview(mmap.mmap(self._fd, self._size))
                self._views = [whole[at : at + self.slot_size] for at in range(0, self._size, self.slot_size)]
            self._lent += 1
            index = self._free.pop()
            return Loan(self, index, self._views[index])

    def take_back(self, index: int) -> None:
        """A loan ended without being shown."""
        with self._lock:
            self._free.append(index)
            unmapped = self._ended()
        self._let_go(unmapped)

    def submitted(self, loan: Loan) -> None:
        """``loan``'s slot was shown and is held from now on; the one held before is free again."""
        loan.keep()
        with self._lock:
            if self._held is not None:
                self._free.append(self._held)
            self._held = loan.index
            unmapped = self._ended()
        self._let_go(unmapped)

    def close(self) -> None:
        """No more loans. The mapping, and with it the camera, goes when the last one that is out has ended."""
        with self._lock:
            self._closed = True
            self._views.clear()

    def _ended(self) -> bool:
        self._lent -= 1
        return self._unmap_if_idle()

    def _unmap_if_idle(self) -> bool:
        if not self._views or not self._resting or self._lent:
            return False
        self._views.clear()
        return True

    @staticmethod
    def _let_go(unmapped: bool) -> None:
        """python-libusb1 leaves every buffer that it was given in a reference cycle (``ctypes.cast``), and an idle
        service makes too little for the collector to run by itself. Nobody watches: now is the time."""
        if unmapped:
            gc.collect()
