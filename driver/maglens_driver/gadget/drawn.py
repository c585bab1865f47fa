# SPDX-License-Identifier: MIT
"""Drawn source: pictures made by a function of one's own. The shortest way to a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from maglens_driver.control import ControlInfo
from maglens_driver.errors import WrongState
from maglens_driver.frame import Meta
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import Mode
from maglens_driver.source import FrameSink, Identity
from maglens_driver.virtual.paced import PacedSource

Draw = Callable[[memoryview, int], None]


class DrawnSource(PacedSource):
    """``draw(view, number)`` fills the ``mode.nbytes`` of a picture; ``meta`` says how all of them are taken.

    For modes of fixed length, and no controls. ``draw`` is called from a thread, one call at a time.
    """

    def __init__(self, descriptor: Descriptor, draw: Draw, meta: Meta) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._draw = draw
        self._meta = meta

    @property
    def descriptor(self) -> Descriptor:
        return self._descriptor

    def select(self, mode: Mode) -> None:
        if not mode.stride:
            raise ValueError(f"{mode.describe()} has no fixed length")

    def compose(self, mode: Mode, view: memoryview, generation: int, seq: int) -> tuple[int, Meta]:
        self._draw(view[: mode.nbytes], seq)
        return mode.nbytes, self._meta


class NoPictures:
    """The source of a module that is optics only: it has no mode, so nothing can be started."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    @property
    def identity(self) -> Identity:
        return self._descriptor.identity

    @property
    def modes(self) -> Sequence[Mode]:
        return ()

    @property
    def controls(self) -> Sequence[ControlInfo]:
        return ()

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        raise WrongState(f"{self.identity} is optics only")

    async def start(self, sink: FrameSink, generation: int) -> None:
        raise WrongState(f"{self.identity} is optics only")

    async def stop(self) -> None:
        """Nothing runs."""

    async def get(self) -> Mapping[int, int]:
        return {}

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        return {}

    async def close(self) -> None:
        """Nothing is held."""
