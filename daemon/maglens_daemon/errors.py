# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors of the daemon and its tools, beside those of ``maglens_driver.errors``."""

from __future__ import annotations

from maglens_driver import names
from maglens_driver.errors import MaglensError


class NotFound(MaglensError):
    """There is no such module, source or control."""


class Usage(MaglensError):
    """The command line asks for what makes no sense."""


class AlreadyRunning(MaglensError):
    """Another maglensd serves this machine."""

    def __init__(self) -> None:
        super().__init__("another maglensd is running", hint=f"systemctl status {names.SERVICE_UNIT}")


class Unavailable(MaglensError):
    """The service does not answer."""

    def __init__(self, message: str, *, hint: str = f"sudo systemctl start {names.SERVICE_UNIT}") -> None:
        super().__init__(message, hint=hint)


class ConfigError(MaglensError):
    """A configuration that cannot be used; the message begins with ``FILE:LINE:``."""


class Denied(MaglensError):
    """The caller may not do this."""


class NoPermission(MaglensError):
    """The system says no."""
