# SPDX-License-Identifier: GPL-2.0-or-later
"""Ending: a signal that ends a program leaves it as an error does, so that what was begun is put away."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Meanwhile these signals raise ``SystemExit`` with the status that a shell would tell of them. The first counts:
    a second must not disturb what is put away. One that is ignored, as under nohup, stays so. In the main thread."""
    before = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is not signal.SIG_IGN}

    def end(number: int, _: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
