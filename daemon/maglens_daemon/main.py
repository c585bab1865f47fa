# SPDX-License-Identifier: GPL-2.0-or-later
"""Main: the program ``maglensd``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from maglens_daemon import config
from maglens_daemon.exits import Exit
from maglens_daemon.version import VERSION


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="maglensd", description="camera modules as one standard V4L2 camera")
    parser.add_argument("--check", action="store_true", help="check the configuration and end")
    parser.add_argument("--version", action="version", version=f"maglensd {VERSION}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service; the exit statuses are :class:`Exit`'s."""
    args = _parser().parse_args(arguments)
    try:
        config.load()
    except config.ConfigError as error:
        print(f"maglensd: {error.explain()}", file=sys.stderr)
        return Exit.CONFIG
    if args.check:
        return Exit.OK
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
