# SPDX-License-Identifier: GPL-2.0-or-later
"""Dmabuf: memory that devices and processes share by a descriptor (linux/dma-buf.h, dma-heap.h, udmabuf.h)."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

HEAP_FOLDER: Final = Path("/dev/dma_heap")
HEAPS: Final = ("linux,cma", "reserved", "default_cma_region", "system")
"""In one piece first: what takes scattered memory takes that, too."""

UDMABUF: Final = Path("/dev/udmabuf")
_SYNC: Final = 0x40086200  # DMA_BUF_IOCTL_SYNC, struct dma_buf_sync: flags
_SYNC_READ: Final = 1
_SYNC_END: Final = 4
_HEAP_ALLOC: Final = 0xC0184800  # DMA_HEAP_IOCTL_ALLOC, dma_heap_allocation_data: len, fd, fd_flags, heap_flags
_HEAP_DATA: Final = struct.Struct("=QIIQ")
_UDMABUF_CREATE: Final = 0x40187542  # UDMABUF_CREATE, struct udmabuf_create: memfd, flags, offset, size
_UDMABUF_DATA: Final = struct.Struct("=IIQQ")
_UDMABUF_CLOEXEC: Final = 1

Allocate = Callable[[int], int]
"""Bytes (of whole pages) to a descriptor; ``OSError`` where there is not so much."""


def begin_read(descriptor: int) -> None:
    """Make a device's writes visible to the CPU. ``OSError``: the device is gone, or this is no dmabuf (ENOTTY)."""
    fcntl.ioctl(descriptor, _SYNC, struct.pack("=Q", _SYNC_READ))


def end_read(descriptor: int) -> None:
    """Hand the memory back to the device."""
    fcntl.ioctl(descriptor, _SYNC, struct.pack("=Q", _SYNC_READ | _SYNC_END))


def allocators() -> Iterator[tuple[str, Allocate]]:
    """Where memory can be had, by name, the most useful first."""
    for heap in HEAPS:
        if (HEAP_FOLDER / heap).exists():
            yield heap, partial(from_heap, HEAP_FOLDER / heap)
    if UDMABUF.exists():
        yield UDMABUF.name, from_memfd


def from_heap(heap: Path, nbytes: int) -> int:
    """From a dma-heap."""
    descriptor = os.open(heap, os.O_RDWR | os.O_CLOEXEC)
    try:
        wanted = bytearray(_HEAP_DATA.pack(nbytes, 0, os.O_RDWR | os.O_CLOEXEC, 0))
        fcntl.ioctl(descriptor, _HEAP_ALLOC, wanted)
        return int(_HEAP_DATA.unpack(wanted)[1])
    finally:
        os.close(descriptor)


def from_memfd(nbytes: int) -> int:
    """From anonymous memory."""
    memory = os.memfd_create("maglens", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memory, nbytes)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        maker = os.open(UDMABUF, os.O_RDWR | os.O_CLOEXEC)
        try:
            wanted = bytearray(_UDMABUF_DATA.pack(memory, _UDMABUF_CLOEXEC, 0, nbytes))
            return int(fcntl.ioctl(maker, _UDMABUF_CREATE, wanted))
        finally:
            os.close(maker)
    finally:
        os.close(memory)


def whole_pages(nbytes: int) -> int:
    """So many bytes, or more."""
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
