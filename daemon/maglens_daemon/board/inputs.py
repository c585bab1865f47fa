# SPDX-License-Identifier: GPL-2.0-or-later
"""Inputs: what can be waited for on a board, each with a file descriptor for ``poll``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Edge:
    """Logical level after it; CLOCK_MONOTONIC in seconds as the kernel saw it."""

    active: bool
    at_s: float


class Input(Protocol):
    """One input. ``OSError`` where the device has gone. ``poll_mask`` is what to wait for."""

    @property
    def poll_mask(self) -> int: ...

    def fileno(self) -> int: ...

    def level(self) -> bool:
        """The logical level now."""
        ...

    def read(self) -> Sequence[Edge]:
        """Edges since the last time, in order; empty where it was woken for nothing. Does not block."""
        ...

    def close(self) -> None: ...


class Output(Protocol):
    """A line that is driven; safe to use from any thread."""

    def get(self) -> bool: ...

    def set(self, active: bool) -> None: ...

    def close(self) -> None: ...


def edge_now(active: bool) -> Edge:
    """For what carries no time of its own."""
    return Edge(active, time.monotonic())
