# SPDX-License-Identifier: GPL-2.0-or-later
"""Report: the cases that were measured, as ``build/bench/report.json`` has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.case import Case

Entry = Mapping[str, Any]


class Report:
    """A list of cases in a file, written after each, so that a run that is cut off leaves what it has found. With
    ``into`` what is there stays, but for cases that are measured again: one part after the other makes a whole."""

    def __init__(self, path: Path, *, into: bool = False) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._entries: dict[str, Entry] = {}
        if into and path.exists():
            self._entries = {entry["case"]: entry for entry in read(path)}

    @property
    def entries(self) -> list[Entry]:
        """What it holds."""
        return list(self._entries.values())

    def add(self, case: Case) -> None:
        """Another one, or one anew."""
        self._entries[case.case] = case.as_json()
        self._path.write_text(json.dumps(self.entries, indent=2) + "\n")


def read(path: Path) -> list[Entry]:
    """A report that was written."""
    found: list[Entry] = json.loads(path.read_text())
    return found
