# SPDX-License-Identifier: GPL-2.0-or-later
"""Pending events of a node: bounded, latest wins per kind, one asyncio listener."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from maglens_driver.errors import WrongState
from maglens_v4l2.node import ControlSet, NodeEvent


class PendingEvents:
    """One place for each kind of event, and for each control one; a newer event replaces one not yet seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[tuple[type[NodeEvent], int], NodeEvent] = {}
        self._listener: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._closed = False

    def post(self, event: NodeEvent) -> None:
        """From any thread."""
        key = (type(event), event.id if isinstance(event, ControlSet) else 0)
        with self._lock:
            self._pending[key] = event
            self._wake()

    def close(self) -> None:
        """End the listener once it has seen what is pending."""
        with self._lock:
            self._closed = True
            self._wake()

    def _wake(self) -> None:
        if self._listener is not None:
            loop, flag = self._listener
            if not loop.is_closed():
                loop.call_soon_threadsafe(flag.set)

    async def stream(self) -> AsyncIterator[NodeEvent]:
        """Every event until :meth:`close`. Raises ``WrongState`` when someone listens already."""
        flag = asyncio.Event()
        with self._lock:
            if self._listener is not None:
                raise WrongState("the node's events have a listener already")
            self._listener = (asyncio.get_running_loop(), flag)
        try:
            while True:
                with self._lock:
                    flag.clear()
                    batch = list(self._pending.values())
                    self._pending.clear()
                    closed = self._closed
                for event in batch:
                    yield event
                if batch:
                    continue
                if closed:
                    return
                await flag.wait()
        finally:
            with self._lock:
                self._listener = None
