# SPDX-License-Identifier: GPL-2.0-or-later
"""The V4L2 source's buffers without a device: lent once, and given up whatever fails."""

from __future__ import annotations

import os

import pytest

from maglens_driver import dmabuf
from maglens_driver.errors import Refused
from maglens_driver.v4l2 import memory
from maglens_driver.v4l2.buffers import BufferSet
from maglens_driver.v4l2.memory import Choice
from tests.unit.v4l2_fake import FakeV4L2, installed


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeV4L2:
    return installed(monkeypatch)


def test_a_buffer_is_the_drivers_again_after_one_release(fake: FakeV4L2) -> None:
    owner = BufferSet(3)
    assert fake.queued == list(range(memory.COUNT))
    _, lease = owner.take()
    assert 0 not in fake.queued
    lease.release()
    lease.release()
    assert fake.queued.count(0) == 1


def test_a_lease_outlives_the_stream(fake: FakeV4L2) -> None:
    owner = BufferSet(3)
    owner.take()[1].release()
    _, lease = owner.take()
    queued = list(fake.queued)
    owner.end()
    owner.end()
    assert lease.view[0] == 1
    lease.release()
    assert fake.queued == queued  # nobody queues for a stream that has ended


def test_after_an_unplug_releasing_and_ending_are_quiet(fake: FakeV4L2) -> None:
    owner = BufferSet(3)
    _, lease = owner.take()
    fake.gone = True
    lease.release()
    owner.end()


@pytest.fixture
def heap(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Memory for devices, of a heap that is a memfd; what was synchronised."""
    synced: list[str] = []
    monkeypatch.setattr(dmabuf, "begin_read", lambda descriptor: synced.append("begin"))
    monkeypatch.setattr(dmabuf, "end_read", lambda descriptor: synced.append("end"))

    def allocate(nbytes: int) -> int:
        descriptor = os.memfd_create("heap")
        os.ftruncate(descriptor, nbytes)
        return descriptor

    monkeypatch.setattr(dmabuf, "allocators", lambda: [("test", allocate)])
    return synced


@pytest.mark.parametrize("choice", [Choice.AUTO, Choice.DMABUF])
def test_where_its_own_memory_is_slow_the_device_fills_ours(
    fake: FakeV4L2, heap: list[str], choice: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "is_slow", lambda view: True)
    open_before = len(os.listdir("/proc/self/fd"))
    owner = BufferSet(3, choice)
    fake.queued = fake.queued[-memory.COUNT :]
    assert list(fake.descriptors) == list(range(memory.COUNT))
    os.pwrite(fake.descriptors[0], b"picture", 0)
    _, lease = owner.take()
    assert heap == ["begin"]
    lease.release()
    assert heap == ["begin", "end"]
    assert fake.queued.count(0) == 1
    _, late = owner.take()
    os.pwrite(fake.descriptors[1], b"late", 0)
    owner.end()
    assert bytes(late.view[:4]) == b"late"
    late.release()
    assert heap == ["begin", "end", "begin"]
    del lease, late
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_device_that_takes_no_memory_of_ours_keeps_its_own(
    fake: FakeV4L2, heap: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "is_slow", lambda view: True)
    fake.imports = False
    open_before = len(os.listdir("/proc/self/fd"))
    assert isinstance(memory.choose(3, Choice.AUTO), memory.Mapped)
    with pytest.raises(Refused, match="no memory"):
        memory.choose(3, Choice.DMABUF)
    assert len(os.listdir("/proc/self/fd")) == open_before
    fake.imports = True
    assert isinstance(memory.choose(3, Choice.MMAP), memory.Mapped)


def test_slow_memory_is_told_by_reading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    took = [1000, 100]  # the device's, then ordinary memory
    monkeypatch.setattr(memory, "_read_ns", lambda view: took[0] if view.readonly else took[1])
    assert memory.is_slow(memoryview(bytes(64)))
    took[0] = 300
    assert not memory.is_slow(memoryview(bytes(64)))
    monkeypatch.undo()
    assert not memory.is_slow(memoryview(bytearray(memory.PROBE_BYTES)))


@pytest.mark.parametrize("step", ["query_buffer", "mem_map", "enqueue_buffer"])
def test_buffers_that_cannot_be_made_are_given_up(fake: FakeV4L2, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that keeps them takes no other mode, and looks as if another program used it."""

    def broken(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(fake, step, broken)
    with pytest.raises(OSError, match="allocate"):
        BufferSet(3)
    assert fake.freed == [fake.Memory.MMAP]


def test_a_device_that_goes_while_it_is_given_memory_leaves_none_behind(
    fake: FakeV4L2, heap: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.imports, fake.gone = False, True
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Refused, match="no memory"):
        memory.choose(3, Choice.DMABUF)
    assert len(os.listdir("/proc/self/fd")) == open_before
