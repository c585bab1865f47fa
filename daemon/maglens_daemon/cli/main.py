# SPDX-License-Identifier: GPL-2.0-or-later
"""Main: the program ``maglens``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from maglens_daemon.exits import Exit
from maglens_daemon.version import VERSION


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit statuses are :class:`Exit`'s."""
    parser = argparse.ArgumentParser(prog="maglens", description="look at and control snap-on camera modules")
    parser.add_argument("command", choices=("version",))
    parser.parse_args(arguments)
    print(f"maglens {VERSION}")
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
