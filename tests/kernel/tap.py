# SPDX-License-Identifier: GPL-2.0-or-later
"""Tap: one numbered list of results out of many programs' own (Test Anything Protocol)."""

import re
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tap:
    """What has been printed so far."""

    results: list[tuple[bool, str]] = field(default_factory=list)

    def check(self, ok: bool, what: str, skipped: bool = False) -> bool:
        """Print and keep one result."""
        self.results.append((ok, what))
        print(f"{'ok' if ok else 'not ok'} {len(self.results)} - {what}{' # SKIP' if skipped else ''}", flush=True)
        return ok

    def note(self, text: str) -> None:
        """Print lines that are no results."""
        for line in text.splitlines():
            print(f"# {line}", flush=True)

    def take(self, name: str, text: str) -> None:
        """Take over a program's own list. A list without its plan is one more failure: it did not end."""
        for line in text.splitlines():
            if match := re.match(r"(not )?ok \d+ - (.*)", line):
                self.check(not match[1], f"{name}: {match[2]}")
            elif line.startswith("#") or line.startswith("Bail out!"):
                self.note(line.removeprefix("# "))
        planned = re.search(r"^1\.\.(\d+)$", text, re.M)
        got = len(re.findall(r"^(?:not )?ok \d+", text, re.M))
        if not planned or int(planned[1]) != got:
            self.check(False, f"{name} ran to its end ({got} results, plan {planned[1] if planned else 'missing'})")

    def end(self) -> int:
        """Print the plan; the exit status."""
        print(f"1..{len(self.results)}", flush=True)
        failed = [what for ok, what in self.results if not ok]
        for what in failed:
            print(f"# failed: {what}", flush=True)
        return 1 if failed or not self.results else 0
