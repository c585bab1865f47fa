# SPDX-License-Identifier: GPL-2.0-or-later
"""Stamp: when a picture's exposure began, in its first bytes, for an app on the same machine to read.

What an app learns from V4L2's timestamp differs: some drivers give the time at which a picture arrived. A picture
that says it itself is as late by one path as by another. ``tests/bench/c_reader/tally.c`` reads it.
"""

from __future__ import annotations

import struct
from typing import Final

_LAYOUT: Final = struct.Struct("<8sQ")  # what it is, and CLOCK_MONOTONIC in nanoseconds
_MAGIC: Final = b"mlstamp\n"
BYTES: Final = _LAYOUT.size


def put(picture: bytearray | memoryview, time_ns: int) -> None:
    """Overwrite the beginning of a picture of at least :data:`BYTES`."""
    _LAYOUT.pack_into(picture, 0, _MAGIC, time_ns)
