# SPDX-License-Identifier: GPL-2.0-or-later
"""Restraint: what keeps a stay below what its link and contract would give, and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from maglens_daemon.effort import Effort
from maglens_daemon.mode_choice import Means
from maglens_daemon.port import HIGH_SPEED_MBIT_S, Port
from maglens_driver.link.wire import CapabilityLevel, CapabilityReason
from maglens_driver.mode import Mode
from maglens_v4l2.feed import STAGING_LEAST

FRAME_BYTES: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 // STAGING_LEAST
"""So large may a frame be that a quarter of the memory holds those on their way: a module that declares the largest
there are must not have a small board's kernel end the service."""

RESEAT = "lift it off, wipe the contacts, snap it on again"


@dataclass(slots=True)
class Restraint:
    """One stay's. ``mw``, ``mbit_s`` and ``effort`` are ceilings for its modes, None for none; the notes say why."""

    mw: int | None = None
    power_note: str = ""
    mbit_s: int | None = None
    link_note: str = ""
    effort: Effort | None = None
    pace_note: str = ""
    said: dict[CapabilityReason, CapabilityLevel] = field(default_factory=dict)  # by the module itself

    def hear(self, reason: CapabilityReason, level: CapabilityLevel) -> None:
        """The module can do less, or all again."""
        if level is CapabilityLevel.FULL:
            self.said.pop(reason, None)
        else:
            self.said[reason] = level

    def means(self, link_mbit_s: int | None, contract_mw: int | None, modes: Sequence[Mode]) -> Means:
        """What link and contract give, within the ceilings."""
        powers = [mw for mw in (contract_mw, self.mw) if mw is not None]
        if CapabilityLevel.DISABLED in self.said.values():
            powers.append(0)
        elif self.said:
            powers.append(min((mode.mw for mode in modes), default=0))
        rates = [rate for rate in (link_mbit_s, self.mbit_s) if rate is not None]
        return Means(min(rates, default=None), min(powers, default=None), self.effort, FRAME_BYTES)

    def module_note(self) -> str:
        """What the module says of itself."""
        words = {CapabilityLevel.REDUCED: "can do less", CapabilityLevel.DISABLED: "cannot work"}
        causes = {CapabilityReason.TEMPERATURE: "it is too hot", CapabilityReason.BATTERY: "its battery is low"}
        return "; ".join(f"the module says that it {words[level]}: {causes[why]}" for why, level in self.said.items())

    def notes(self, port: Port, modes: Sequence[Mode]) -> list[str]:
        """Everything that is to be told, for people."""
        notes = seat_note(port, modes), self.link_note, self.pace_note, self.power_note, self.module_note()
        return [note for note in notes if note]


def seat_note(port: Port, modes: Sequence[Mode]) -> str:
    """Whether the link came up slower than the module was made for: a contact that does not touch."""
    most = max((mode.mbit_s for mode in modes), default=0)
    if not 0 < port.speed_mbit_s <= HIGH_SPEED_MBIT_S or most <= port.usable_mbit_s:
        return ""
    return f"the link came up at {port.speed_mbit_s} Mbit/s only, the module can use {most}: {RESEAT}"
