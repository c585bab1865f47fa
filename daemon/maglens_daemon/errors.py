# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors of the daemon and its tools, beside those of ``maglens_driver.errors``."""

from __future__ import annotations

from maglens_driver import names
from maglens_driver.errors import MaglensError


class NotFound(MaglensError):
    """There is no such module, source or control."""


class AlreadyRunning(MaglensError):
    """Another maglensd serves this machine."""

    def __init__(self) -> None:
        super().__init__("another maglensd is running", hint=f"systemctl status {names.SERVICE_UNIT}")


class NoPermission(MaglensError):
    """The system says no."""
