# SPDX-License-Identifier: GPL-2.0-or-later
"""Transport: the two ways to a module's endpoints, implemented by libusb (``libusb.py``) and a fake (``fake.py``)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

from maglens_driver.errors import MaglensError


class NoTransferMemory(MaglensError):
    """The kernel's limit on memory for USB transfers is used up."""


class ControlPipe(Protocol):
    """Vendor requests to one interface on endpoint 0. Blocking; one thread at a time.

    Both calls raise ``Gone``, ``Deadline``, ``Refused("ACCESS")``, or ``BadModule`` with ``control_stall`` (the
    module stalled the request) or ``control_io`` (the bus reported an error and the module is still there).
    """

    def read(self, request: int, value: int, timeout_s: float) -> bytes:
        """Fetch at most ``limits.MAX_CONTROL_BYTES``."""
        ...

    def write(self, request: int, value: int, data: bytes, timeout_s: float) -> None: ...

    def close(self) -> None: ...


class Outcome(enum.Enum):
    """How a transfer ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    GONE = "gone"
    HALTED = "halted"  # the module stalled the endpoint
    FAILED = "failed"  # an error on the bus; after an unplug too, before the kernel has noticed


Done = Callable[[Outcome, int], None]


class Transfer(Protocol):
    """One reusable transfer on one endpoint."""

    def submit(self, view: memoryview) -> None:
        """Queue it to fill ``view``; raises ``Gone`` or ``NoTransferMemory``."""
        ...

    def cancel(self) -> None:
        """Ask for it back; its callback still comes. No effect when it is not queued."""
        ...

    def forget(self) -> None:
        """Let go of the last buffer. Legal when not queued."""
        ...

    def close(self) -> None:
        """Free it. Legal when not queued."""
        ...


class StreamPipe(Protocol):
    """Asynchronous transfers of one module's interface, claimed while this is open.

    Everything but :meth:`wake` and :meth:`clear_halt` belongs to one thread, that which calls :meth:`run`; callbacks
    come from there.
    """

    def transfer(self, endpoint: int, done: Done) -> Transfer:
        """A new transfer; ``done(outcome, nbytes)`` is called for each submission."""
        ...

    def interrupt_transfer(self, endpoint: int, done: Done) -> Transfer: ...

    def run(self, timeout_s: float) -> None:
        """Call back what has completed; returns after something happened, a :meth:`wake`, or the timeout."""
        ...

    def wake(self) -> None:
        """Make :meth:`run` return, now or the next time. Any thread."""
        ...

    def clear_halt(self, endpoint: int) -> None:
        """Clear a stalled endpoint and its toggle; raises ``Gone``. Any thread; blocks for one control request."""
        ...

    def close(self) -> None:
        """Release the interface. No transfer may be queued."""
        ...


class Transport(Protocol):
    """Opens the pipes of one device. Both raise ``Gone`` or ``Refused`` (``ACCESS``, ``CLAIMED``); any thread."""

    def open_control(self) -> ControlPipe: ...

    def open_stream(self) -> StreamPipe: ...

    def transfer_memory(self) -> int | None:
        """Bytes that all USB transfers of the machine may take together; None: no limit."""
        ...
