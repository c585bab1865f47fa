# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/operations.md has every warning and error that the service logs, and none that it does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("daemon/maglens_daemon", "v4l2_bridge/maglens_v4l2", "driver/maglens_driver")
ELSEWHERE = {"gadget", "conform", "cli"}  # no part of the service
LOUD = {"warning", "error", "exception", "critical"}
PLACES = re.compile(r"(?:0x)?(?:%[-0-9.]*[sdgfx]|\.\.\.)|\b[A-Z]\b|\b[A-Z]{3,}\b|/dev/videoN|`")
"""What stands for something else: in the code's formats, and in the document."""
TELLING = 8  # letters; a piece of a message that is shorter says nothing


def pieces(text: str) -> list[str]:
    """The fixed parts of a message, the longest first."""
    found = (piece.strip(" :;,()") for piece in PLACES.split(text))
    return sorted((piece for piece in found if len(piece) >= TELLING), key=len, reverse=True)


def loud(source: str) -> Iterator[str]:
    """The formats of what a file logs as a warning or worse."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LOUD
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def said(source: str) -> Iterator[str]:
    """Every text in a file, f-strings with their places left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "%s" for part in node.values)


def sources() -> Iterator[str]:
    """Of the service."""
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            if not ELSEWHERE.intersection(path.relative_to(ROOT).parts):
                yield path.read_text()


def rows(document: str) -> list[str]:
    """The first column of the table of messages."""
    table = document.partition("| message | meaning | what to do |\n")[2].partition("\n\n")[0]
    lines = [line.split(" | ") for line in table.splitlines()[1:]]
    assert all(len(cells) == 3 and cells[2].rstrip(" |") for cells in lines), "a message without what to do"
    return [cells[0].removeprefix("| ") for cells in lines]


def missing(formats: Sequence[str], documented: Sequence[str]) -> list[str]:
    """Formats of which no row has the longest part; those that are another text's alone are that text's business."""
    return [text for text in formats if pieces(text) and not any(pieces(text)[0] in row for row in documented)]


def stale(documented: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Rows of which nothing in the code has the longest part."""
    return [row for row in documented if pieces(row) and not any(pieces(row)[0] in text for text in texts)]


def doubles(documented: Sequence[str]) -> list[str]:
    """Rows that tell of a message once more. Places may be written in several ways: the fixed parts count."""
    fixed = [tuple(sorted(pieces(row))) or (row,) for row in documented]
    return [row for place, row in enumerate(documented) if fixed[place] in fixed[:place]]


DOCUMENT = rows((ROOT / "docs" / "operations.md").read_text())


def test_every_warning_is_told_with_what_to_do() -> None:
    assert missing([text for source in sources() for text in loud(source)], DOCUMENT) == []


def test_every_row_is_a_message_of_the_service() -> None:
    assert DOCUMENT
    assert stale(DOCUMENT, [text for source in sources() for text in said(source)]) == []


def test_every_message_has_one_row() -> None:
    assert doubles(DOCUMENT) == []


def test_it_would_notice() -> None:
    assert doubles(["...: the moon has N corners", "the sun sets", "M: the moon has 0x... corners"]) == [
        "M: the moon has 0x... corners"
    ]
    formats = list(loud("log.warning('%s: the moon has %d corners', a, b)\nlog.info('it is %s today', c)"))
    assert missing(formats, ["...: the sun has N corners"]) == formats == ["%s: the moon has %d corners"]
    assert missing(formats, ["...: the moon has N corners"]) == []
    assert stale(["the moon has N corners"], list(said("f'the {x} has corners'"))) != []
