# SPDX-License-Identifier: GPL-2.0-or-later
"""Program: an app of its own process that goes on until it is asked to end, and then ends well."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

STOP_S = 60.0
"""To write the end of a file, on an emulated processor."""


class ProgramError(AssertionError):
    """It ended by itself or failed; the message has what it said."""


class Program:
    """One process from ``with`` to its end. ``said``: a file for what it says on its standard error, and on its
    standard output unless ``progress`` is to be read from there."""

    good: ClassVar[Collection[int]] = (0,)
    """How it exits when all is well."""

    def __init__(self, command: Sequence[str], said: Path, *, progress: bool = False) -> None:
        self.said_path = said
        self.name = command[0]
        with said.open("wb") as stderr:
            stdout = subprocess.PIPE if progress else stderr
            self.process = subprocess.Popen(command, stdout=stdout, stderr=stderr, bufsize=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def said(self) -> str:
        """What it said so far."""
        return self.said_path.read_text(errors="replace")

    def stop(self) -> bytes:
        """SIGINT, and the rest of its progress; ProgramError if it was gone already or failed. A second stop does
        nothing."""
        if self.process.returncode is not None:
            return b""
        if self.process.poll() is not None:
            raise ProgramError(f"{self.name} ended by itself ({self.process.returncode}):\n{self.said}")
        self.process.send_signal(signal.SIGINT)
        progress, _ = self.process.communicate(timeout=STOP_S)
        if self.process.returncode not in self.good:
            raise ProgramError(f"{self.name} failed ({self.process.returncode}):\n{self.said}")
        return progress or b""
