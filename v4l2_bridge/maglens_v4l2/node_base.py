# SPDX-License-Identifier: GPL-2.0-or-later
"""Node base: what every node does the same way. Its generation, what it lends, and the events it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from maglens_driver.errors import Gone
from maglens_driver.frame import Lease
from maglens_v4l2.loan import Lender
from maglens_v4l2.node import NodeEvent
from maglens_v4l2.node_events import PendingEvents


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class NodeBase:
    """For the kinds of :class:`maglens_v4l2.node.Node`. A subclass sets ``_lender`` once it has buffers, and
    ``_readable`` where the loop has to watch a file for events, which :meth:`_read_events` then posts."""

    _lender: Lender

    def __init__(self) -> None:
        self._events = PendingEvents()
        self._generation = 0
        self._closed = False
        self._readable: int | _HasFileno | None = None

    @property
    def generation(self) -> int:
        return self._generation

    def lease(self, nbytes: int) -> Lease | None:
        return self._lender.lease(nbytes)

    async def events(self) -> AsyncIterator[NodeEvent]:
        loop = asyncio.get_running_loop()
        if self._readable is not None:
            loop.add_reader(self._readable, self._read_events)
        try:
            async for event in self._events.stream():
                yield event
        finally:
            self._stop_watching(loop)

    def _read_events(self) -> None:
        """The file is readable: post what it tells."""

    def _stop_watching(self, loop: asyncio.AbstractEventLoop) -> None:
        """Before the file is closed, and when nobody listens any more."""
        if self._readable is not None and not self._closed:
            loop.remove_reader(self._readable)

    def _check_open(self) -> None:
        if self._closed:
            raise Gone("the node was closed")
