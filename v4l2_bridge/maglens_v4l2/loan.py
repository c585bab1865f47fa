# SPDX-License-Identifier: GPL-2.0-or-later
"""Loan: one buffer of a lender's, with one owner at a time. The lease of every node and pool."""

from __future__ import annotations

from typing import Protocol

from maglens_driver.frame import Frame
from maglens_v4l2._pixels import copy

_NOTHING = memoryview(b"")


class Lender(Protocol):
    """Has a bounded number of buffers. Thread-safe."""

    def lease(self, nbytes: int) -> Loan | None:
        """A buffer of at least ``nbytes``; None when it has no such large ones, or all are lent."""
        ...

    def take_back(self, index: int) -> None:
        """A loan ended."""
        ...


class Loan:
    """A :class:`maglens_driver.frame.Lease`. A new object for each loan: a late second ``release`` must not free
    another's buffer. When it has ended its view is empty: who still holds the object keeps no memory mapped."""

    __slots__ = ("_lender", "_view", "index")

    def __init__(self, lender: Lender, index: int, view: memoryview) -> None:
        self._lender: Lender | None = lender
        self._view = view
        self.index = index

    @property
    def view(self) -> memoryview:
        return self._view

    def release(self) -> None:
        lender, self._lender = self._lender, None
        self._view = _NOTHING
        if lender is not None:
            lender.take_back(self.index)

    def is_of(self, lender: Lender) -> bool:
        """Whether it is still out on loan from ``lender``."""
        return self._lender is lender

    def keep(self) -> None:
        """It is not given back: its lender uses the buffer itself from now on."""
        self._lender, self._view = None, _NOTHING


def own(frame: Frame, lender: Lender) -> Loan | None:
    """The frame in a buffer of ``lender``'s: as it is, or copied by C from memory of somebody else's, who has it back
    at once. None, and nothing is lent any more, when ``lender`` has no buffer left."""
    lease = frame.lease
    if isinstance(lease, Loan) and lease.is_of(lender):
        return lease
    loan = lender.lease(frame.nbytes)
    if loan is not None:
        copy(lease.view, loan.view, frame.nbytes)
    lease.release()
    return loan
