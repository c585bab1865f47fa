# SPDX-License-Identifier: MIT
"""Faults: what a virtual module can be told to do wrong, for the tests of the other side."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FOREVER: Final = -1


class Fault(enum.Enum):
    """One way to misbehave. ``value`` is seconds, bytes or steps, as said; 0 takes the default in parentheses."""

    # At attaching.
    BOUNCE = "bounce"  # the contact opens and closes so many times first; value: milliseconds closed (30)
    STRANGER = "stranger"  # our class triple without our interface string; set it while detached
    # Replies on endpoint 0.
    REPLY_LATE = "reply-late"  # value: milliseconds (800)
    REPLY_NEVER = "reply-never"  # nor is anything else for a while; value: milliseconds (1000)
    REPLY_SHORT = "reply-short"  # value: bytes left out (4)
    REPLY_LONG = "reply-long"  # value: bytes too many (16)
    REPLY_MAGIC = "reply-magic"
    REPLY_TAG = "reply-tag"
    HANG = "hang"  # no reply, no frame, no event, until cleared
    # Descriptor, until cleared; Info's length and CRC go with it.
    DESCRIPTOR_LONG = "descriptor-long"
    DESCRIPTOR_TRUNCATED = "descriptor-truncated"
    DESCRIPTOR_CRC = "descriptor-crc"
    DESCRIPTOR_ORDER = "descriptor-order"  # not deterministic: keys out of order
    DESCRIPTOR_DUPLICATE = "descriptor-duplicate"  # a key twice
    DESCRIPTOR_DEPTH = "descriptor-depth"
    DESCRIPTOR_COUNT = "descriptor-count"  # an array that says it has 2**32 - 1 entries
    DESCRIPTOR_ZERO = "descriptor-zero"  # a mode 0 pixels wide
    DESCRIPTOR_HUGE = "descriptor-huge"  # a mode 1,000,000 pixels wide
    DESCRIPTOR_VERSION = "descriptor-version"  # a major version of the future
    # Power and link.
    POWER_GREEDY = "power-greedy"  # asks for more than it has declared; value: mW more (1000); until cleared
    POWER_STUBBORN = "power-stubborn"  # takes GotoMin and draws on as before; until cleared
    POWER_LATE = "power-late"  # its power messages wait; value: milliseconds (800)
    POWER_SILENT = "power-silent"  # it never has an answer to power messages; until cleared
    BROWN_OUT = "brown-out"  # loses its power as its sensor starts; value: milliseconds without (50)
    HALF_SEATED = "half-seated"  # the fast pairs do not touch: it comes up at 480 Mbit/s; until cleared
    HEAT = "heat"  # says that it can do less for heat, then nothing; value: milliseconds to each step (1000)
    # Frames.
    STALL = "stall"  # frames stop coming, the rest answers, until cleared
    HALT = "halt"  # the bulk endpoint answers STALL until the host clears it
    LEADER_MAGIC = "leader-magic"
    LEADER_CRC = "leader-crc"
    LEADER_EPOCH = "leader-epoch"
    LEADER_GEOMETRY = "leader-geometry"
    LEADER_LENGTH = "leader-length"  # the leader lies about the payload's length; value: bytes more (4096)
    LEADER_SHORT = "leader-short"  # a leader of 12 bytes
    ID_BACK = "id-back"  # value: by how many (5)
    PAYLOAD_SHORT = "payload-short"  # value: bytes less (10000)
    PAYLOAD_LONG = "payload-long"  # value: bytes more (10000)
    PAYLOAD_CRC = "payload-crc"  # a byte is changed behind the CRC's back
    TRAILER_MISSING = "trailer-missing"
    TRAILER_CRC = "trailer-crc"
    TRAILER_INCOMPLETE = "trailer-incomplete"


DESCRIPTOR_FAULTS: Final = frozenset(f for f in Fault if f.value.startswith("descriptor-"))
ATTACH_FAULTS: Final = frozenset((Fault.BOUNCE, Fault.STRANGER))
REPLY_FAULTS: Final = frozenset(f for f in Fault if f.value.startswith("reply-"))
POWER_FAULTS: Final = frozenset((Fault.POWER_GREEDY, Fault.POWER_STUBBORN, Fault.POWER_LATE, Fault.POWER_SILENT))
LASTING_FAULTS: Final = DESCRIPTOR_FAULTS | {
    Fault.HANG,
    Fault.STALL,
    Fault.STRANGER,
    Fault.POWER_GREEDY,
    Fault.POWER_STUBBORN,
    Fault.POWER_SILENT,
    Fault.HALF_SEATED,
}
"""In force until cleared, however often they are met."""


@dataclass
class _Active:
    count: int
    value: int
    skip: int


class Faults:
    """The faults asked for and not yet committed. Any thread."""

    def __init__(self) -> None:
        self._active: dict[Fault, _Active] = {}
        self._changed = threading.Condition()
        self.committed: dict[str, int] = {}

    def ask(self, fault: Fault, count: int = 1, value: int = 0, skip: int = 0) -> None:
        """Misbehave ``count`` times (``FOREVER``: until cleared), after ``skip`` more good occasions."""
        with self._changed:
            self._active[fault] = _Active(FOREVER if fault in LASTING_FAULTS else count, value, skip)
            self._changed.notify_all()

    def clear(self, fault: Fault | None = None) -> None:
        """Behave again: one fault, or all."""
        with self._changed:
            if fault is None:
                self._active.clear()
            else:
                self._active.pop(fault, None)
            self._changed.notify_all()

    def active(self) -> dict[str, int]:
        """Faults still to come, and how many times."""
        with self._changed:
            return {fault.value: entry.count for fault, entry in self._active.items()}

    def has(self, fault: Fault) -> bool:
        """Whether a fault is asked for; takes nothing."""
        with self._changed:
            return fault in self._active

    def value(self, fault: Fault, default: int = 0) -> int | None:
        """A lasting fault's value (``default`` where it was 0), None where it is not asked for. Takes nothing."""
        with self._changed:
            entry = self._active.get(fault)
            return None if entry is None else entry.value or default

    def take(self, fault: Fault, default: int = 0) -> int | None:
        """Whether to misbehave now: the fault's value (``default`` where it was 0), or None. Uses it up by one."""
        with self._changed:
            entry = self._active.get(fault)
            if entry is None:
                return None
            if entry.skip > 0:
                entry.skip -= 1
                return None
            if entry.count != FOREVER:
                entry.count -= 1
                if entry.count == 0:
                    del self._active[fault]
            self.committed[fault.value] = self.committed.get(fault.value, 0) + 1
            return entry.value or default

    def wait_cleared(self, fault: Fault, give_up: Callable[[], bool]) -> bool:
        """Wait until ``fault`` is no longer asked for (True), or ``give_up()``, which :meth:`wake` looks at again."""
        with self._changed:
            self._changed.wait_for(lambda: fault not in self._active or give_up())
            return fault not in self._active

    def wake(self) -> None:
        """Let every :meth:`wait_cleared` look at its reason to give up."""
        with self._changed:
            self._changed.notify_all()
