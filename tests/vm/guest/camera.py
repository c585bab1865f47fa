# SPDX-License-Identifier: GPL-2.0-or-later
"""Camera: a node of our kernel module with its controls, fed by this process itself instead of by the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from maglens_driver.mode import Mode
from maglens_driver.source import Source
from maglens_v4l2.controls import Controls
from maglens_v4l2.kernel_node import KernelNode
from maglens_v4l2.pipeline import Pipeline
from maglens_v4l2.store import Store


@dataclass(frozen=True, slots=True)
class Camera:
    """In one ``mode``, which is what plays as well."""

    mode: Mode
    node: KernelNode
    controls: Controls
    pipeline: Pipeline

    async def play(self, source: Source) -> None:
        """Start it; its first frame takes the stage."""
        await source.configure(self.mode)
        await source.start(self.pipeline.begin(1, self.mode), 1)

    async def offer(self, source: Source) -> None:
        """Let apps see its controls."""
        await self.controls.attach("test", source.controls, await source.get(), source.set)


@asynccontextmanager
async def camera(mode: Mode, folder: Path) -> AsyncIterator[Camera]:
    """What is chosen is stored in ``folder``."""
    node = KernelNode.create(mode, "maglens test", camera_id="test", formats=[mode])
    controls = Controls(node, Store(folder))
    pipeline = Pipeline(
        node,
        loop=asyncio.get_running_loop(),
        on_lost=print,
        on_control=lambda generation, control, value: controls.changed(control, value),
        on_event=controls.handle,
    )
    try:
        yield Camera(mode, node, controls, pipeline)
    finally:
        await pipeline.close()
        await controls.close()
        node.close()
