# SPDX-License-Identifier: GPL-2.0-or-later
"""Attach: how a port of a board lets a module in, and when it puts it out. A pure machine: time and levels are given,
what to do is returned.

::

    empty -> debounce -> short_test -> power_on -> enumerate -> present
    debounce -> power_on
    enumerate <- present
    debounce -> recover
    short_test -> recover
    power_on -> recover
    enumerate -> recover
    present -> recover
    recover -> debounce
    recover -> power_on
    empty -> recover
    empty -> present
    * -> quarantined
    * -> empty

``*`` is every other state. Debounce ends without a short test where the rail is on already (a service that was
started again) or the board has no switch. Without a detect line the rail is on while the port is empty, USB's connect
is the detect, and a failure goes back to ``power_on`` without debounce.

Each edge of the detect line restarts its timer; edges while the rail is in transition are not believed, the line is
read again when it is over. Removal has a debounce of its own, is legal in every state and forgets all failures. A USB
device that goes while the detect line stays is a module that has reset: a brown-out, not a removal.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from maglens_daemon.board.failures import Code, Rule, rules
from maglens_daemon.board.hardware import Fittings
from maglens_driver.errors import WrongState

REFUSED_S: Final = 300.0  # a port without a detect line gives a module that its session refused another chance then


class AttachState(enum.Enum):
    """How far the module on a port has come."""

    EMPTY = "empty"  # nothing is seated
    DEBOUNCE = "debounce"  # the detect line has moved; waiting until it rests
    SHORT_TEST = "short_test"  # power for a moment, watching the fault line
    POWER_ON = "power_on"  # the rail rises; the detect line is not believed
    ENUMERATE = "enumerate"  # waiting for USB
    PRESENT = "present"  # on USB: the session's turn
    RECOVER = "recover"  # off for a while after a failure, then again
    QUARANTINED = "quarantined"  # failed too often: off until it is lifted

    @property
    def is_transition(self) -> bool:
        """Whether the rail is changing, so that the detect line means nothing."""
        return self in (AttachState.SHORT_TEST, AttachState.POWER_ON)


_S = AttachState
_ALWAYS: Final = frozenset((_S.QUARANTINED, _S.EMPTY))
TRANSITIONS: Final[Mapping[AttachState, frozenset[AttachState]]] = {
    _S.EMPTY: frozenset((_S.DEBOUNCE, _S.PRESENT, _S.RECOVER, _S.QUARANTINED)),
    _S.DEBOUNCE: frozenset((_S.SHORT_TEST, _S.POWER_ON, _S.RECOVER)) | _ALWAYS,
    _S.SHORT_TEST: frozenset((_S.POWER_ON, _S.RECOVER)) | _ALWAYS,
    _S.POWER_ON: frozenset((_S.ENUMERATE, _S.RECOVER)) | _ALWAYS,
    _S.ENUMERATE: frozenset((_S.PRESENT, _S.RECOVER)) | _ALWAYS,
    _S.PRESENT: frozenset((_S.ENUMERATE, _S.RECOVER)) | _ALWAYS,
    _S.RECOVER: frozenset((_S.DEBOUNCE, _S.POWER_ON)) | _ALWAYS,
    _S.QUARANTINED: frozenset((_S.EMPTY,)),
}


class Do(enum.Enum):
    """What the machine wants done, at once and in order."""

    TEST_POWER = "test_power"  # switch on, for the short test
    POWER = "power"  # switch on at the limit before a contract
    OFF = "off"  # switch off
    BEGIN = "begin"  # a module is seated: its session begins
    SEATED = "seated"  # it is on USB: the session may open it
    LOST = "lost"  # what ran has ended, but the module is still seated
    REFUSE = "refuse"  # quarantined: the session ends with :attr:`Attach.code`
    END = "end"  # lifted off


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds."""

    attach_s: float = 0.1  # the detect line rests so long before a module counts as seated
    removal_s: float = 0.05  # ... before it counts as lifted off
    bounce_s: float = 5.0  # contacts that do not come to rest for so long are a failure
    short_test_s: float = 0.01  # the switch's own fault filter must fit into it; 0: no short test
    settle_s: float = 0.02  # from switching on until the detect line is believed again
    enumerate_s: float = 5.0  # from power to USB: the module's start-up and the kernel's enumeration


class Attach:
    """One port. Every call takes the time in seconds of one clock and returns what to do."""

    def __init__(self, fittings: Fittings, times: Times, table: Mapping[Code, Rule] | None = None) -> None:
        self.state = AttachState.EMPTY
        self.code: Code | None = None  # the last failure since the module was seated
        self.counters: Counter[str] = Counter()  # since the port was opened; failures by cause word
        self.begun = False  # there is a session
        self._fittings = fittings
        self._times = times
        self._rules = table if table is not None else rules()
        self._failures: dict[Code, deque[float]] = {code: deque() for code in Code}
        self._seated = False  # the detect line's last believed level
        self._edge_s = 0.0
        self._bounce_until_s = 0.0
        self._until_s: float | None = None  # of the present state
        self._removal_s: float | None = None
        self._look_s: float | None = None  # the detect line has to be read again: its edges were not believed
        self._on_usb = False
        self._was_present = False  # since power came on; a device that comes then has reset
        self._powered = not fittings.switch

    @property
    def deadline_s(self) -> float | None:
        """When :meth:`timer` has to be called; None: not before something happens."""
        return min((at for at in (self._until_s, self._removal_s, self._look_s) if at is not None), default=None)

    @property
    def is_supplied(self) -> bool:
        """Whether a module is seated and has power, so that there is something to meter."""
        return self.begun and self._powered and self.state is not AttachState.QUARANTINED

    @property
    def failures(self) -> int:
        """Failures that count against the last code's rule."""
        return len(self._failures[self.code]) if self.code is not None else 0

    # What happens.

    def start(self, now: float, *, seated: bool, powered: bool) -> list[Do]:
        """The port is opened: the levels as they are, and whether a service before this one left power on."""
        if self._fittings.switch:
            self._powered = powered
        if self._fittings.detect:
            off = [] if seated else self._off()
            return off + (self.detect(seated, now) if seated else [])
        return self._power_up()

    def detect(self, seated: bool, now: float) -> list[Do]:
        """An edge of the detect line."""
        self.counters["edges"] += 1
        if self.state.is_transition:
            self.counters["edges_ignored"] += 1
            return []
        self._seated, self._edge_s = seated, now
        if self.state is AttachState.EMPTY:
            if seated:
                self._bounce_until_s = now + self._times.bounce_s
                self._enter(AttachState.DEBOUNCE, now + self._times.attach_s)
        elif self.state is AttachState.DEBOUNCE:
            if now >= self._bounce_until_s:
                return [*self._begin(), *self.fail(Code.BOUNCE, now)]
            self._until_s = now + (self._times.attach_s if seated else self._times.removal_s)
        else:
            self._removal_s = None if seated else now + self._times.removal_s
        return []

    def timer(self, now: float, *, seated: bool, fault: bool) -> list[Do]:
        """:attr:`deadline_s` is over. ``seated`` and ``fault`` are the levels now; where there is no such line they
        do not matter."""
        if self._look_s is not None and now >= self._look_s:
            self._look_s = None
            self._see(seated, now)
        if self._removal_s is not None and now >= self._removal_s:
            if not seated:
                return self._removed()
            self._removal_s = None  # it is back, and the edge that says so is on its way
        if self._until_s is None or now < self._until_s:
            return []
        match self.state:
            case AttachState.DEBOUNCE:
                return self._debounced(now, seated, fault)
            case AttachState.SHORT_TEST:
                return self.fail(Code.SHORT, now) if fault else self._power_on(now)
            case AttachState.POWER_ON:
                return self.fail(Code.POWER_FAULT, now) if fault else self._settled(now, seated)
            case AttachState.ENUMERATE:
                return self._not_enumerated(now)
            case AttachState.RECOVER:
                self._see(seated, now)
                return self._recovered(now)
            case _:  # quarantine of a port that cannot see a module being lifted off
                return [*self._removed(), *self._power_up()]

    def usb(self, present: bool, now: float) -> list[Do]:
        """A module has come on USB, or has gone from it."""
        if present == self._on_usb:
            return []
        self._on_usb = present
        if present:
            if self.state is AttachState.ENUMERATE:
                return self._enumerated(now)
            if self.state is AttachState.EMPTY and not self._fittings.detect:
                return [*self._begin(), *self._enumerated(now)]
            return []
        if not self._fittings.detect:
            return self._removed() if self._powered else []  # without power it goes, and is still seated
        if self.state is not AttachState.PRESENT:
            return []
        self._enter(AttachState.ENUMERATE, now + self._times.enumerate_s)
        return [Do.LOST]

    def cut(self, now: float, code: Code) -> list[Do]:
        """The board has taken the power away: a fault, or the meter's alarm."""
        if self.state is AttachState.SHORT_TEST:
            code = Code.SHORT
        elif self.state is AttachState.POWER_ON and code is Code.OVER_CURRENT:
            code = Code.POWER_FAULT
        elif not self._powered or self.state is AttachState.QUARANTINED:
            return []  # the echo of a cut that was made already
        return self.fail(code, now)

    def fail(self, code: Code, now: float) -> list[Do]:
        """A step has failed: off, and again after a while, or not any more."""
        if self.state in (AttachState.RECOVER, AttachState.QUARANTINED):
            return []  # the first cause stays
        self.code = code
        self.counters[code.value] += 1
        self._look_s = now + self._times.settle_s
        lost = [Do.LOST] if self.state is AttachState.PRESENT else []
        rule, failures = self._rules[code], self._failures[code]
        failures.append(now)
        while failures[0] <= now - rule.window_s:
            failures.popleft()
        done = [*lost, *self._off()]
        if len(failures) < rule.tries:
            self._enter(AttachState.RECOVER, now + rule.pause_s)
            return done
        self._quarantine(now + rule.window_s)
        return [*done, *self._begin(), Do.REFUSE]  # a rail that fails with nothing on it is told as well

    def refuse(self, now: float) -> list[Do]:
        """The session refuses the module for a reason of its own: off until it is lifted."""
        if self.state in (AttachState.EMPTY, AttachState.QUARANTINED):
            return []
        self._look_s = now + self._times.settle_s
        self._quarantine(now + REFUSED_S)
        return self._off()

    # The steps.

    def _begin(self) -> list[Do]:
        begin = [] if self.begun else [Do.BEGIN]
        self.begun = True
        return begin

    def _see(self, seated: bool, now: float) -> None:
        """The detect line was read, not told by an edge."""
        if not self._fittings.detect:
            return
        if seated != self._seated:
            self._seated, self._edge_s = seated, now
        if seated:
            self._removal_s = None
        elif self._removal_s is None:
            self._removal_s = now + self._times.removal_s

    def _debounced(self, now: float, seated: bool, fault: bool) -> list[Do]:
        if self._fittings.detect and seated != self._seated:
            return self.detect(seated, now)  # the edge that says so is on its way
        if not seated:
            return self._removed()
        begin = self._begin()
        if fault:
            return begin + self.fail(Code.SHORT, now)
        if self._powered or self._times.short_test_s == 0:
            return begin + self._power_on(now)
        self._enter(AttachState.SHORT_TEST, now + self._times.short_test_s)
        self._powered = True
        return [*begin, Do.TEST_POWER]

    def _power_on(self, now: float) -> list[Do]:
        self._enter(AttachState.POWER_ON, now + self._times.settle_s)
        self._was_present = False
        return self._power_up()

    def _settled(self, now: float, seated: bool) -> list[Do]:
        if self._fittings.detect and not seated:
            # Loose, or lifted off just now: which of the two, the removal debounce tells.
            done = self.fail(Code.DETECT_LOST, now)
            self._see(seated, now)
            return done
        self._enter(AttachState.ENUMERATE, now + self._times.enumerate_s)
        return self._enumerated(now) if self._on_usb else []

    def _enumerated(self, now: float) -> list[Do]:
        if self._was_present:
            rule, failures = self._rules[Code.BROWN_OUT], self._failures[Code.BROWN_OUT]
            if sum(at > now - rule.window_s for at in failures) + 1 >= rule.tries:
                return self.fail(Code.BROWN_OUT, now)
            failures.append(now)
            self.code = Code.BROWN_OUT
            self.counters[Code.BROWN_OUT.value] += 1
        self._was_present = True
        self._enter(AttachState.PRESENT, None)
        return [Do.SEATED]

    def _not_enumerated(self, now: float) -> list[Do]:
        if not self._fittings.detect:
            return self._removed()
        return self.fail(Code.BROWN_OUT if self._was_present else Code.NO_USB, now)

    def _recovered(self, now: float) -> list[Do]:
        if not self._fittings.detect:
            if self.begun:
                return self._power_on(now)
            self._enter(AttachState.EMPTY, None)
            return self._power_up()
        if self._removal_s is not None:
            self._until_s = self._removal_s  # first see whether it is still there
            return []
        self._bounce_until_s = now + self._times.bounce_s
        self._enter(AttachState.DEBOUNCE, max(now, self._edge_s + self._times.attach_s))
        return []

    def _quarantine(self, until_s: float) -> None:
        # Without a detect line nobody sees the module being lifted off: then the window has to do.
        self._enter(AttachState.QUARANTINED, None if self._fittings.detect else until_s)

    def _removed(self) -> list[Do]:
        """Lifted off: all is forgotten but the counters."""
        end = [Do.END] if self.begun else []
        self.begun, self.code, self._was_present, self._seated = False, None, False, False
        for failures in self._failures.values():
            failures.clear()
        if self.state is not AttachState.EMPTY:
            self._enter(AttachState.EMPTY, None)
        return [*(self._off() if self._fittings.detect else []), *end]

    # The rail.

    def _power_up(self) -> list[Do]:
        self._powered = True
        return [Do.POWER]

    def _off(self) -> list[Do]:
        if not self._fittings.switch:
            return []
        self._powered = False
        return [Do.OFF]

    def _enter(self, state: AttachState, until_s: float | None) -> None:
        if state not in TRANSITIONS[self.state]:
            raise WrongState(f"no way from {self.state.value} to {state.value}")
        self.state, self._until_s = state, until_s
        if state in (AttachState.DEBOUNCE, AttachState.EMPTY) or state.is_transition:
            self._removal_s = self._look_s = None
