# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress lines: what the lab does, with the seconds since the program started."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

START = time.monotonic()


class LabError(Exception):
    """The lab itself failed (not a test in it). `hint` is what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def elapsed() -> float:
    """Seconds since the program started."""
    return time.monotonic() - START


def say(text: str) -> None:
    """One progress line on stderr."""
    print(f"[{elapsed():6.1f}s] vm: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step and say how long it took."""
    say(f"{text} ...")
    began = time.monotonic()
    yield
    say(f"{text}: done in {time.monotonic() - began:.1f} s")
