# SPDX-License-Identifier: MIT
"""Lifetime: when the process of a module ends, and telling that it is ready."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from typing import Final

from maglens_driver.gadget import writer

log = logging.getLogger(__name__)

# A thread that draws keeps those that answer the host waiting for so long; the default is 5 ms.
SWITCH_INTERVAL_S: Final = 0.0005


def end_of_process() -> asyncio.Future[int]:
    """Its exit status, once SIGTERM or SIGINT has come (0) or a thread has broken (1). In the main thread, once.

    From here on :class:`Writer` can be used, and threads wait for each other no longer than ``SWITCH_INTERVAL_S``.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[int] = loop.create_future()

    def broken(args: threading.ExceptHookArgs) -> None:
        error = (args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
        log.critical("thread %s broke", args.thread.name if args.thread else "?", exc_info=error)
        loop.call_soon_threadsafe(finish, over, 1)

    threading.excepthook = broken
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, finish, over, 0)
    writer.install()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return over


def finish(over: asyncio.Future[int], status: int) -> None:
    """End the process with ``status``; the first one counts. In the loop's thread."""
    if not over.done():
        over.set_result(status)


def tell_ready() -> None:
    """Tell the service manager (sd_notify's datagram), or the terminal where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        print("ready", flush=True)
    else:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
