# SPDX-License-Identifier: GPL-2.0-or-later
"""Fake: a visitor and its source whose every step a test holds up, lets fail or lets pass."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

from maglens_daemon.contract import Contract
from maglens_daemon.conversation import pausing
from maglens_daemon.in_process import SinkLink
from maglens_daemon.power_feed import Begin
from maglens_daemon.seat import Seat
from maglens_daemon.session import Session
from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.errors import Gone, MaglensError, Refused
from maglens_driver.frame import Frame
from maglens_driver.gadget.power import Sink
from maglens_driver.mode import NV12, Mode, make_mode
from maglens_driver.source import FrameSink, Identity, Source

MODE: Final = make_mode(NV12, 64, 48, Fraction(1, 30), mbit_s=2, mw=500)
FOCUS: Final = ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus", ControlType.INTEGER, 0, 400, 10, 50, ControlFlag.RING)


EVERYTHING_MW: Final = 4500  # a module that takes all that a USB 3 port offers


class Steps:
    """What happens at each named step: an exception is raised, a hold lasts until :meth:`free`, else it passes."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()
        self._errors: dict[str, list[Exception]] = {}
        self._holds: dict[str, asyncio.Event] = {}
        self._reached: dict[str, asyncio.Event] = {}

    def fail(self, step: str, *errors: Exception) -> None:
        """The next times ``step`` raises these, one each."""
        self._errors.setdefault(step, []).extend(errors)

    def hold(self, step: str) -> None:
        """``step`` lasts until freed or cancelled."""
        self._holds[step] = asyncio.Event()

    def free(self, step: str) -> None:
        """End a hold."""
        self._holds.pop(step).set()

    def free_all(self) -> None:
        """End every hold."""
        for step in [*self._holds]:
            self.free(step)

    async def reached(self, step: str) -> None:
        """Wait until ``step`` was begun at least once."""
        await self._reached.setdefault(step, asyncio.Event()).wait()

    async def step(self, name: str) -> None:
        """The step itself."""
        self._reached.setdefault(name, asyncio.Event()).set()
        if name in self._holds:
            await self._holds[name].wait()
        if self._errors.get(name):
            raise self._errors[name].pop(0)
        self.passed[name] += 1


class FakeSource:
    """A source that delivers one frame at its start, unless ``plays`` is False, and others when told to."""

    def __init__(self, steps: Steps, serial: str, modes: Sequence[Mode] = (MODE,)) -> None:
        self.identity = Identity("fake", "camera", serial)
        self.modes = modes
        self.controls: Sequence[ControlInfo] = (FOCUS,)
        self.values = {FOCUS.id: FOCUS.default}
        self.refuses: frozenset[int] = frozenset()  # controls that cannot be set
        self.sink: FrameSink | None = None
        self.generation = 0
        self.closed = False
        self.plays = True
        self._steps = steps
        self._mode = modes[0] if modes else MODE
        self._seq = 0

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        await self._steps.step("configure")
        if not test_only:
            self._mode = want
        return want

    async def start(self, sink: FrameSink, generation: int) -> None:
        await self._steps.step("start")
        self.sink, self.generation = sink, generation
        if self.plays:
            self.frame()

    async def stop(self) -> None:
        await self._steps.step("stop")
        self.sink = None

    async def get(self) -> Mapping[int, int]:
        await self._steps.step("get")
        return dict(self.values)

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        await self._steps.step("set")
        infos = {info.id: info for info in self.controls if info.id not in self.refuses}
        if set(values) - infos.keys():
            raise Refused("INVALID", "the fake has no other control that can be set")
        clamped = {control: infos[control].clamp(value) for control, value in values.items()}
        self.values.update(clamped)
        return clamped

    async def close(self) -> None:
        await self._steps.step("close")
        self.closed = True

    def frame(self, shade: int = 128) -> bool:
        """Deliver one frame of an even shade; False where the sink had no buffer."""
        assert self.sink is not None
        lease = self.sink.lease(self._mode.nbytes)
        if lease is None:
            return False
        lease.view[: self._mode.nbytes] = bytes((shade,)) * self._mode.nbytes
        self._seq += 1
        now = time.monotonic_ns()
        self.sink.deliver(Frame(lease, self._mode.nbytes, self._mode, self._seq, now, self.generation))
        return True

    def lose(self, why: Exception) -> None:
        """The stream ends by itself."""
        sink, self.sink = self.sink, None
        assert sink is not None
        sink.lost(self.generation, why)


class FakeSeat:
    """A board's seat. Step: ``taken``. ``goes_on``: whether a stay goes on after a failure."""

    def __init__(self, steps: Steps) -> None:
        self.goes_on = False
        self.failures: list[Exception] = []
        self.refusals = 0
        self.reopened = 0
        self._steps = steps

    async def taken(self) -> None:
        await self._steps.step("taken")

    def again(self, why: Exception) -> bool:
        self.failures.append(why)
        return self.goes_on

    def reopen(self) -> None:
        self.reopened += 1

    def refused(self) -> None:
        self.refusals += 1


class FakeVisitor:
    """Steps: ``admit`` (errors only), ``open``, ``agree``, ``attend``, ``standby`` and those of the source."""

    kind = "module"
    needs_power = True
    snapped = True
    by_id = ""
    seat: Seat | None = None
    patience = 1

    def __init__(
        self, serial: str = "1", modes: Sequence[Mode] = (MODE,), want_mw: int = EVERYTHING_MW, least_mw: int = 500
    ) -> None:
        self.steps = Steps()
        self.source = FakeSource(self.steps, serial, modes)
        self.sink = Sink(want_mw, least_mw)
        self.refusal: MaglensError | None = None
        self._added_ns = time.monotonic_ns()
        self._unplugged = asyncio.Event()

    @property
    def added_ns(self) -> int:
        """When it was made."""
        return self._added_ns

    def admit(self) -> None:
        """Raises ``refusal``."""
        if self.refusal is not None:
            raise self.refusal

    async def open(self) -> Source:
        """Step ``open``."""
        await self.steps.step("open")
        return self.source

    def tell_apart(self, source: Source, place: str) -> bool:
        """Never."""
        return False

    async def converse(self, source: Source, begin: Begin) -> Contract | None:
        """Step ``agree``, then what both ends agree on."""
        await self.steps.step("agree")
        return await pausing(begin(SinkLink(self.sink), asyncio.get_running_loop().time))

    async def attend(self, source: Source, session: Session) -> None:
        """Step ``attend``, then until :meth:`unplug`."""
        await self.steps.step("attend")
        await self._unplugged.wait()
        raise Gone("unplugged")

    async def standby(self, source: Source) -> bool:
        """Step ``standby``."""
        await self.steps.step("standby")
        return True

    def unplug(self) -> None:
        """The source notices before the port does."""
        self._unplugged.set()
