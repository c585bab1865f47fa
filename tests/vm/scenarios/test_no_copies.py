# SPDX-License-Identifier: GPL-2.0-or-later
"""From USB to an app no frame is copied in Python: module, pipeline and the kernel's node in this process."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from maglens_driver.gadget.client import SimClient
from maglens_driver.mode import YUYV, make_mode
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.pipeline import Pipeline
from tests.unit.allocations import Allocations
from tests.vm.guest.devices import succeed
from tests.vm.guest.limits import EVENT_S
from tests.vm.scenarios.test_kernel_node import NAME
from tests.vm.scenarios.test_module_source import SMALL, alone, ready, sim, virtual

__all__ = ["alone", "sim", "virtual"]  # fixtures

FIRST = 20  # frames until every cache is filled
FRAMES = 120
SMALL_OBJECTS = 200_000  # all threads' and the loop's together (94 kB were seen); less than half of one frame


@contextmanager
def app(path: str) -> Iterator[None]:
    """A process that reads, and has read until the end of the block."""
    command = ["v4l2-ctl", "-d", path, "--stream-mmap", "--stream-count=1000000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.terminate()


async def shown(pipeline: Pipeline, more: int) -> None:
    """Wait until so many frames more were shown."""
    wanted = pipeline.stats().submitted + more
    async with asyncio.timeout(EVENT_S):
        while pipeline.stats().submitted < wanted:  # noqa: ASYNC110 counters have no event
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("fourcc", [SMALL.fourcc, YUYV], ids=["passed on", "converted"])
def test_no_frame_is_copied_in_python(fourcc: int, sim: SimClient) -> None:
    mode = make_mode(fourcc, SMALL.width, SMALL.height, SMALL.interval)

    succeed("modprobe", "maglens")

    async def body() -> None:
        node = KernelNode.create(SMALL, NAME, camera_id="test", formats=[SMALL])
        pipeline = Pipeline(node, loop=asyncio.get_running_loop(), on_lost=print, on_control=print)
        with app(node.path):
            try:
                async with ready(sim, mode) as source:
                    await source.start(pipeline.begin(1, mode), 1)
                    await shown(pipeline, FIRST)
                    with Allocations() as allocations:
                        await shown(pipeline, FIRST)
                        allocations.restart()
                        await shown(pipeline, FRAMES)
                    await source.stop()
                    assert allocations.peak < SMALL_OBJECTS < mode.nbytes
                    assert allocations.maps == 0
            finally:
                await pipeline.close()
                node.close()

    asyncio.run(body())
