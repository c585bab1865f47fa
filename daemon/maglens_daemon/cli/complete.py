# SPDX-License-Identifier: GPL-2.0-or-later
"""Complete: what could stand at the end of a command line, for the shell's completion."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from maglens_daemon.cli import main
from maglens_daemon.cli.output import say
from maglens_daemon.exits import Exit
from maglens_driver.conform.usb_facts import SYSFS_USB
from maglens_driver.gadget.faults import Fault
from maglens_driver.virtual.lens import lens_names


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # argparse has no public way to its sub-commands
        if isinstance(action, argparse._SubParsersAction):
            return {name: made for name, made in action.choices.items() if name != "complete"}
    return {}


def candidates(words: Sequence[str]) -> list[str]:
    """Words that fit the last of ``words``, which may be empty."""
    *before, last = words or [""]
    parser, path = main.parser(), []
    for word in before:
        below = _actions(parser)
        if word in below:
            parser = below[word]
            path.append(word)
    options = [text for action in parser._actions for text in action.option_strings if text.startswith("--")]
    fitting = options if last.startswith("-") else [*_actions(parser), *_values(path)]
    return sorted(word for word in fitting if word.startswith(last))


def _values(path: Sequence[str]) -> list[str]:
    if path in (["sim", "attach"], ["sim", "swap"], ["sim", "rehearse"]):
        return list(lens_names())
    if path == ["sim", "fault"]:
        return ["none", *(fault.value for fault in Fault)]
    if path == ["sim", "ring"]:
        return ["focus", "iris", "zoom"]
    if path == ["conform"]:
        return [port.name for port in SYSFS_USB.glob("[0-9]*-*") if ":" not in port.name]
    return ["auto"] if path == ["use"] else []


def run(args: argparse.Namespace) -> int:
    """One candidate per line."""
    for word in candidates(args.words):
        say(word)
    return Exit.OK
