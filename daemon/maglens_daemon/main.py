# SPDX-License-Identifier: GPL-2.0-or-later
"""Main: the program ``maglensd``. What only the running service needs is loaded once it is clear that it will run."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from maglens_daemon import config, instance, journal
from maglens_daemon.config import Config
from maglens_daemon.errors import AlreadyRunning, ConfigError, NoPermission
from maglens_daemon.exits import Exit
from maglens_daemon.notify import Notifier
from maglens_daemon.version import VERSION
from maglens_driver.errors import MaglensError

log = logging.getLogger(__name__)

# A thread that is busy in Python keeps others waiting for so long; the default of 5 ms is a third of a frame.
SWITCH_INTERVAL_S: Final = 0.0005


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="maglensd", description="camera modules as one standard V4L2 camera")
    parser.add_argument("--check", action="store_true", help="check the configuration and end")
    parser.add_argument("--debug", action="store_true", help="log every step")
    parser.add_argument("--version", action="version", version=f"maglensd {VERSION}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service; the exit statuses are :class:`Exit`'s."""
    args = _parser().parse_args(arguments)
    try:
        settings = config.load()
    except ConfigError as error:
        print(f"maglensd: {error.explain()}", file=sys.stderr)
        return Exit.CONFIG
    if args.check:
        print(
            f"the configuration is sound: {', '.join(map(str, settings.files)) or 'no file is there, all defaults'}"
        )
        return Exit.OK
    journal.set_up("maglensd", logging.DEBUG if args.debug else logging.INFO)
    logging.getLogger("PIL").setLevel(logging.INFO)  # it logs every table of every font
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        held = instance.lock()
        try:
            asyncio.run(_serve(settings))
        finally:
            os.close(held)
    except AlreadyRunning as error:
        log.error("%s", error.explain())
        return Exit.UNAVAILABLE
    except NoPermission as error:
        log.error("%s", error.explain())
        return Exit.NO_PERMISSION
    except MaglensError as error:
        log.error("%s", error.explain())
        return Exit.FAILED
    return Exit.OK


async def _serve(settings: Config) -> None:
    from maglens_daemon.service import Service
    from maglens_daemon.workers import workers

    asyncio.get_running_loop().set_default_executor(workers())
    await Service(settings, Notifier()).run()


if __name__ == "__main__":
    sys.exit(main())
