# SPDX-License-Identifier: GPL-2.0-or-later
"""Interlock: the thread that waits for a port's inputs, and cuts power at a fault's edge by itself.

The event loop may be busy for tens of milliseconds (a card is drawn, a configuration read); a short must not wait for
that. Everything else it only passes on.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Mapping

from maglens_daemon.board.hardware import Pin, PinEvent
from maglens_daemon.board.inputs import Input, Output

log = logging.getLogger(__name__)


class Interlock:
    """``tell`` is called from the thread, with every edge and, once, with an ``OSError`` that ended it."""

    def __init__(
        self,
        name: str,
        inputs: Mapping[Input, Pin],
        switch: Output | None,
        tell: Callable[[PinEvent | OSError], None],
    ) -> None:
        self._inputs = {reading.fileno(): (reading, pin) for reading, pin in inputs.items()}
        self._levels = {reading: reading.level() for reading in inputs}
        self._switch = switch
        self._tell = tell
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"interlock-{name}", daemon=True)

    def start(self) -> None:
        """Listen from now on."""
        self._thread.start()

    def level(self, pin: Pin) -> bool:
        """Read now. A port is taken where all of its detect inputs say so; a fault is one where any does."""
        levels = [reading.level() for reading, kind in self._inputs.values() if kind is pin]
        return bool(levels) and (all(levels) if pin is Pin.DETECT else any(levels))

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for number, (reading, _) in self._inputs.items():
            poll.register(number, reading.poll_mask)
        try:
            while True:
                for number, mask in poll.poll():
                    if number == self._wake:
                        return
                    reading, pin = self._inputs[number]
                    edges = reading.read()
                    if not edges and mask & (select.POLLHUP | select.POLLNVAL):
                        raise OSError(f"{pin.value}: the device has gone")
                    for edge in edges:
                        self._levels[reading] = edge.active
                        self._on_edge(pin, edge.at_s)
        except OSError as error:
            self._tell(error)
        except Exception as error:
            # A defect of ours: a port without its interlock may not be powered either.
            log.exception("%s failed", self._thread.name)
            self._tell(OSError(f"its interlock has failed: {error}"))

    def _on_edge(self, pin: Pin, at_s: float) -> None:
        levels = [self._levels[reading] for reading, kind in self._inputs.values() if kind is pin]
        active = all(levels) if pin is Pin.DETECT else any(levels)
        if pin.cuts and active and self._switch is not None:
            self._switch.set(False)
        self._tell(PinEvent(pin, active, at_s))

    def close(self) -> None:
        """End the thread, then the inputs."""
        if self._thread.is_alive():
            os.write(self._woken, b"x")
            self._thread.join()
        for reading, _ in self._inputs.values():
            reading.close()
        os.close(self._wake)
        os.close(self._woken)
