#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Describe: writes the example configuration, its manual page and its table in docs/operations.md from the schema.

``maglens_daemon.config`` is the one place where a key, its default and its meaning stand. A test compares what this
would write with what is there; ``make describe`` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maglens_daemon import config
from maglens_daemon.board.failures import FAILURES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "daemon" / "system" / "maglens.toml"
MANUAL = ROOT / "daemon" / "system" / "maglens.toml.5"
OPERATIONS = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- config: begin -->", "<!-- config: end -->"
FAILURES_BEGIN, FAILURES_END = "<!-- failures: begin -->", "<!-- failures: end -->"

EXAMPLE_HEAD = """\
# SPDX-License-Identifier: GPL-2.0-or-later
# /etc/maglens/maglens.toml: everything is optional; what stands here commented out is the default.
# Drop-ins: /etc/maglens/maglens.toml.d/*.toml. Check: maglensd --check. Apply: systemctl reload maglensd.
"""
AFTER_EXAMPLE = {
    "node": """
# Another camera, as `maglens use --node front` names it: any number of such tables, with [node]'s values where they
# have none of their own. A rule's node = "front" plays a source there.
#[node.front]
""",
}
AFTER_MANUAL = {
    "node": """\
.SH [node.NAME]
Another camera, as
.B maglens use \\-\\-node NAME
names it, of letters a to z, digits, \\- and _; any number of such tables. The keys are those of [node], whose values
it has where it has none of its own, and it is listed as maglens NAME. A rule's
.B node
plays a source there.
""",
}
SECTION_HEADS = {
    'source."PATTERN"': "# One table per camera that was mounted otherwise than upright; patterns may hold * and ?."
    '\n#[source."*/Camera/*"]',
    'port."PATH"': "# One table per place where a module can snap on, by the kernel's name for it"
    ' (maglens status shows it).\n#[port."1-2"]',
    "retry.CODE": "# How often a board's port tries again; the codes and their own rules are in docs/operations.md."
    "\n#[retry.short]",
    "policy.rule": "# The first rule that matches a source decides; patterns may hold * and ?.\n#[[policy.rule]]",
}
MANUAL_HEAD = r""".\" SPDX-License-Identifier: GPL-2.0-or-later
.TH MAGLENS.TOML 5 "" maglens "File formats"
.SH NAME
maglens.toml \- configuration of maglensd
.SH DESCRIPTION
.I /etc/maglens/maglens.toml
and after it, by name,
.IR /etc/maglens/maglens.toml.d/*.toml ,
in TOML. Every key is optional. An unknown key or a value that is not allowed is refused with file and line, and the
configuration in use stays.
"""
MANUAL_TAIL = """\
.SH SEE ALSO
.BR maglensd (8)
"""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _sections() -> Iterator[tuple[str, list[tuple[str, Any, str]]]]:
    keys: dict[str, list[tuple[str, Any, str]]] = {}
    for section, name, default, doc in config.schema():
        keys.setdefault(section, []).append((name, default, doc))
    yield from keys.items()


def example() -> str:
    """The example file: every key with its default, commented out."""
    text = EXAMPLE_HEAD
    for section, keys in _sections():
        text += "\n" + SECTION_HEADS.get(section, f"[{section}]") + "\n"
        for name, default, doc in keys:
            setting = f"#{name} =" if default in (None, "", ()) else f"#{name} = {_toml(default)}"
            text += f"{setting:24} # {doc}\n"
        text += AFTER_EXAMPLE.get(section, "")
    return text


def manual() -> str:
    """maglens.toml(5)"""
    text = MANUAL_HEAD
    for section, keys in _sections():
        text += f".SH [[{section}]]\n" if section == "policy.rule" else f".SH [{section}]\n"
        for name, default, doc in keys:
            bare = default if isinstance(default, str) else _toml(default)
            quoted = bare.replace('"', r"\(dq")
            shown = "" if default in (None, "", ()) else f' " (default {quoted})"'
            text += f".TP\n.BR {name}{shown}\n" + doc.replace("-", r"\-") + "\n"
        text += AFTER_MANUAL.get(section, "")
    return text + MANUAL_TAIL


def table() -> str:
    """Markdown tables, one per section."""
    text = ""
    for section, keys in _sections():
        head = f"[[{section}]]" if section == "policy.rule" else f"[{section}]"
        text += f"\n`{head}`\n\n| key | default | meaning |\n|---|---|---|\n"
        for name, default, doc in keys:
            shown = "" if default in (None, "", ()) else f"`{_toml(default)}`"
            text += f"| `{name}` | {shown} | {doc} |\n"
    return text + "\n"


def failures() -> str:
    """Every way in which a board's port can fail, and what to do."""
    text = "\n| code | message | what to do | tries | within | rest |\n|---|---|---|---|---|---|\n"
    for code, failure in FAILURES.items():
        rule = failure.rule
        text += f"| `{code.value}` | {failure.message} | {failure.hint} "
        text += f"| {rule.tries} | {rule.window_s:g} s | {rule.pause_s * 1000:g} ms |\n"
    return text + "\n"


def _between(present: str, begin: str, end: str, content: str) -> str:
    before, found, rest = present.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{OPERATIONS} lacks {begin} and {end}")
    return f"{before}{begin}\n{content}{end}{after}"


def operations(present: str) -> str:
    """docs/operations.md with its tables renewed; raises ``ValueError`` where the marks are missing."""
    return _between(_between(present, BEGIN, END, table()), FAILURES_BEGIN, FAILURES_END, failures())


def documents() -> dict[Path, str]:
    """What each file should hold."""
    return {
        EXAMPLE: example(),
        MANUAL: manual(),
        OPERATIONS: operations(OPERATIONS.read_text(encoding="utf-8")),
    }


def main() -> int:
    """Write them all."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
