# SPDX-License-Identifier: GPL-2.0-or-later
"""Tap: results in the Test Anything Protocol, version 14, with a verdict as its last comment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from maglens_driver.conform.check import Result, Verdict
from maglens_driver.conform.run import failed


def head(count: int) -> list[str]:
    """Version and plan."""
    return ["TAP version 14", f"1..{count}"]


def lines(number: int, result: Result) -> list[str]:
    """One check. A "should" that is not kept does not fail a run: its line says so behind the mark."""
    point = f"{number} - {result.check.name}: {result.check.text}".replace("#", "\\#")
    match result.verdict:
        case Verdict.PASS:
            return [f"ok {point}"]
        case Verdict.SKIP:
            return [f"ok {point} # SKIP {_plain(result.why)}"]
        case Verdict.NOTE:
            return [f"ok {point}", f"# should, and does not: {_plain(result.why)}"]
        case Verdict.FAIL:
            return [f"not ok {point}", "  ---", f"  why: {_quoted(result.why)}", "  ..."]


def _plain(text: str) -> str:
    """On one line, and fit for a terminal: what a module says of itself may stand in it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.replace("\n", " "))


def _quoted(text: str) -> str:
    escaped = _plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def verdict(results: Sequence[Result], who: str) -> str:
    """One sentence."""
    counts = Counter(r.verdict for r in results)
    told = f"{counts[Verdict.PASS]} of {len(results)} checks passed"
    more = [
        f"{counts[v]} {word}" for v, word in ((Verdict.NOTE, "with a note"), (Verdict.SKIP, "skipped")) if counts[v]
    ]
    told += f" ({', '.join(more)})" if more else ""
    wrong = failed(results)
    if wrong:
        return f"{who} DOES NOT CONFORM: {len(wrong)} failed: {', '.join(wrong)}; {told}"
    return f"{who} conforms: {told}"


def document(results: Sequence[Result], who: str) -> dict[str, Any]:
    """The same for programs."""
    return {
        "module": who,
        "conforms": not failed(results),
        "counts": {v.value: sum(r.verdict is v for r in results) for v in Verdict},
        "failed": failed(results),
        "checks": [
            {
                "name": r.check.name,
                "text": r.check.text,
                "should": r.check.should,
                "verdict": r.verdict.value,
                "why": r.why,
                "seconds": round(r.seconds, 6),
            }
            for r in results
        ],
    }
