# SPDX-License-Identifier: MIT
"""Adapted source: a camera that knows nothing of modules, as a module's protocol wants it.

Frames keep the camera's own buffers: the streamer hands those to the kernel as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Final

from maglens_driver.control import ControlFlag
from maglens_driver.described import Described
from maglens_driver.errors import Deadline, Refused, WrongState
from maglens_driver.frame import Frame, Lease, Meta
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import Mode, nearest_mode
from maglens_driver.source import FrameSink, Source

log = logging.getLogger(__name__)

RATE_TOLERANCE: Final = Fraction(1, 100)  # of what a host is told


class AdaptedSource(Described):
    """``inner`` behind ``descriptor``, which :func:`maglens_driver.gadget.describe.describe` made for it.

    A control that the camera refuses to set keeps its value, since the protocol clamps and never refuses. Focal
    length and f-number of a lens that cannot change them are added to each frame that does not tell.
    """

    def __init__(self, inner: Source, descriptor: Descriptor) -> None:
        self._inner = inner
        self._descriptor = descriptor
        self._controls = {c.id: c for c in descriptor.controls}
        self._present: dict[int, int] = {}
        lens = descriptor.lens
        self._fixed = Meta(
            focal_um=lens.focal_um[0] if lens.focal_um[0] == lens.focal_um[1] else 0,
            fnumber_milli=lens.fnumber_milli[0] if lens.fnumber_milli[0] == lens.fnumber_milli[1] else 0,
        )

    @property
    def descriptor(self) -> Descriptor:
        return self._descriptor

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        """``WrongState`` when the camera makes another picture of it than it said when it was described."""
        mode = nearest_mode(self.modes, want)
        got = await self._inner.configure(mode, test_only)
        if not same_picture(got, mode):
            raise WrongState(f"{self._inner.identity} was asked for {mode.describe()} and sends {got.describe()}")
        if not test_only and abs(got.interval / mode.interval - 1) > RATE_TOLERANCE:
            log.warning("%s was asked for %s and sends %s", self._inner.identity, mode.describe(), got.describe())
        return mode

    async def start(self, sink: FrameSink, generation: int) -> None:
        await self._inner.start(_Completing(sink, self._fixed), generation)

    async def stop(self) -> None:
        await self._inner.stop()

    async def get(self) -> Mapping[int, int]:
        """Every control of the descriptor: one that cannot be read just now is what it was last, or its default."""
        try:
            self._present |= await self._inner.get()
        except Deadline as error:
            log.info("%s", error)
        return {c.id: c.clamp(self._present.get(c.id, c.default)) for c in self.descriptor.controls}

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """One by one, so that one refusal stops no other."""
        for control in values:
            if control not in self._controls:
                raise Refused("INVALID", f"{self.identity} has no control {control:#010x}")
        answer: dict[int, int] = {}
        for control, value in values.items():
            info = self._controls[control]
            if info.flags & ControlFlag.READ_ONLY:
                continue
            try:
                answer.update(await self._inner.set({control: info.clamp(value)}))
            except (Refused, Deadline) as error:
                log.info("%s: %s", info.name, error)
        self._present |= answer
        missing = [control for control in values if control not in answer]
        present = await self.get() if missing else {}
        return {control: answer.get(control, present.get(control, 0)) for control in values}

    async def close(self) -> None:
        await self._inner.close()


def same_picture(one: Mode, other: Mode) -> bool:
    """Whether frames of both are laid out alike."""
    return (one.fourcc, one.width, one.height, one.stride, one.nbytes) == (
        other.fourcc,
        other.width,
        other.height,
        other.stride,
        other.nbytes,
    )


class _Completing:
    """The streamer's sink, with what the camera does not tell added to its frames."""

    def __init__(self, sink: FrameSink, fixed: Meta) -> None:
        self._sink = sink
        self._fixed = fixed

    def lease(self, nbytes: int) -> Lease | None:
        return self._sink.lease(nbytes)

    def deliver(self, frame: Frame) -> None:
        meta = replace(
            frame.meta,
            focal_um=frame.meta.focal_um or self._fixed.focal_um,
            fnumber_milli=frame.meta.fnumber_milli or self._fixed.fnumber_milli,
        )
        self._sink.deliver(replace(frame, meta=meta))

    def control(self, generation: int, control: int, value: int) -> None:
        self._sink.control(generation, control, value)

    def active(self, generation: int, control: int, active: bool) -> None:
        self._sink.active(generation, control, active)

    def dropped(self, generation: int, cause: str) -> None:
        self._sink.dropped(generation, cause)

    def lost(self, generation: int, why: Exception) -> None:
        self._sink.lost(generation, why)
