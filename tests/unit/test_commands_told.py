# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command of ours that a document or an error names is there, with its options."""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from maglens_daemon.cli import main
from maglens_daemon.cli.client import _KINDS, _NOT_THERE, to_error
from tests.unit.test_documents import DOCUMENTS, ROOT

PARTS = ("daemon/maglens_daemon", "v4l2_bridge/maglens_v4l2", "driver/maglens_driver")
MAKEFILES = ("Makefile", "tests/vm/vm.mk", "tests/kernel/kernel.mk")
_BLOCK = re.compile(r"^```(?:sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_OPTION = re.compile(r"--?[a-z][a-z-]*")
_SENTENCE = re.compile(r"[;,()|]| or | and ")  # ends a command within prose


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """A parser's sub-commands."""
    kinds = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(kinds[0].choices) if kinds else {}


def unknown(words: Sequence[str]) -> str:
    """What of a command in prose is none: ``maglens`` is left out, and so may be what it needs. Empty: nothing."""
    if "..." in words:  # something is left out in its middle
        words = words[: words.index("...")]
    parser, left = main.parser(), list(words)
    while (names := below(parser)) and left and re.match("[a-z]", left[0]):
        name = left.pop(0)
        if name not in names:
            return f"{name!r} is none of {', '.join(names)}"
        parser = names[name]
    options = {text for action in parser._actions for text in action.option_strings}
    return next((f"there is no {word}" for word in left if _OPTION.fullmatch(word) and word not in options), "")


def refused(words: Sequence[str]) -> str:
    """Why a command, typed like this, is not accepted; empty where it is."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main.parser().parse_args(words)
        except SystemExit:
            return said.getvalue()
    return ""


def typed(document: str, program: str) -> Iterator[list[str]]:
    """The words behind a program's name, of each line in a document's code blocks that calls it."""
    for block in _BLOCK.findall(document):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|; ", line.partition(" #")[0].removeprefix("$ ")):
                part = re.split(r"   +", part.strip())[0]  # what follows is prose
                words = part.split()[1:] if part.split()[:1] == ["sudo"] else part.split()
                if words[:1] == [program]:
                    yield shlex.split(" ".join(words[1:]))


def named(text: str, program: str) -> Iterator[list[str]]:
    """The same of a command in prose or in an error."""
    for part in _SENTENCE.split(text):
        words = part.removeprefix("try: ").split()
        words = words[1:] if words[:1] == ["sudo"] else words
        if words[:1] == [program] and re.match("[a-z-]", "".join(words[1:2])):
            yield words[1:]


def hints(source: str) -> Iterator[str]:
    """What the errors of a file advise, places of f-strings as X."""
    for call in ast.walk(ast.parse(source)):
        for advice in (k.value for k in call.keywords if k.arg == "hint") if isinstance(call, ast.Call) else ():
            for node in ast.walk(advice):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)


def wrong_in(document: str, targets: Sequence[str]) -> list[tuple[str, str]]:
    """Each command that is not there, and why. ``targets``: of make."""
    inline = _INLINE.findall(_BLOCK.sub("", document))
    found = [(words, refused(words)) for words in typed(document, "maglens") if words]
    found += [(words, unknown(words)) for text in inline for words in named(text, "maglens")]
    made = [*typed(document, "make"), *(words for text in inline for words in named(text, "make"))]
    for words in made:
        goals = [word for word in words if re.fullmatch("[a-z][a-z0-9-]*", word)]
        found += [(["make", *words], f"make has no {goal}") for goal in goals if goal not in targets]
    return [(" ".join(words), why) for words, why in found if why]


@pytest.fixture(scope="module")
def targets() -> list[str]:
    return [
        target
        for file in MAKEFILES
        for target in re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / file).read_text(), re.MULTILINE)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_names_commands_that_are_there(document: Path, targets: list[str]) -> None:
    assert wrong_in(document.read_text(), targets) == []


def test_an_error_names_commands_that_are_there() -> None:
    wrong = []
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            for text in hints(path.read_text()):
                wrong += [(path.name, words, why) for words in named(text, "maglens") if (why := unknown(words))]
    assert wrong == []


def test_it_would_notice(targets: list[str]) -> None:
    assert targets
    block = "```\nmaglens use\nsudo make lunch && maglens sim\n```\n"
    document = f"`maglens shout -m 3`\n`sudo maglens use --loud X`\n{block}"
    whys = [why.splitlines()[-1] for _, why in wrong_in(document, targets)]
    assert ["required" in why for why in whys] == [True, True, False, False, False]
    assert whys[2].startswith("'shout' is none of") and whys[3:] == ["there is no --loud", "make has no lunch"]
    advice = [*hints("raise E('maglens hums', hint=f'maglens show {c}')")]
    assert {unknown(words).partition(" is ")[0] for hint in advice for words in named(hint, "maglens")} == {"'show'"}


@pytest.mark.parametrize(
    "name", [*_KINDS, *sorted(_NOT_THERE), "org.maglens1.Error.Other", "org.freedesktop.systemd1.NoUnit"]
)
def test_an_error_of_the_service_advises_something(name: str) -> None:
    assert to_error(name, "it is broken").hint
    assert name not in _KINDS or to_error(name, "it is broken\ntry: mend it").hint == "mend it"
