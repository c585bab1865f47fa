# SPDX-License-Identifier: GPL-2.0-or-later
"""Buffers: the child's picture memory, mapped here. The child is not trusted: every descriptor is looked at first."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from maglens_driver import dmabuf
from maglens_driver.errors import BadModule
from maglens_driver.libcamera.packet import BufferBody
from maglens_driver.mode import NV12, Mode

F_GET_SEALS: Final = 1034  # linux/fcntl.h
F_SEAL_SHRINK: Final = 2


class MappedBuffer:
    """One of the camera's buffers, as planes of shared memory.

    ``flat`` is the whole picture in one piece where the planes follow each other as the mode wants them, else None:
    then :meth:`gather` copies them together.
    """

    def __init__(self, body: BufferBody, descriptors: Sequence[int], mode: Mode) -> None:
        """Maps and keeps the descriptors; closes them all if something is wrong with one (``BadModule``)."""
        self._descriptors = tuple(descriptors)
        self._synced = False
        try:
            self._planes = _map_planes(body, self._descriptors)
            self._wanted = _plane_sizes(mode, len(self._planes))
            for plane, size in zip(self._planes, self._wanted, strict=True):
                if len(plane) < size:
                    raise BadModule("child_buffer", f"a plane of {len(plane)} bytes cannot hold {size}")
        except BaseException:
            self.close()
            raise
        self.flat = self._flat(body)

    def _flat(self, body: BufferBody) -> memoryview | None:
        if len(self._planes) == 1:
            return self._planes[0]
        first = os.fstat(self._descriptors[0])
        at = body.spans[0][0]
        for descriptor, (offset, _), size in zip(self._descriptors, body.spans, self._wanted, strict=True):
            if offset != at or not os.path.samestat(first, os.fstat(descriptor)):
                return None
            at += size
        whole = self._planes[0].obj
        return memoryview(whole)[body.spans[0][0] : at]

    def gather(self, target: memoryview) -> None:
        """Copy the planes one after the other into ``target``."""
        at = 0
        for plane, size in zip(self._planes, self._wanted, strict=True):
            target[at : at + size] = plane[:size]
            at += size

    def begin_read(self) -> None:
        """Make the device's writes visible to the CPU. What is no dmabuf needs none of it."""
        self._sync(dmabuf.begin_read)
        self._synced = True

    def end_read(self) -> None:
        """Hand the memory back to the device. Idempotent."""
        if self._synced:
            self._sync(dmabuf.end_read)
            self._synced = False

    def _sync(self, step: Callable[[int], None]) -> None:
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):  # ENOTTY: a memfd; a dmabuf of a device that is gone may refuse
                step(descriptor)

    def close(self) -> None:
        """Close the descriptors. The memory goes when the last view of it does."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = ()


class CameraLease:
    """A filled buffer on loan to the sink. ``returned`` is called once, from whatever thread releases it."""

    def __init__(self, view: memoryview, returned: Callable[[], None]) -> None:
        self._view = view
        self._returned: Callable[[], None] | None = returned
        self._lock = threading.Lock()

    @property
    def view(self) -> memoryview:
        """The picture; after release the camera may write into it."""
        return self._view

    def release(self) -> None:
        """Give the buffer back to the camera."""
        with self._lock:
            returned, self._returned = self._returned, None
        if returned is not None:
            returned()


def _plane_sizes(mode: Mode, planes: int) -> tuple[int, ...]:
    """Bytes of each plane as the mode has them in one piece."""
    if planes == 1:
        return (mode.nbytes,)
    if mode.fourcc == NV12 and planes == 2:
        luma = mode.stride * mode.height
        return (luma, mode.nbytes - luma)
    raise BadModule("child_buffer", f"{planes} planes make no sense for {mode.describe()}")


def _map_planes(body: BufferBody, descriptors: Sequence[int]) -> list[memoryview]:
    if not len(descriptors) == body.planes > 0:
        raise BadModule("child_buffer", f"{len(descriptors)} descriptors came for {body.planes} planes")
    # Planes of one piece of memory share a mapping, so that they can be seen in one piece.
    maps: dict[tuple[int, int], memoryview] = {}
    planes = []
    for descriptor, (offset, length) in zip(descriptors, body.spans, strict=True):
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino)
        if key not in maps:
            maps[key] = memoryview(mmap.mmap(descriptor, _safe_size(descriptor)))
        if offset + length > len(maps[key]):
            raise BadModule("child_buffer", f"a plane ends at {offset + length} of {len(maps[key])} bytes")
        planes.append(maps[key][offset : offset + length])
    return planes


def _safe_size(descriptor: int) -> int:
    """Size in bytes of memory that the child can no longer shrink under us (that would be a SIGBUS here)."""
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    if not name.startswith("/dmabuf:"):
        try:
            seals = fcntl.fcntl(descriptor, F_GET_SEALS)
        except OSError as error:
            raise BadModule("child_buffer", f"{name} is neither a dmabuf nor a memfd") from error
        if not seals & F_SEAL_SHRINK:
            raise BadModule("child_buffer", "a memfd is not sealed against shrinking")
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size <= 0:
        raise BadModule("child_buffer", f"{name} is empty")
    return size
