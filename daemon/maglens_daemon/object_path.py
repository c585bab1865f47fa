# SPDX-License-Identifier: GPL-2.0-or-later
"""Object path: where a module is on D-Bus, for both ends."""

from __future__ import annotations

from maglens_driver import names


def module_path(port: str) -> str:
    """The object of the module at a port: its path with every unusual character as _xx."""
    escaped = "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):02x}" for c in port)
    return f"{names.BUS_PATH}/module/{escaped}"
