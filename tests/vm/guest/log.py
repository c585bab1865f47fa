# SPDX-License-Identifier: GPL-2.0-or-later
"""Log: what a process of one's own says on its standard error, line by line."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from typing import Final

TAIL: Final = 25
WAIT_S: Final = 90.0  # an emulated processor takes ten times as long for everything


class Log:
    """What a process says on a pipe, line by line. ``place``: the line from which is searched next."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        self._stream = process.stderr
        self.pid = process.pid
        os.set_blocking(self._stream.fileno(), False)
        self.lines: list[str] = []
        self._rest = b""
        self.place = 0

    def wait_for(self, pattern: str, deadline_s: float = WAIT_S) -> str:
        """The next line, after the one that was waited for last, in which the pattern is found."""
        end = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._stream, selectors.EVENT_READ)
            while True:
                while self.place < len(self.lines):
                    line = self.lines[self.place]
                    self.place += 1
                    if re.search(pattern, line):
                        return line
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"maglensd never said {pattern!r}; its last lines:\n{self.tail()}")
                self.drain()

    def skip(self) -> None:
        """What was said until now is not searched any more."""
        self.drain()
        self.place = len(self.lines)

    def drain(self) -> None:
        """Take in what is there."""
        data = self._stream.read()
        if data == b"":
            raise AssertionError(f"maglensd has ended:\n{self.tail()}")
        *whole, self._rest = (self._rest + (data or b"")).split(b"\n")
        self.lines += [line.decode(errors="replace") for line in whole]

    def tail(self) -> str:
        """The last lines that were taken in."""
        return "\n".join(self.lines[-TAIL:])
