# SPDX-License-Identifier: GPL-2.0-or-later
"""Events: whatever came on the interrupt endpoint until now, and what a hand makes come."""

from __future__ import annotations

import itertools
import time
from typing import Final

from maglens_driver.automatics import SWITCHES
from maglens_driver.conform.check import Group, Skipped, expect
from maglens_driver.conform.in_hand import ends, in_hand, put_one, writable
from maglens_driver.conform.specimen import Specimen
from maglens_driver.control import Cid
from maglens_driver.link import limits, wire
from maglens_driver.link.pd import PdType
from maglens_driver.link.wire import CapabilityLevel, Event, EventKind

EVENTS: Final = Group("events")
_LISTEN_S: Final = 0.3
_HAND_S: Final = 30.0
_RINGS: Final = {"focus": Cid.FOCUS_ABSOLUTE, "iris": Cid.IRIS_ABSOLUTE, "zoom": Cid.ZOOM_ABSOLUTE}


def _all(s: Specimen) -> list[tuple[int, bytes]]:
    """All of this run; at least those that an agreement on power brings."""
    if not s.receiver.events:
        s.contract()
        s.receiver.wait_events(_LISTEN_S, enough=1)
    if not s.receiver.events:
        raise Skipped("none came, which is allowed")
    return s.receiver.events


def _opened(s: Specimen) -> list[tuple[int, Event]]:
    return [(at, Event.unpack(raw)) for at, raw in _all(s) if len(raw) >= Event.SIZE]


@EVENTS.check("ring", "a ring that is turned sends CONTROL with the value that the control then has")
def _ring(s: Specimen) -> None:
    rings = s.descriptor.lens.rings
    if not rings or s.hand is None:
        raise Skipped("the lens has no ring" if not rings else "nobody is asked to turn one (--replug does)")
    first = len(s.receiver.events)
    if not s.hand.turn(rings[0]):
        raise Skipped("nobody turned it")
    ring = _RINGS[rings[0]]
    heard = s.receiver.hear(lambda raw: _moved(raw, ring) is not None, first, _HAND_S)
    expect(heard, f"turning the {rings[0]} ring sent none")
    until = time.monotonic() + _HAND_S
    while time.monotonic() < until and s.receiver.wait_events(_LISTEN_S):  # it may be turned on
        pass
    value = [moved for _, raw in s.receiver.events[first:] if (moved := _moved(raw, ring)) is not None][-1]
    now = s.requests.controls().get(ring)
    expect(now == value, f"the event says {value}, the control is {now}")


def _moved(raw: bytes, control: int) -> int | None:
    """The value that an event says the control has; None for an event of something else."""
    if len(raw) < Event.SIZE:
        return None
    event = Event.unpack(raw)
    return event.value if (event.kind, event.id) == (EventKind.CONTROL, control) else None


@EVENTS.check("length", f"every event has {Event.SIZE} to {limits.MAX_EVENT_BYTES} bytes, in one packet")
def _length(s: Specimen) -> None:
    wrong = [len(raw) for _, raw in _all(s) if not Event.SIZE <= len(raw) <= limits.MAX_EVENT_BYTES]
    expect(not wrong, f"there are some of {wrong[:5]}")


@EVENTS.check("header", "every event begins with its magic and is of this protocol")
def _header(s: Specimen) -> None:
    for _, event in _opened(s):
        expect(event.magic == wire.EVENT_MAGIC, f"one begins with {event.magic:#06x}")
        expect(event.major == limits.VERSION_MAJOR, f"one is of protocol {event.major}")


@EVENTS.check("kinds", "every kind is one that the protocol knows", should=True)
def _kinds(s: Specimen) -> None:
    unknown = {e.kind for _, e in _opened(s)} - {int(k) for k in EventKind}
    expect(not unknown, f"these are not: {sorted(unknown)}")


@EVENTS.check("numbers_rise", "their numbers rise")
def _rise(s: Specimen) -> None:
    for a, b in itertools.pairwise(e.seq for _, e in _opened(s)):
        expect(0 < (b - a) & 0xFFFFFFFF < 1 << 31, f"{b} comes behind {a}")


@EVENTS.check("no_flood", f"it sends at most {limits.MAX_EVENTS_PER_S} in a second", should=True)
def _flood(s: Specimen) -> None:
    s.receiver.wait_events(_LISTEN_S)
    times, most = [e.time_ns for _, e in _opened(s)], limits.MAX_EVENTS_PER_S
    short = [b - a for a, b in zip(times, times[most:], strict=False) if b - a < 1_000_000_000]
    expect(not short, f"{most + 1} are of {min(short, default=0) / 1e6:.0f} ms")


@EVENTS.check("times", "their times are of the module's clock, and not in the future")
def _times(s: Specimen) -> None:
    times = [e.time_ns for _, e in _opened(s)]
    expect(bool(times), "none can be read")
    now = s.requests.clock_sample()[1]
    expect(times == sorted(times), "they go back")
    expect(times[-1] <= now, f"the last one is {times[-1] - now} ns in the future")


@EVENTS.check("able", "it does not say that it can do less than it should", should=True)
def _able(s: Specimen) -> None:
    s.receiver.wait_events(_LISTEN_S)
    less = [e for _, e in _opened(s) if e.kind == EventKind.CAPABILITY and e.value != CapabilityLevel.FULL]
    expect(not less, f"it did {len(less)} times")


@EVENTS.check("power_message", "where POWER events are sent, one says that a Request waits", should=True)
def _power(s: Specimen) -> None:
    if not any(e.kind == EventKind.POWER for _, e in _opened(s)):
        raise Skipped("it sends none")
    s.silence_power()
    first = len(s.receiver.events)
    s.say(PdType.SOURCE_CAPABILITIES, *(o.pack() for o in s.offers))
    heard = s.receiver.hear(lambda raw: raw[3:4] == bytes([EventKind.POWER]), first, limits.REPLY_S)
    s.await_message(PdType.REQUEST)
    s.grant()
    expect(heard, "none came for this one")


@EVENTS.check("set_is_silent", "a change made by SET_CONTROLS causes no event")
def _silent(s: Specimen) -> None:
    controls = [c for c in writable(s) if c.id not in SWITCHES]  # what one drives may tell of itself
    if not controls:
        raise Skipped("it has none but the switches of automatics")
    s.receiver.wait_events(_LISTEN_S)
    first = len(s.receiver.events)
    with in_hand(s, *controls):
        for c in controls:
            for value in ends(c):
                put_one(s, c.id, value)
        s.receiver.wait_events(_LISTEN_S)
    raws = [raw for _, raw in s.receiver.events[first:]]
    names = [c.name for c in controls if any(_moved(raw, c.id) in ends(c) for raw in raws)]
    expect(not names, f"setting {', '.join(names)} caused one")
