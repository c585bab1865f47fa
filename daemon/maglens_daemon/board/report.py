# SPDX-License-Identifier: GPL-2.0-or-later
"""Report: a board's port as it is, for status."""

from __future__ import annotations

from dataclasses import dataclass

from maglens_daemon.board.attach import AttachState
from maglens_daemon.board.failures import Code
from maglens_daemon.board.hardware import Draw


@dataclass(frozen=True, slots=True)
class Report:
    """``state`` and ``code``: of the machine; ``failures`` count against the code's rule. ``seated`` None without a
    detect line; ``draw`` None while nothing is metered; ``limit_mw``: what may be drawn now."""

    path: str
    name: str
    state: AttachState
    code: Code | None
    failures: int
    seated: bool | None
    powered: bool
    limit_mw: int
    draw: Draw | None
    counters: dict[str, int]
