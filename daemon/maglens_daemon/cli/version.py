# SPDX-License-Identifier: GPL-2.0-or-later
"""Version: ``maglens version``."""

from __future__ import annotations

import argparse

from maglens_daemon.cli.output import emit, say
from maglens_daemon.exits import Exit
from maglens_daemon.version import VERSION
from maglens_driver.link import limits


def run(args: argparse.Namespace) -> int:
    """Version of maglens and of the link protocol."""
    protocol = f"{limits.VERSION_MAJOR}.{limits.VERSION_MINOR}"
    if args.json:
        emit({"version": VERSION, "protocol": protocol})
    else:
        say(f"maglens {VERSION}, link protocol {protocol}")
    return Exit.OK
