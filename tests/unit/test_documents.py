# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents: each can be reached from the README, and every link between them leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """Each link to a file of ours: the file, and the heading's anchor or nothing."""
    for target in _LINK.findall(_CODE.sub("", document.read_text())):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            yield (document.parent / name).resolve() if name else document, anchor


def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", _CODE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


DOCUMENTS = sorted(
    [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "tests").rglob("README.md")]
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in links(document):
        assert target.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(target), f"{document.name} links to {target.name}#{anchor}"


def test_everything_for_people_is_reached_from_the_readme() -> None:
    linked = {target for target, _ in links(README)}
    assert not {ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")} - linked
