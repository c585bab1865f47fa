# SPDX-License-Identifier: GPL-2.0-or-later
"""Loans of a pool and of the kernel's ring: one owner at a time, and no memory held for nobody."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import time
from collections.abc import Iterator
from fractions import Fraction

import pytest

from maglens_driver.frame import Frame
from maglens_driver.mode import NV12, make_mode
from maglens_v4l2._pixels import copy
from maglens_v4l2.kernel_ring import KernelRing
from maglens_v4l2.loan import Loan, own
from maglens_v4l2.pool import BufferPool

SLOT = 16 * mmap.PAGESIZE
SLOTS = 4
MODE = make_mode(NV12, 64, 32, Fraction(1, 30))


def mapped_kib(name: str) -> int:
    """What /proc says this process has mapped of a file."""
    with open("/proc/self/maps") as maps:
        return sum(size(line.split()[0]) for line in maps if name in line) // 1024


def size(span: str) -> int:
    first, last = (int(word, 16) for word in span.split("-"))
    return last - first


@pytest.fixture
def ring() -> Iterator[KernelRing]:
    """A ring on shared memory, as the kernel's is."""
    fd = os.memfd_create("maglens-ring")
    os.ftruncate(fd, SLOTS * SLOT)
    yield KernelRing(fd, SLOTS * SLOT, SLOT, held=1)
    os.close(fd)


def leased(lender: KernelRing | BufferPool, nbytes: int = 1) -> Loan:
    loan = lender.lease(nbytes)
    assert loan is not None
    return loan


def test_a_late_second_release_frees_nobody_elses_buffer() -> None:
    pool = BufferPool(1, SLOT)
    first = leased(pool)
    first.release()
    second = leased(pool)
    first.release()
    assert pool.lease(1) is None
    second.release()
    assert pool.lent == 0


def test_the_slot_shown_last_is_not_lent(ring: KernelRing) -> None:
    loans = [leased(ring) for _ in range(SLOTS - 1)]
    assert ring.lease(1) is None
    assert 1 not in [loan.index for loan in loans]
    ring.submitted(loans[0])
    loans[0].release()  # it is the kernel's
    assert leased(ring).index == 1
    assert ring.lease(1) is None


def test_a_slot_that_was_not_shown_after_all_is_lent_again(ring: KernelRing) -> None:
    loans = [leased(ring) for _ in range(SLOTS - 1)]
    loans[1].release()
    assert leased(ring).index == loans[1].index
    assert ring.lease(1) is None


def test_too_much_is_not_lent(ring: KernelRing) -> None:
    assert ring.lease(SLOT + 1) is None


def test_the_ring_is_mapped_only_while_somebody_needs_it(ring: KernelRing) -> None:
    assert mapped_kib("maglens-ring") == 0
    ring.rest(False)
    loan = leased(ring)
    assert mapped_kib("maglens-ring") == SLOTS * SLOT // 1024
    loan.release()
    assert ring.mapped
    late = leased(ring)
    ring.rest(True)
    late.view[:5] = b"still"
    assert ring.mapped, "one is out"
    ring.submitted(late)  # whoever still holds the object: it ends here
    assert mapped_kib("maglens-ring") == 0
    assert bytes(leased(ring).view[:5]) != b"still", "the slot shown last stays the kernel's"


def test_a_buffer_in_a_cycle_keeps_nothing_mapped(ring: KernelRing) -> None:
    """As python-libusb1 leaves it: ``ctypes.cast`` makes an array refer to itself."""
    gc.disable()
    try:
        loan = leased(ring)
        array = (ctypes.c_char * SLOT).from_buffer(loan.view)
        ctypes.cast(array, ctypes.c_void_p)
        del array
        loan.release()
        assert not ring.mapped
        assert mapped_kib("maglens-ring") == 0
    finally:
        gc.enable()


def test_a_closed_ring_lends_nothing_and_what_is_out_stays_valid(ring: KernelRing) -> None:
    loan = leased(ring)
    ring.close()
    loan.view[:2] = b"ok"
    loan.release()
    assert ring.lease(1) is None


def test_own_copies_what_is_not_its_own_and_gives_it_back() -> None:
    mine, other = BufferPool(1, MODE.nbytes), BufferPool(1, MODE.nbytes)
    foreign = leased(other)
    picture = bytes(range(256)) * (MODE.nbytes // 256)
    foreign.view[: MODE.nbytes] = picture
    frame = Frame(foreign, MODE.nbytes, MODE, 1, time.monotonic_ns(), 1)
    copied = own(frame, mine)
    assert copied is not None
    assert copied.view[: MODE.nbytes] == picture
    assert other.lent == 0
    assert own(Frame(copied, MODE.nbytes, MODE, 1, 0, 1), mine) is copied
    assert own(Frame(leased(other), MODE.nbytes, MODE, 1, 0, 1), mine) is None
    assert other.lent == 0


def test_copy_checks_before_it_writes() -> None:
    target = bytearray(8)
    copy(b"12345678", target, 4)
    assert target == b"1234\0\0\0\0"
    for source, to, nbytes in ((b"123", target, 4), (b"12345678", bytearray(3), 4), (b"1", target, -1)):
        with pytest.raises(ValueError):
            copy(source, to, nbytes)
    with pytest.raises(ValueError):
        copy(memoryview(target)[2:], target, 4)
    assert target == b"1234\0\0\0\0"
