# SPDX-License-Identifier: GPL-2.0-or-later
"""Store: the values that people chose, by module identity, kept over restarts in one small JSON file."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

FILE_NAME = "controls.json"
VERSION = 1
MAX_IDENTITIES = 256  # those used longest ago are forgotten beyond this
MAX_BYTES = 1 << 20  # a larger file is not ours

log = logging.getLogger(__name__)


class Store:
    """Control values by identity key. Reading never fails: a file that cannot be understood is put aside."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._values: dict[str, dict[int, int]] = self._read()
        self._saving = threading.Lock()

    def get(self, identity: str) -> Mapping[int, int]:
        """What is stored for a module, in the order in which it was chosen: two controls may move one motor, and then
        the later counts. Empty when it is new."""
        return dict(self._values.get(identity, {}))

    def put(self, identity: str, control: int, value: int) -> None:
        """Remember one value as the last; the module counts as the one used last."""
        others = {known: old for known, old in self._values.pop(identity, {}).items() if known != control}
        self._values[identity] = others | {control: value}  # never changed in place: save() may be reading it
        while len(self._values) > MAX_IDENTITIES:
            del self._values[next(iter(self._values))]

    def forget(self, identity: str, only: Collection[int] = ()) -> None:
        """Back to factory values: of these controls, or all."""
        values = self._values.pop(identity, {})
        if kept := {control: value for control, value in values.items() if only and control not in only}:
            self._values[identity] = kept

    def save(self) -> None:
        """Write the file whole or not at all, one after the other. Raises ``OSError``. May block: not for the event
        loop's thread."""
        with self._saving:
            listed = {
                identity: {f"0x{control:08x}": value for control, value in values.items()}
                for identity, values in self._values.copy().items()
            }
            text = json.dumps({"version": VERSION, "modules": listed}, indent=1)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._path.with_suffix(".new")
            with open(beside, "w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            os.replace(beside, self._path)

    async def keep(self) -> None:
        """Save without blocking the event loop. Where that fails, nobody but the log hears of it."""
        try:
            await asyncio.to_thread(self.save)
        except OSError as error:
            log.warning("control values are not kept over a restart: %s", error)

    def _read(self) -> dict[str, dict[int, int]]:
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise ValueError("the file is too large")
            return _parse(json.loads(self._path.read_text("utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, RecursionError) as error:
            aside = self._path.with_suffix(".broken")
            log.warning("%s is not understood and put aside as %s: %s", self._path, aside.name, error)
            try:
                os.replace(self._path, aside)
            except OSError as why:
                log.warning("%s cannot be put aside: %s", self._path, why)
            return {}


def _parse(document: object) -> dict[str, dict[int, int]]:
    """The file's contents; ``ValueError`` or ``TypeError`` when they are not as :meth:`Store.save` writes them."""
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError("another version")
    modules = document.get("modules", {})
    if not isinstance(modules, dict):
        raise TypeError("modules are no table")
    parsed: dict[str, dict[int, int]] = {}
    for identity, values in modules.items():
        if not isinstance(values, dict) or not all(isinstance(value, int) for value in values.values()):
            raise TypeError(f"values of {identity} are no numbers")
        parsed[identity] = {int(control, 16): value for control, value in values.items()}
    return parsed
