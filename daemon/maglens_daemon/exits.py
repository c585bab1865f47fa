# SPDX-License-Identifier: GPL-2.0-or-later
"""Exits: the exit statuses of maglens and maglensd (sysexits.h where it has one)."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """What a script can tell from the exit status."""

    OK = 0
    FAILED = 1  # it was tried and did not work; the message says why
    USAGE = 2  # argparse
    NOT_FOUND = 66  # no such module, control, lens
    UNAVAILABLE = 69  # the service does not answer; or another daemon is running
    NO_PERMISSION = 77
    CONFIG = 78
