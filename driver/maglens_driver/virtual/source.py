# SPDX-License-Identifier: MIT
"""Virtual source: a virtual camera as a Source in this process, paced by the clock. No USB, no kernel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from maglens_driver.frame import Meta
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import Mode
from maglens_driver.virtual.camera import VirtualCamera
from maglens_driver.virtual.canvas import Abandoned
from maglens_driver.virtual.lens import LensData, load_lens
from maglens_driver.virtual.mark import Mark
from maglens_driver.virtual.paced import PacedSource


class VirtualSource(PacedSource):
    """A virtual module. ``seq`` of its frames is the number in their mark, and rises over stop and start.

    ``stack``: a directory for light once drawn, for raw modes.
    """

    def __init__(self, lens: str | LensData, serial: str = "virtual", stack: Path | None = None) -> None:
        super().__init__()
        data = load_lens(lens) if isinstance(lens, str) else lens
        self.camera = VirtualCamera(data.with_serial(serial), stack)

    @property
    def descriptor(self) -> Descriptor:
        return self.camera.descriptor

    async def prepare(self) -> None:
        """Render pictures beforehand, so that the first frame takes no time."""
        await asyncio.to_thread(self.camera.prepare)

    def select(self, mode: Mode) -> None:
        self.camera.select(mode)

    def begin(self, halted: Callable[[], bool]) -> None:
        with contextlib.suppress(Abandoned):
            self.camera.begin(halted)

    def compose(self, mode: Mode, view: memoryview, generation: int, seq: int) -> tuple[int, Meta]:
        return self.camera.compose(view, Mark.wrapped(self.camera.lens.mark, generation, seq))

    async def get(self) -> Mapping[int, int]:
        self._check()
        return self.camera.values()

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        self._check()
        return self.camera.set(values)

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self.camera.close)

    def turn(self, control: int, value: int) -> int:
        """A hand on the ring: move a control from the module's side and tell the sink. The value as clamped."""
        clamped = self.camera.set({control: value})[control]
        self.tell(control, clamped)
        return clamped
