# SPDX-License-Identifier: GPL-2.0-or-later
"""Console: a terminal on the guest's hvc0, where root is logged in."""

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator

from tests.vm.channel import CONSOLE, connect
from tests.vm.machine import Machine
from tests.vm.progress import say

LEAVE = b"\x1d"
"""Control-]."""


def attach(machine: Machine) -> int:
    """Relay between this terminal and the guest's until ^], end of input, or the machine's end."""
    size = os.get_terminal_size() if sys.stdin.isatty() else os.terminal_size((80, 24))
    say("the console of the guest; ^] leaves")
    with connect(machine.run, CONSOLE) as link, _raw():
        link.sendall(f"stty cols {size.columns} rows {size.lines}\r".encode())
        while True:
            ready, _, _ = select.select([link, sys.stdin], [], [])
            if link in ready:
                data = link.recv(1 << 16)
                if not data:
                    return 0
                os.write(sys.stdout.fileno(), data)
            if sys.stdin in ready:
                typed = os.read(sys.stdin.fileno(), 4096)
                if not typed or LEAVE in typed:
                    return 0
                link.sendall(typed)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
