# SPDX-License-Identifier: GPL-2.0-or-later
"""Shipped: what the service's unit sets for it, for a maglensd that systemd does not start."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

UNIT: Final = Path(__file__).parents[3] / "daemon/system/maglensd.service"
KEY: Final = "Environment="


def environment(unit: Path = UNIT) -> dict[str, str]:
    """Variables as systemd.exec(5) sets them by ``Environment=``: how the C library keeps memory, above all."""
    lines = (line.removeprefix(KEY) for line in unit.read_text().splitlines() if line.startswith(KEY))
    found = dict(word.split("=", 1) for line in lines for word in shlex.split(line))
    if not found:
        raise ValueError(f"{unit} sets no variable")
    return found
