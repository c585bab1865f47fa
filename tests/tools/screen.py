# SPDX-License-Identifier: GPL-2.0-or-later
"""Screen: a pipeline onto a node in memory, and an app that watches. For tests of what becomes of frames."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from maglens_driver.mode import Mode
from maglens_v4l2.memory_node import MemoryNode, MemoryReader
from maglens_v4l2.pipeline import Pipeline


class Screen:
    """``node`` is there from the first; the app (``reader``) and the ``pipeline``, which nobody listens to, from
    ``async with`` to its end."""

    pipeline: Pipeline
    reader: MemoryReader

    def __init__(self, shown: Mode) -> None:
        self.node = MemoryNode([shown])

    async def __aenter__(self) -> Self:
        self.pipeline = Pipeline(self.node, loop=asyncio.get_running_loop(), on_lost=print, on_control=print)
        self.reader = self.node.open()
        self.reader.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.pipeline.close()
        self.node.close()
