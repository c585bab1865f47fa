# SPDX-License-Identifier: GPL-2.0-or-later
"""Binding: the only place that imports linuxpy, which is optional (GPL-3.0-or-later, the successor of v4l2py)."""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from maglens_driver.errors import Gone, MissingDependency

GONE = (errno.ENODEV, errno.ENXIO, errno.ESHUTDOWN)


@functools.cache
def linuxpy() -> Any:
    """linuxpy's V4L2 module. Raises ``MissingDependency`` with the command that installs it."""
    try:
        from linuxpy.video import device  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingDependency(
            "V4L2 cameras need the Python package linuxpy",
            hint="sudo make install with a network, in the sources of maglens",
        ) from error
    return device


@contextmanager
def gone_is_gone(path: str) -> Iterator[None]:
    """``OSError`` of a device that was unplugged becomes ``Gone``."""
    try:
        yield
    except OSError as error:
        if error.errno in GONE:
            raise Gone(f"{path} was unplugged") from error
        raise
