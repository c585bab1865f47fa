# SPDX-License-Identifier: GPL-2.0-or-later
"""EventListener: a module's interrupt endpoint. Lives in the stream engine's thread.

A module can send 8000 events a second, and each costs the event loop some work: :data:`limits.MAX_EVENTS_PER_S` are
handed on, as many at once after a quiet second. Those that have to wait wait by kind and id, the last value of each.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from maglens_driver.errors import BadModule, Gone, MaglensError
from maglens_driver.link import limits, wire
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.transport import Done, Outcome, StreamPipe, Transfer

log = logging.getLogger(__name__)

_TRANSFERS: Final = 2
_FAILURES: Final = 8  # in a row, without one event: nothing more is expected of the endpoint


class EventListener:
    """Transfers that are queued from :meth:`listen` to :meth:`cancel`."""

    def __init__(
        self,
        device: UsbDevice,
        counters: Counter[str],
        *,
        on_event: Callable[[wire.Event], None],
        on_gone: Callable[[Exception], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queued = 0
        self._device = device
        self._counters = counters
        self._on_event = on_event
        self._on_gone = on_gone
        self._clock = clock
        self._waiting: dict[tuple[int, int], wire.Event] = {}  # by kind and id, in the order they are handed on
        self._tokens = float(limits.MAX_EVENTS_PER_S)
        self._counted_at = clock()
        self._transfers: list[tuple[Transfer, memoryview]] = []
        self._done: deque[tuple[int, Outcome, int]] = deque()
        self._ending = False
        self._failures = 0
        self._seq = -1

    def listen(self, pipe: StreamPipe) -> None:
        """Queue the transfers. Raises ``Gone``."""
        for index in range(_TRANSFERS):
            transfer = pipe.interrupt_transfer(self._device.interrupt.address, self._note(index))
            view = memoryview(bytearray(self._device.interrupt.max_packet))
            self._transfers.append((transfer, view))
            transfer.submit(view)
            self.queued += 1

    def _note(self, index: int) -> Done:
        """Only notes what happened: an exception in a callback from C would be lost."""
        return lambda outcome, nbytes: self._done.append((index, outcome, nbytes))

    def cancel(self) -> None:
        """Ask for the transfers back; they are not queued again."""
        self._ending = True
        for transfer, _ in self._transfers:
            transfer.cancel()

    def close(self) -> None:
        """Free the transfers. Only with nothing queued."""
        for transfer, _ in self._transfers:
            transfer.close()

    def take(self) -> None:
        """Hand on what has come, and queue its transfer again."""
        while self._done:
            index, outcome, nbytes = self._done.popleft()
            self.queued -= 1
            transfer, view = self._transfers[index]
            if outcome is Outcome.COMPLETED:
                self._failures = 0
                self._take(bytes(view[:nbytes]))
            elif outcome is Outcome.GONE:
                self._on_gone(Gone(f"the module at port {self._device.port} was unplugged"))
                continue
            elif not self._ending:
                self._failures += 1
                self._counters["event_bus"] += 1
            if self._ending or self._failures >= _FAILURES:
                continue
            try:
                transfer.submit(view)
                self.queued += 1
            except MaglensError as why:
                self._on_gone(why)
        self._hand_on()

    @property
    def deadline(self) -> float:
        """When an event that waits may be handed on, by :meth:`take`; by the clock."""
        if not self._waiting:
            return math.inf
        return self._counted_at + max(0.0, 1 - self._tokens) / limits.MAX_EVENTS_PER_S

    def _hand_on(self) -> None:
        if not self._waiting:
            return
        now = self._clock()
        more = (now - self._counted_at) * limits.MAX_EVENTS_PER_S
        self._tokens, self._counted_at = min(self._tokens + more, limits.MAX_EVENTS_PER_S), now
        while self._waiting and self._tokens >= 1:
            self._tokens -= 1
            self._on_event(self._waiting.pop(next(iter(self._waiting))))

    def _take(self, raw: bytes) -> None:
        try:
            event = wire.open_event(raw)
        except BadModule as error:
            self._counters[error.cause] += 1
            if self._counters[error.cause] == 1:  # the rest is in the counters
                log.info("port %s: %s", self._device.port, error)
            return
        if self._seq >= 0:
            self._counters["events_lost"] += (event.seq - self._seq - 1) & 0xFFFFFFFF
        self._seq = event.seq
        key = event.kind, event.id
        if self._waiting.pop(key, None) is not None:
            self._counters["event_flood"] += 1
        if len(self._waiting) >= limits.MAX_CONTROLS:
            self._counters["event_flood"] += 1
            return
        self._waiting[key] = event
        self._hand_on()
