# SPDX-License-Identifier: GPL-2.0-or-later
"""EventListener under a flood, with a pipe and a clock by hand."""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import cast

import pytest

from maglens_driver.link import limits, wire
from maglens_driver.link.wire import EventKind
from maglens_driver.usb.fake import DEVICE
from maglens_driver.usb.listener import EventListener
from maglens_driver.usb.transport import Done, Outcome, StreamPipe, Transfer

RATE = limits.MAX_EVENTS_PER_S


class HandTransfer:
    """Filled by the test."""

    def __init__(self, done: Done) -> None:
        self.done = done
        self.view: memoryview | None = None

    def submit(self, view: memoryview) -> None:
        self.view = view

    def cancel(self) -> None: ...

    def forget(self) -> None: ...

    def close(self) -> None: ...


class HandPipe:
    """Only the interrupt endpoint."""

    def __init__(self) -> None:
        self.transfers: list[HandTransfer] = []

    def interrupt_transfer(self, endpoint: int, done: Done) -> Transfer:
        self.transfers.append(HandTransfer(done))
        return self.transfers[-1]


class Flood:
    """A listener, and a module that sends it as much as it likes."""

    def __init__(self) -> None:
        self.now = 100.0
        self.counters: Counter[str] = Counter()
        self.seen: list[wire.Event] = []
        self.gone: list[Exception] = []
        self.listener = EventListener(
            DEVICE, self.counters, on_event=self.seen.append, on_gone=self.gone.append, clock=lambda: self.now
        )
        self.pipe = HandPipe()
        self.listener.listen(cast(StreamPipe, self.pipe))
        self.sent = 0

    def raw(self, raw: bytes) -> None:
        transfer = self.pipe.transfers[0]
        assert transfer.view is not None
        transfer.view[: len(raw)] = raw
        transfer.done(Outcome.COMPLETED, len(raw))
        self.listener.take()

    def send(self, kind: EventKind, number: int, value: int) -> None:
        self.raw(wire.Event(wire.EVENT_MAGIC, 1, kind, self.sent, number, value, 0).pack())
        self.sent += 1


def test_a_flood_is_thinned_and_the_last_value_of_each_control_comes() -> None:
    flood = Flood()
    for value in range(2000):
        for number in (7, 8):
            flood.send(EventKind.CONTROL, number, value)
    assert len(flood.seen) == RATE
    assert flood.counters["event_flood"] == 4000 - RATE - 2, "two wait"
    assert flood.counters["events_lost"] == 0
    assert flood.now < flood.listener.deadline <= flood.now + 1 / RATE
    flood.now = flood.listener.deadline + 1e-6
    flood.listener.take()
    flood.now += 1 / RATE
    flood.listener.take()
    assert [(e.id, e.value) for e in flood.seen[-2:]] == [(7, 1999), (8, 1999)]
    assert flood.listener.deadline == math.inf
    assert not flood.gone


def test_a_second_of_flood_is_a_second_of_events() -> None:
    flood = Flood()
    for value in range(8000):
        flood.now += 1 / 8000
        flood.send(EventKind.CONTROL, 7, value)
    assert RATE * 2 - 2 <= len(flood.seen) <= RATE * 2
    values = [event.value for event in flood.seen]
    assert values == sorted(values)


def test_what_waits_is_bounded() -> None:
    flood = Flood()
    for number in range(10_000):
        flood.send(EventKind.CONTROL, number, 1)
    flood.now += 100
    flood.listener.take()
    assert len(flood.seen) == RATE + limits.MAX_CONTROLS
    assert flood.counters["event_flood"] == 10_000 - len(flood.seen)


def test_as_fast_as_allowed_all_come_at_once() -> None:
    flood = Flood()
    for value in range(5 * RATE):
        flood.now += 1 / RATE
        flood.send(EventKind.BUTTON, 0, value % 2)
        assert len(flood.seen) == flood.sent
    assert flood.counters["event_flood"] == 0


def test_bad_events_are_counted_and_one_of_a_kind_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    flood = Flood()
    with caplog.at_level(logging.INFO):
        for _ in range(500):
            flood.raw(b"no event")
    assert flood.counters["event_length"] == 500
    assert len(caplog.records) == 1
