# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel node asks of the kernel, as far as that can be seen without the module."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
from fractions import Fraction

import pytest

from maglens_daemon.config import MAX_NODE_PIXELS
from maglens_driver.mode import NV12, YUYV, make_mode
from maglens_v4l2 import canonical
from maglens_v4l2 import kernel_abi as abi
from maglens_v4l2.kernel_node import EVENTS_AT_ONCE, SLOTS, SLOTS_LEAST, KernelNode, _slots


@pytest.mark.parametrize(
    ("fourcc", "width", "height", "slots"),
    [
        (YUYV, 1280, 720, SLOTS),
        (YUYV, 7680, 4320, SLOTS),
        (YUYV, 8192, 8192, 7),  # eight, but for the page behind each
        (YUYV, 11648, 8736, 5),
        (NV12, 11648, 8736, 5),  # the first choice is not the largest
        (YUYV, 16000, MAX_NODE_PIXELS // 16000, SLOTS_LEAST),
    ],
)
def test_a_ring_of_large_pictures_has_fewer_slots(fourcc: int, width: int, height: int, slots: int) -> None:
    """As many as the kernel takes (maglens_frame_init): a slot has whole pages, and one behind them."""
    formats = canonical.formats(make_mode(fourcc, width, height, Fraction(1, 30)))
    assert _slots(formats) == slots
    slot = -(-max(mode.nbytes for mode in formats) // mmap.PAGESIZE) * mmap.PAGESIZE + mmap.PAGESIZE
    assert slots * slot <= abi.MAX_RING


def test_an_app_that_makes_events_without_end_leaves_the_loop_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    node = KernelNode.__new__(KernelNode)  # which needs the kernel module to be made
    end, node._fd = os.pipe()[::-1]
    os.set_blocking(node._fd, False)

    def handle(event: abi.Event) -> None:
        """Each makes another, as fast as it is heard."""
        seen.append(event.id)
        if len(seen) < 100 * EVENTS_AT_ONCE:
            os.write(end, bytes(abi.Event(id=event.id + 1)))

    monkeypatch.setattr(node, "_handle", handle)

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        os.write(end, bytes(abi.Event(id=1)) * EVENTS_AT_ONCE)
        loop.add_reader(node._fd, node._read_events)
        while len(seen) < 2 * EVENTS_AT_ONCE:  # noqa: ASYNC110 turns of the loop are what is counted
            await asyncio.sleep(0)
        assert len(seen) <= 3 * EVENTS_AT_ONCE
        loop.remove_reader(node._fd)

    try:
        asyncio.run(listen())
    finally:
        os.close(end)
        os.close(node._fd)
    assert ctypes.sizeof(abi.Event) * EVENTS_AT_ONCE <= 4096, "a pipe takes them whole"
