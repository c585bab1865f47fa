# SPDX-License-Identifier: GPL-2.0-or-later
"""Instance: one maglensd per machine, by a lock on a file that needs no clean-up."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from maglens_daemon.errors import AlreadyRunning, NoPermission
from maglens_driver import names


def lock(directory: Path = Path(names.RUNTIME_DIR)) -> int:
    """The locked file; keep it open. Raises :class:`AlreadyRunning`, :class:`NoPermission`."""
    try:
        directory.mkdir(mode=0o755, exist_ok=True)
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise NoPermission(
            f"no permission for {error.filename}", hint=f"sudo systemctl start {names.SERVICE_UNIT}"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise AlreadyRunning() from error
    return fd
