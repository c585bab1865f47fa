# SPDX-License-Identifier: GPL-2.0-or-later
"""However the preview ends, nothing of it is left: the terminal is as it was, and so are windows and folders."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from maglens_daemon.cli import terminal

PROGRAM = """
import asyncio, signal, sys
from maglens_daemon.cli import main, terminal, window

# Whoever runs the tests in the background or under nohup ignores these, and that is inherited.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

async def show(args):
    with terminal.screen():
        print("a picture", flush=True)
        await asyncio.Event().wait()

window.run = show
sys.exit(main.main(["preview"]))
"""


@pytest.fixture
def screen() -> Iterator[tuple[int, int]]:
    """A terminal: who looks at it, and what programs write to."""
    sides = pty.openpty()
    yield sides
    os.close(sides[0])


def read_until(side: int, what: str = "") -> str:
    """What comes out of the terminal, until this is among it, or without it until nobody writes any more."""
    said = ""
    while not what or what not in said:
        try:
            said += os.read(side, 4096).decode(errors="replace")
        except OSError:  # EIO: it is closed
            break
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals, screen: tuple[int, int]) -> None:
    looks, writes = screen
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=writes, stderr=subprocess.DEVNULL) as program:
        os.close(writes)
        assert "a picture" in read_until(looks, "a picture")
        program.send_signal(number)
        assert read_until(looks).endswith(terminal._LEAVE)
    assert program.returncode == 128 + number
