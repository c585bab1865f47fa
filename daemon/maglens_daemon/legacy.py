# SPDX-License-Identifier: GPL-2.0-or-later
"""Legacy: what a service leaves to its successor beside the cameras themselves: for each node, which source stands
behind each input, what people chose, and whose controls apps see.

A small file in the runtime directory, which systemd keeps as long as the cameras' descriptors: over a crash and a
restart, not over a stop (``RuntimeDirectoryPreserve=restart``, systemd.exec(5)).
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from maglens_daemon.policy import AUTO
from maglens_v4l2.canonical import INPUTS

FILE_NAME: Final = "legacy.json"
VERSION: Final = 1
MAX_BYTES: Final = 1 << 16  # a larger file is not ours
MAX_TEXT: Final = 1024  # characters of an identity key or a name

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """Of one node. ``slots``: identity key and name by input, from input 1 on, empty where nobody stands; ``input``:
    as apps chose it last; ``choice``: identity key or "auto"; ``heeded``: whose controls apps see, "" for nobody."""

    slots: tuple[tuple[str, str], ...] = ()
    input: int = 0
    choice: str = AUTO
    heeded: str = ""


class Legacy:
    """By node's name. Reading never fails: what cannot be understood was left by nobody. ``folder`` None: nothing is
    kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / FILE_NAME if folder is not None else None
        self._left = dict(self._read())

    def of(self, node: str) -> Left:
        """What the service before left for it."""
        return self._left.get(node, Left())

    def leave(self, node: str, left: Left) -> None:
        """Written at once, where it is new: the file lies in memory, and the next moment may be too late."""
        if left == self._left.get(node):
            return
        self._left[node] = left
        if self._path is None:
            return
        nodes = {name: asdict(kept) for name, kept in self._left.items()}
        beside = self._path.with_suffix(".new")
        try:
            beside.write_text(json.dumps({"version": VERSION, "nodes": nodes}), "utf-8")
            os.replace(beside, self._path)
        except OSError as error:
            log.warning("what people chose is not kept over a restart: %s", error)

    def _read(self) -> Mapping[str, Left]:
        if self._path is None:
            return {}
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise ValueError("the file is too large")
            return _parse(json.loads(self._path.read_text("utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            log.warning("%s is not understood and left aside: %s", self._path, error)
            return {}


def _parse(document: object) -> dict[str, Left]:
    """The file's contents; ``ValueError`` or ``TypeError`` when they are not as :meth:`Legacy.leave` writes them."""
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError("another version")
    parsed = {}
    for name, kept in document["nodes"].items():
        left = Left(**(kept | {"slots": tuple((key, name) for key, name in kept["slots"])}))
        texts = (*itertools.chain(*left.slots), left.choice, left.heeded)
        if not all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts) or len(left.slots) >= INPUTS:
            raise ValueError(f"node {name!r}: no identity keys, or too many")
        if not isinstance(left.input, int) or not 0 <= left.input < INPUTS:
            raise ValueError(f"node {name!r}: there is no such input")
        parsed[name] = left
    return parsed
