# SPDX-License-Identifier: GPL-2.0-or-later
"""Loop: fake time, in which the little work that would go to a thread is done at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

from maglens_driver.errors import MaglensError
from tests.unit.fake_clock import FakeClockLoop

T = TypeVar("T")


class BenchLoop(FakeClockLoop):
    """Deterministic: no thread ever runs."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """See :meth:`asyncio.loop.run_in_executor`; done when it returns."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except (MaglensError, OSError, ValueError) as error:  # the caller gets it when it awaits
            future.set_exception(error)
        return future


def run(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` in fake time, without threads."""
    with asyncio.Runner(loop_factory=BenchLoop) as runner:
        return runner.run(work)
