# SPDX-License-Identifier: GPL-2.0-or-later
"""Wishes: what apps want of the present module's controls and nobody has written yet; of each control the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

AGAIN_S = 0.1  # until a module that had no time for a write is asked once more


class Wishes:
    """All calls in the event loop's thread. A wish that is tried again comes behind those that came meanwhile."""

    def __init__(self) -> None:
        self._asked: dict[int, int] = {}
        self._there = asyncio.Event()  # set while ``_asked`` has any
        self._writing: tuple[int, int] | None = None
        self._late: dict[int, tuple[int, asyncio.TimerHandle]] = {}
        self._second: set[int] = set()  # tried once already

    def __contains__(self, control: int) -> bool:
        """Whether a value is on its way to the module."""
        return control in self.values

    @property
    def values(self) -> Mapping[int, int]:
        """What is on its way, the newest of each control."""
        writing = dict([self._writing]) if self._writing is not None else {}
        return writing | {control: value for control, (value, _) in self._late.items()} | self._asked

    def ask(self, control: int, value: int) -> None:
        """An app wants this, and what was wanted before no more."""
        self.drop(control)
        self._second.discard(control)
        self._put(control, value)

    async def wait(self) -> None:
        """Until there is one to take."""
        await self._there.wait()

    def take(self) -> tuple[int, int] | None:
        """The next control and value: on its way until :meth:`done`. None where it was dropped meanwhile."""
        control = next(iter(self._asked), None)
        if control is None:
            return None
        self._writing = control, self._asked.pop(control)
        self._notice()
        return self._writing

    def done(self) -> None:
        """What was taken has been written, or has failed."""
        self._writing = None

    def again(self) -> bool:
        """The module had no time for what was taken: once more, later. False where it had none before; True also
        where the module has left, or another value is wanted."""
        if self._writing is None or self._writing[0] in self._asked:
            return True
        control, value = self._writing
        if control in self._second:
            self._second.discard(control)
            return False
        self._second.add(control)
        self._late[control] = value, asyncio.get_running_loop().call_later(AGAIN_S, self._return, control)
        return True

    def drop(self, control: int) -> None:
        """Nobody wants anything of this one any more; what is being written is not tried again."""
        self._asked.pop(control, None)
        if control in self._late:
            self._late.pop(control)[1].cancel()
        if self._writing is not None and self._writing[0] == control:
            self._second.add(control)
        else:
            self._second.discard(control)
        self._notice()

    def clear(self) -> None:
        """The module has left, or nobody works any more."""
        for control in [*self._asked, *self._late]:
            self.drop(control)
        self._writing = None
        self._second.clear()

    def _return(self, control: int) -> None:
        value, _ = self._late.pop(control)
        self._put(control, value)

    def _put(self, control: int, value: int) -> None:
        self._asked[control] = value
        self._notice()

    def _notice(self) -> None:
        if self._asked:
            self._there.set()
        else:
            self._there.clear()
