# SPDX-License-Identifier: MIT
"""Events: what happens at the module by itself, queued for the interrupt endpoint, one packet each."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Final

from maglens_driver.gadget.clock import ModuleClock
from maglens_driver.gadget.faults import Fault, Faults
from maglens_driver.gadget.writer import Interrupted, Writer
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import Event, EventKind

log = logging.getLogger(__name__)

MAX_WAITING: Final = 64  # while the host does not listen; the oldest goes, and the gap in ``seq`` tells of it
_I32 = 0x7FFFFFFF


class Events:
    """:meth:`run` is the body of the thread that writes; the other calls come from any thread."""

    def __init__(self, writer: Writer, clock: ModuleClock, faults: Faults) -> None:
        self._writer = writer
        self._clock = clock
        self._faults = faults
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._seq = 0
        self._on = False
        self._ended = False

    def push(self, kind: EventKind, number: int, value: int) -> None:
        """Tell the host, when it listens. ``number`` and ``value`` as the kind says."""
        with self._changed:
            self._seq += 1
            value = min(max(value, -_I32 - 1), _I32)
            event = Event(
                wire.EVENT_MAGIC, limits.VERSION_MAJOR, kind, self._seq & 0xFFFFFFFF, number, value, self._clock.now()
            )
            self._waiting.append(event.pack())
            self._changed.notify_all()

    def enable(self) -> None:
        """The host has configured the device."""
        with self._changed:
            self._on = True
            self._writer.resume()
            self._changed.notify_all()

    def disable(self) -> None:
        """It is no longer there, or has reset us. What waits is for nobody."""
        with self._changed:
            self._on = False
            self._waiting.clear()
        self._faults.wake()
        self._writer.interrupt()

    def end(self) -> None:
        """Let :meth:`run` return."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self.disable()

    def run(self) -> None:
        """Write events until :meth:`end`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or (self._on and bool(self._waiting)))
                if self._ended:
                    return
                packet = bytearray(self._waiting.popleft())
            try:
                if self._faults.wait_cleared(Fault.HANG, lambda: not self._on):
                    self._writer.write(memoryview(packet))
            except Interrupted:
                log.debug("an event was cut off by a reset")
            except OSError as error:
                log.debug("an event was not taken: %s", error)
                with self._changed:
                    self._on = False
