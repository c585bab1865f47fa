# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for linuxpy, as far as buffers go."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from maglens_driver.v4l2 import buffers, memory


@dataclass
class FakeV4L2:
    """The few calls of linuxpy that buffers need; ``gone`` makes them fail as after an unplug."""

    queued: list[int] = field(default_factory=list)
    gone: bool = False
    imports: bool = True  # the device takes memory that is not its own
    descriptors: dict[int, int] = field(default_factory=dict)
    freed: list[int] = field(default_factory=list)
    BufferType = SimpleNamespace(VIDEO_CAPTURE=1)
    Memory = SimpleNamespace(MMAP=1, DMABUF=4)
    raw = SimpleNamespace(v4l2_buffer=lambda: SimpleNamespace(m=SimpleNamespace()))

    def get_raw_format(self, fd: int, kind: int) -> Any:
        return SimpleNamespace(fmt=SimpleNamespace(pix=SimpleNamespace(sizeimage=100)))

    def enqueue_buffer_raw(self, fd: int, buffer: Any) -> None:
        if not self.imports:
            raise OSError(22, "it takes none")
        assert (buffer.memory, buffer.length) == (4, mmap.PAGESIZE)
        self.descriptors[buffer.index] = buffer.m.fd
        self.queued.append(buffer.index)

    def request_buffers(self, fd: int, kind: int, memory: int, count: int) -> Any:
        return SimpleNamespace(count=count)

    def query_buffer(self, fd: int, kind: int, memory: int, index: int) -> Any:
        return SimpleNamespace(length=64, m=SimpleNamespace(offset=index))

    def mem_map(self, fd: int, length: int, offset: int) -> bytearray:
        return bytearray([offset]) * length

    def enqueue_buffer(self, fd: int, kind: int, memory: int, size: int, index: int) -> None:
        if self.gone:
            raise OSError(19, "gone")
        self.queued.append(index)

    def dequeue_buffer(self, fd: int, kind: int, memory: int) -> Any:
        return SimpleNamespace(index=self.queued.pop(0))

    def stream_on(self, fd: int, kind: int) -> None:
        pass

    def stream_off(self, fd: int, kind: int) -> None:
        if self.gone:
            raise OSError(19, "gone")

    def free_buffers(self, fd: int, kind: int, memory: int) -> None:
        self.freed.append(memory)
        if self.gone:
            raise OSError(16, "leases are out")


def installed(monkeypatch: pytest.MonkeyPatch) -> FakeV4L2:
    """One that the source's buffers are made of from now on."""
    made = FakeV4L2()
    for module in (buffers, memory):
        monkeypatch.setattr(module, "linuxpy", lambda: made)
    return made
