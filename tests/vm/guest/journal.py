# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal: what one unit logs from a moment on, followed through journalctl."""

import json
import os
import re
import select
import subprocess
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.vm.guest.limits import EVENT_S


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry; `fields` has every journal field, MESSAGE included."""

    message: str
    fields: dict[str, str] = field(default_factory=dict)


class Journal:
    """Entries of a unit since this was opened."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.entries: list[Entry] = []
        # The cursor of the last entry there is: what comes after it is ours, whenever journalctl gets going.
        shown = subprocess.run(
            ["journalctl", "-n", "1", "--show-cursor", "-q", "-o", "cat"], capture_output=True, text=True, check=True
        )
        cursor = shown.stdout.rpartition("-- cursor: ")[2].strip()
        command = ["journalctl", "-f", "-q", "-o", "json", "--no-tail", "-u", unit, f"--after-cursor={cursor}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def wait_for(self, pattern: str, deadline_s: float = EVENT_S, **fields: str) -> Entry:
        """The first entry whose message matches and which has these fields; TimeoutError with the log if none comes.

        Looks at entries that were already read too.
        """
        end = time.monotonic() + deadline_s
        seen = 0
        while True:
            for entry in self.entries[seen:]:
                if re.search(pattern, entry.message) and fields.items() <= entry.fields.items():
                    return entry
            seen = len(self.entries)
            if not self._read(end - time.monotonic()):
                log = "\n".join(entry.message for entry in self.entries)
                raise TimeoutError(f"{self.unit} did not log {pattern!r} {fields} within {deadline_s} s:\n{log}")

    def _read(self, left: float) -> bool:
        """Read what is there, waiting at most `left` seconds; False if nothing came."""
        assert self._process.stdout is not None
        if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
            return False
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        if not data:
            raise RuntimeError(f"journalctl ended with status {self._process.wait()}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.entries += [_entry(line) for line in lines if line]
        return True


def _entry(line: bytes) -> Entry:
    fields = {key: _text(value) for key, value in json.loads(line).items()}
    return Entry(fields.get("MESSAGE", ""), fields)


def _text(value: object) -> str:
    # journalctl writes a field that is not valid UTF-8 as an array of bytes.
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return bytes(value).decode(errors="replace")
    return str(value)
