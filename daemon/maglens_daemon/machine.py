# SPDX-License-Identifier: GPL-2.0-or-later
"""Machine: what the doctor looks at, and a finding about it. The real one, or files with prepared answers."""

from __future__ import annotations

import enum
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maglens_driver import packages

_COMMAND_S: Final = 10.0


class Verdict(enum.Enum):
    """How a finding is."""

    OK = "ok"
    NOTE = "note"  # it works, with less
    WRONG = "wrong"  # it does not work until this is mended


@dataclass(frozen=True, slots=True)
class Finding:
    """``mend`` is the command; empty where nothing has to be done."""

    subject: str
    verdict: Verdict
    what: str
    mend: str = ""


class Machine:
    """This machine, or a rehearsed one: files below ``root``, programs by ``ask``."""

    def __init__(self, root: Path = Path("/"), ask: Callable[[Sequence[str]], str | None] | None = None) -> None:
        self._root = root
        self._ask = ask or _run
        self.is_real = root == Path("/")

    def path(self, path: str) -> Path:
        """A file of it."""
        return self._root / path.lstrip("/")

    def read(self, path: str) -> str | None:
        """Text of a file, or None."""
        try:
            return self.path(path).read_text(errors="replace").strip()
        except OSError:
            return None

    def read_bytes(self, path: str) -> bytes | None:
        """A file that is no text, or None."""
        try:
            return self.path(path).read_bytes()
        except OSError:
            return None

    def install(self, *needs: packages.Need) -> str:
        """The command that installs something here; headers are those of the kernel that runs."""
        system = self.read("/etc/os-release") or self.read("/usr/lib/os-release") or ""
        return packages.install(*needs, release=self.kernel(), system=system)

    def kernel(self) -> str:
        """The release of the kernel that runs."""
        return self.read("/proc/sys/kernel/osrelease") or platform.release()

    def ask(self, *command: str) -> str | None:
        """What a program prints; None where it is not there or fails without a word."""
        return self._ask(command)


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def ok(subject: str, what: str) -> Finding:
    """Nothing to mend."""
    return Finding(subject, Verdict.OK, what)
