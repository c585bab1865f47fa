# SPDX-License-Identifier: GPL-2.0-or-later
"""The service has as many workers in its first minute as after months."""

from __future__ import annotations

import asyncio
import threading

import pytest

from maglens_daemon import main, service
from maglens_daemon.config import Config
from maglens_daemon.workers import NAME, WORKERS


def count() -> int:
    return sum(thread.name.startswith(NAME) for thread in threading.enumerate())


def test_the_threads_of_the_service_are_the_same_after_more_work_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    class Busy:
        def __init__(self, *_: object) -> None: ...

        async def run(self) -> None:
            before = threading.active_count()
            full = threading.Barrier(WORKERS)  # so many are at work at the same time, or it breaks
            await asyncio.gather(*(asyncio.to_thread(full.wait, 10) for _ in range(3 * WORKERS)))
            seen.append((count(), threading.active_count() - before))

    monkeypatch.setattr(service, "Service", Busy)
    asyncio.run(main._serve(Config()))
    assert seen == [(WORKERS, 0)]
    assert count() == 0, "they end with the loop"
