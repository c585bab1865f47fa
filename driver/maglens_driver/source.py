# SPDX-License-Identifier: MIT
"""Source: anything that yields frames; and the sink it delivers them to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from maglens_driver.control import ControlInfo
from maglens_driver.frame import Frame, Lease
from maglens_driver.mode import Mode


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a source is, whatever port or address it sits at."""

    maker: str
    model: str
    serial: str

    @property
    def key(self) -> str:
        """Stable text for files and look-ups: ``maker/model/serial``."""
        return f"{self.maker}/{self.model}/{self.serial}"

    def __str__(self) -> str:
        return f"{self.maker} {self.model} ({self.serial})"


class FrameSink(Protocol):
    """Where a source delivers. Implemented by the pipeline; no call ever blocks; any thread."""

    def lease(self, nbytes: int) -> Lease | None:
        """A buffer of at least ``nbytes``, or None: read into scratch and count a drop."""
        ...

    def deliver(self, frame: Frame) -> None:
        """Hand over a frame and its lease (which may be the source's own)."""
        ...

    def control(self, generation: int, control: int, value: int) -> None:
        """A control changed by itself (a hand on the ring, the module's own automatics)."""
        ...

    def active(self, generation: int, control: int, active: bool) -> None:
        """A control's flag INACTIVE has changed; :attr:`Source.controls` says so already."""
        ...

    def dropped(self, generation: int, cause: str) -> None:
        """A frame was lost for ``cause``: a stable short word under which it is counted."""
        ...

    def lost(self, generation: int, why: Exception) -> None:
        """The source has ended by itself. Once, and the last call of this generation."""
        ...


class Source(Protocol):
    """Anything that yields frames. Every coroutine has a deadline and raises

    :class:`maglens_driver.errors.Gone` when unplugged, ``WrongState`` when the call is not legal now,
    ``Deadline`` when the device did not answer.

    States: idle -> configured -> streaming -> configured; ``close`` from any of them.
    """

    @property
    def identity(self) -> Identity: ...

    @property
    def modes(self) -> Sequence[Mode]:
        """What it offers, its maker's preference first. Never empty."""
        ...

    @property
    def controls(self) -> Sequence[ControlInfo]:
        """What can be set. Always the same ones; a driver's flag INACTIVE as it is now."""
        ...

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        """Choose a mode; the answer is what will really be sent. Legal when not streaming."""
        ...

    async def start(self, sink: FrameSink, generation: int) -> None:
        """Begin to deliver to ``sink`` under ``generation``. Legal when configured."""
        ...

    async def stop(self) -> None:
        """End delivery; returns when no lease of the sink is referenced. Legal always, after ``Gone`` too."""
        ...

    async def get(self) -> Mapping[int, int]:
        """Present value of every control."""
        ...

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """Write controls; the answer holds the values as clamped. Unknown ids are refused with ``Refused``."""
        ...

    async def close(self) -> None:
        """Give the device back. Idempotent; legal after ``Gone``."""
        ...
