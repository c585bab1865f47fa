# SPDX-License-Identifier: GPL-2.0-or-later
"""From USB to an app no frame is copied in Python: module, pipeline and the kernel's node in this process."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from maglens_driver.gadget.client import SimClient
from maglens_driver.mode import YUYV, make_mode
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.discovery import DeviceEventKind, Discovery
from maglens_driver.usb.source import ModuleSource
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.pipeline import Pipeline
from tests.unit.allocations import Allocations
from tests.vm.guest.devices import succeed
from tests.vm.guest.limits import EVENT_S
from tests.vm.scenarios.test_kernel_node import NAME
from tests.vm.scenarios.test_module_source import SMALL, alone, contract, sim, virtual

__all__ = ["alone", "sim", "virtual"]  # fixtures

FIRST = 20  # frames until every cache is filled
FRAMES = 120
POOL = 8  # buffers
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


async def added(discovery: Discovery) -> UsbDevice:
    """The module that comes."""
    async with asyncio.timeout(EVENT_S):
        async for event in discovery.events():
            if event.kind is DeviceEventKind.ADDED and event.device is not None:
                return event.device
    raise AssertionError("the events ended")


@asynccontextmanager
async def opened(sim: SimClient) -> AsyncIterator[ModuleSource]:
    """The module, attached and with a contract."""
    async with Discovery() as discovery:
        sim.attach()
        source = await ModuleSource.open(await added(discovery))
        try:
            await source.control.run(contract, 5)
            yield source
        finally:
            await source.close()


@pytest.mark.long
def test_no_frame_is_copied_in_python(sim: SimClient) -> None:
    """Neither where frames are passed on nor where they are converted."""
    succeed("modprobe", "maglens")

    async def body() -> None:
        node = KernelNode.create(SMALL, NAME, camera_id="test", formats=[SMALL])
        pipeline = Pipeline(node, loop=asyncio.get_running_loop(), on_lost=print, on_control=print)
        try:
            with app(node.path):
                async with opened(sim) as source:
                    for generation, fourcc in enumerate((SMALL.fourcc, YUYV), 1):
                        want = make_mode(fourcc, SMALL.width, SMALL.height, SMALL.interval)
                        mode = await source.configure(want)
                        await source.start(pipeline.begin(generation, mode), generation)
                        await shown(pipeline, FIRST)
                        with Allocations() as allocations:
                            await shown(pipeline, FIRST)
                            allocations.restart()
                            await shown(pipeline, FRAMES)
                        await source.stop()
                        assert allocations.peak < SMALL_OBJECTS < mode.nbytes
                        assert allocations.maps <= POOL  # which makes a buffer when it is first needed
        finally:
            await pipeline.close()
            node.close()

    asyncio.run(body())
