# SPDX-License-Identifier: GPL-2.0-or-later
"""Root: said before anything is begun, where a command changes the machine itself."""

from __future__ import annotations

import os

from maglens_daemon.errors import NoPermission


def need_root(command: str) -> None:
    """Raises :class:`NoPermission` for everybody else. ``command`` as it is typed, without its arguments."""
    if os.geteuid() != 0:
        raise NoPermission(f"{command} needs root", hint=f"sudo {command} ...")
