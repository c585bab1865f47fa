# SPDX-License-Identifier: GPL-2.0-or-later
"""Session: one visitor's stay on a port, from detect to removal. It owns the source and the contract.

Where it is, and what may follow, says :mod:`session_state`.

Removal is legal in every state, and its own event: a source that reports ``Gone`` before the port does is not played
any more, and ends here when the port says so. A step that fails is tried again only where trying can help (no answer
in time); anything else, or the last try, ends in quarantine with its first cause until the module is lifted off.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from maglens_daemon.board.failures import AttachFailed
from maglens_daemon.chatter import Chatter
from maglens_daemon.contract import Contract
from maglens_daemon.host import Host
from maglens_daemon.journal import about
from maglens_daemon.mode_choice import Means
from maglens_daemon.port import Port, offers
from maglens_daemon.power_feed import PowerFeed
from maglens_daemon.restraint import Restraint, seat_note
from maglens_daemon.session_state import TRANSITIONS, SessionState
from maglens_daemon.visitor import Visitor
from maglens_driver.control import MOTORS, held
from maglens_driver.errors import BadModule, Deadline, Gone, Interrupted, MaglensError, WrongState
from maglens_driver.link.wire import CapabilityLevel, CapabilityReason
from maglens_driver.mode import Mode
from maglens_driver.source import FrameSink, Identity, Source

log = logging.getLogger(__name__)

IDENTIFY_TRIES: Final = 3  # a module whose contacts have just closed may miss the first request
IDENTIFY_S: Final = 5.0  # open, INFO and the largest descriptor, each request within its own limit
CONFIGURE_S: Final = 2.0
START_S: Final = 3.0
STOP_S: Final = 3.0
CLOSE_S: Final = 3.0
SNAP_ON_AGAIN: Final = "lift it off and snap it on again"
TELL_MAKER: Final = f"{SNAP_ON_AGAIN}; if that does not help, tell its maker"
TRIED_AGAIN: Final = "it is tried again after a while, and at once by `maglens use` or when a camera is plugged in"
SLEPT_S: Final = 0.1  # less than that between two clocks is no sleep
GONE_GRACE_S: Final = 5.0  # between a source's Gone and the port's removal


def slept_s() -> float:
    """Seconds that the system has slept since it was started: one clock goes on meanwhile, the other does not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Session:
    """One stay. ``id`` is unique; all calls belong to the event loop's thread."""

    def __init__(self, id: int, port: Port, visitor: Visitor, host: Host) -> None:
        self.id = id
        self.port = port
        self.visitor = visitor
        self.state = SessionState.DETECTED
        self.reason = ""  # why it is quarantined
        self.cause = ""  # the same as one stable word
        self.hint = ""
        self.source: Source | None = None
        self.contract: Contract | None = None
        self.restraint = Restraint()
        self.chatter = Chatter(lambda: self.label, self.log_fields)
        self.feed: PowerFeed | None = None  # from identification on, where it needs power
        self.mode: Mode | None = None
        self.ready_at = 0.0  # loop time
        self.unplugged = False  # the source says so; the port will
        self._generation = 0
        self._host = host
        self._removed = asyncio.Event()
        self._failed = asyncio.Event()
        self._failure: Exception | None = None  # for the stay to judge
        self._cut = asyncio.Event()  # the board took power or USB away, or the system goes to sleep
        self._slept_s = 0.0  # when its device was opened
        self._awake = asyncio.Event()
        self._awake.set()
        self._reading: asyncio.Future[Mapping[int, int]] | None = None
        self._operation = asyncio.Lock()  # configure, start, stop and standby never overlap

    # What others ask.

    @property
    def identity(self) -> Identity | None:
        """Who it is, once that is known."""
        return self.source.identity if self.source is not None else None

    @property
    def label(self) -> str:
        """As people know it: identity and port."""
        return f"{self.identity} at port {self.port.label}" if self.identity else f"module at port {self.port.label}"

    @property
    def is_playable(self) -> bool:
        """Whether it can be asked for frames now."""
        failed = self.unplugged or self._failure is not None
        return self.state.is_playable and not failed and not self._removed.is_set()

    @property
    def _advice(self) -> str:
        """What a person does about one that does not answer: nobody can lift off what is built in."""
        return SNAP_ON_AGAIN if self.visitor.snapped else TRIED_AGAIN

    def means(self) -> Means:
        """What its modes may use of link and power now."""
        contract, source = self.contract, self.source
        unpowered = 0 if self.visitor.needs_power else None
        return self.restraint.means(
            self.port.usable_mbit_s if self.port.speed_mbit_s else None,
            contract.operating_mw if contract is not None else unpowered,
            source.modes if source is not None else (),
        )

    def log_fields(self) -> dict[str, str]:
        """Fields for the journal."""
        who = self.identity
        return about(
            port=self.port.path,
            module=who.model if who else "",
            serial=who.serial if who else "",
            state=self.state.value,
            cause=self.cause,
        )

    # The stay itself.

    async def run(self) -> None:
        """The whole stay; ends when the visitor was removed. Never raises but for cancellation."""
        if self._removed.is_set():
            self._enter(SessionState.GONE)
            return
        stay = asyncio.create_task(self._stay(), name=f"stay-{self.port.path}")
        removed = asyncio.create_task(self._removed.wait(), name=f"removal-{self.port.path}")
        try:
            await asyncio.wait((stay, removed), return_when=asyncio.FIRST_COMPLETED)
            await removed
        finally:
            for task in (stay, removed):
                task.cancel()
            self._enter(SessionState.GONE)
            await asyncio.gather(stay, removed, return_exceptions=True)
            await self._close()

    def removed(self) -> None:
        """The port says that it is empty. Legal in every state; idempotent."""
        self.unplugged = True
        self._removed.set()

    def fail(self, why: Exception) -> None:
        """Its stream ended by itself and is not worth another try; ``Gone`` waits for the port to say so, but for
        what was only interrupted (too often)."""
        if self.state is SessionState.ATTACH:
            return  # the echo of a stream that ended before
        if isinstance(why, Gone) and not isinstance(why, Interrupted):
            self.unplugged = True
        else:
            self._quarantine(why)
        self._failed.set()
        self._host.changed(self)

    def interrupted(self) -> None:
        """The board says that it has lost power or USB, and is still seated."""
        if self.state is SessionState.ATTACH:
            return  # its source was quicker to say so
        self.unplugged = True
        self._cut.set()
        self._host.changed(self)

    def lie_down(self) -> None:
        """The system goes to sleep: a module is given back (:attr:`lies` then) until :meth:`get_up`."""
        if not self.visitor.needs_power:
            return
        self._awake.clear()
        if not self._waits and not self.state.is_end:
            self._cut.set()

    def get_up(self) -> None:
        """It is awake again."""
        self._awake.set()

    @property
    def lies(self) -> bool:
        """Whether nothing goes on that a sleep would break."""
        if not self.visitor.needs_power:
            return self.state is not SessionState.STREAMING
        return self.state.is_end or (self._waits and self.source is None)

    @property
    def _waits(self) -> bool:
        return self.state in (SessionState.DETECTED, SessionState.ATTACH)

    async def _stay(self) -> None:
        while await self._attempt():
            log.info("%s: begins anew", self.label, extra=self.log_fields())

    async def _attempt(self) -> bool:
        """From detect to removal or failure; True where it begins anew in the same stay."""
        try:
            if self.visitor.seat is not None:
                self._enter(SessionState.ATTACH)
                await self.visitor.seat.taken()
            await self._awake.wait()
            await self._until_cut()
        except Gone as gone:
            if await self._begins_anew(gone):
                return True
            await self._wait_for_removal(gone)
        except (MaglensError, OSError) as why:
            if await self._begins_anew(why):
                return True
            self._quarantine(why)
            await self._close()
        except Exception as why:
            # A defect of ours met by one module: it must not take the others with it.
            log.exception("%s: unexpected error", self.label, extra=self.log_fields())
            self._quarantine(why)
            await self._close()
        return False

    async def _until_cut(self) -> None:
        """All steps; the module may be taken away in each of them."""
        steps = asyncio.create_task(self._steps(), name=f"steps-{self.port.path}")
        cut = asyncio.create_task(self._cut.wait(), name=f"cut-{self.port.path}")
        try:
            await asyncio.wait((steps, cut), return_when=asyncio.FIRST_COMPLETED)
            if not steps.done():
                raise Gone(f"{self.label} has lost its power or its link")
            steps.result()
        finally:
            for task in (steps, cut):
                task.cancel()
            await asyncio.gather(steps, cut, return_exceptions=True)

    async def _begins_anew(self, why: Exception) -> bool:
        seat, sleeps = self.visitor.seat, not self._awake.is_set()
        if self.state.is_end:
            return False
        if sleeps:
            if seat is not None:
                seat.reopen()
        elif seat is None:
            # A sleep that nobody has announced (no logind): it ends transfers just the same.
            if not isinstance(why, Gone) or slept_s() - self._slept_s < SLEPT_S:
                return False
        elif not seat.again(why):
            return False
        self.unplugged = not sleeps
        self._enter(SessionState.ATTACH)
        await self._close()
        self.source, self.feed, self.restraint, self._failure = None, None, Restraint(), None
        self.unplugged = False
        self._failed.clear()
        self._cut.clear()
        self._host.changed(self)
        return True

    async def _steps(self) -> None:
        self.visitor.admit()
        self._slept_s = slept_s()
        self._enter(SessionState.IDENTIFY)
        await self._identify()
        self._enter(SessionState.CONTRACT)
        await self._agree()
        self.ready_at = asyncio.get_running_loop().time()
        self._enter(SessionState.READY)
        log.info("%s: ready", self.label, extra=self.log_fields())
        if self.source is not None and (note := seat_note(self.port, self.source.modes)):
            log.warning("%s: %s", self.label, note, extra=self.log_fields())
        await self._attend()

    async def _identify(self) -> None:
        for left in reversed(range(IDENTIFY_TRIES)):
            try:
                async with asyncio.timeout(IDENTIFY_S * self.visitor.patience):
                    source = await self.visitor.open()
                break
            except (Deadline, TimeoutError) as late:
                if left == 0:
                    raise Deadline(
                        f"the module did not answer {IDENTIFY_TRIES} times: {late or 'open takes too long'}",
                        hint=self._advice,
                    ) from late
                log.info("%s: %s; trying again", self.label, late, extra=self.log_fields())
        self.source = source
        twin = self._host.twin(self, source.identity)
        if twin is not None and self.visitor.tell_apart(source, self.port.path.rpartition("/")[2]):
            log.info("%s: the one at port %s is named alike", self.label, twin.port.label, extra=self.log_fields())
            twin = self._host.twin(self, source.identity)
        if twin is not None:
            raise BadModule(
                "identity",
                f"port {self.port.label} has a module that says it is {source.identity}, as the one at port "
                f"{twin.port.label} does; the one that came second is refused",
                hint="give one of them another serial number",
            )

    async def _agree(self) -> None:
        source = self.source
        assert source is not None
        if not self.visitor.needs_power:
            return
        declared = getattr(source, "descriptor", None)
        self.feed = PowerFeed(
            lambda begin: self.visitor.converse(source, begin),
            declared.power.peak_mw if declared is not None else None,
        )
        offered = offers(self._host.reserve(self))
        if offered:  # else it stays without until there is power, and that is told
            self.contract = await self.feed.agree(offered, self._no_answer)

    def _no_answer(self, late: Exception) -> None:
        log.info("%s: %s; trying again", self.label, late, extra=self.log_fields())

    def hear_control(self, control: int, value: int) -> None:
        """The module moved a control by itself."""
        self._host.control_moved(self, control, value)

    def hear_capability(self, reason: int, level: int) -> None:
        """The module says how much it can do just now; words that nobody knows are ignored."""
        try:
            self.restraint.hear(CapabilityReason(reason), CapabilityLevel(level))
        except ValueError:
            self.chatter.say(logging.INFO, f"capability: reason {reason}, level {level}")
            return
        text = self.restraint.module_note() or "the module says that it can do everything again"
        self.chatter.say(logging.WARNING, text)
        self._host.changed(self)

    # Power at run time.

    async def offer_power(self, mw: int) -> None:
        """Offer other power than before; the contract afterwards is what holds. A module that does not answer any
        more has failed."""
        await self._repower(lambda feed: feed.agree(offers(mw), self._no_answer))

    async def squeeze(self) -> None:
        """GotoMin: the contract's least, from now on."""
        await self._repower(lambda feed: feed.squeeze(self._no_answer))

    async def hear_power(self) -> None:
        """The module says that a power message waits."""
        await self._repower(lambda feed: feed.hear(self._no_answer))

    async def _repower(self, work: Callable[[PowerFeed], Awaitable[Contract | None]]) -> None:
        feed = self.feed
        if feed is None or not self.is_playable:
            return
        try:
            self.contract = await work(feed)
        except (MaglensError, OSError) as why:
            if self._removed.is_set():
                return  # lifted off meanwhile, and that is told elsewhere
            self.contract = feed.supply.contract if feed.supply.is_settled else None
            self.chatter.say(logging.WARNING, f"power: {why}")
            if isinstance(why, Gone | Deadline | BadModule) or feed.supply.wants_other:
                self._failure = why
                self._failed.set()
        self._host.changed(self)

    async def _attend(self) -> None:
        """Serve the source's own events until removal, or until its stream has failed for good."""
        assert self.source is not None
        attend = asyncio.create_task(self.visitor.attend(self.source, self), name=f"attend-{self.port.path}")
        failed = asyncio.create_task(self._failed.wait(), name=f"failure-{self.port.path}")
        try:
            await asyncio.wait((attend, failed), return_when=asyncio.FIRST_COMPLETED)
            if attend.done():
                attend.result()
                await failed
        finally:
            for task in (attend, failed):
                task.cancel()
            await asyncio.gather(attend, failed, return_exceptions=True)
        if self._failure is not None:
            raise self._failure
        if self.unplugged:
            raise Gone(f"{self.label} was unplugged")
        await self._close()

    async def _wait_for_removal(self, gone: Gone) -> None:
        """The source is gone; the port's own event follows at once, or something is wrong with the module."""
        self.unplugged = True
        self._host.changed(self)
        try:
            async with asyncio.timeout(GONE_GRACE_S):
                await self._removed.wait()
        except TimeoutError:
            self.unplugged = False
            why = MaglensError(f"the module stopped answering, but is still there: {gone}", hint=self._advice)
            self._quarantine(why)
            await self._close()

    def _quarantine(self, why: Exception) -> None:
        if self.state.is_end:
            return  # the first cause stays
        self.reason = str(why) or type(why).__name__
        self.cause = why.cause if isinstance(why, BadModule | AttachFailed) else type(why).__name__.lower()
        own = why.hint if isinstance(why, MaglensError) else ""
        self.hint = own or (TELL_MAKER if self.visitor.snapped else TRIED_AGAIN)
        self._enter(SessionState.QUARANTINED)
        if self.visitor.seat is not None:
            self.visitor.seat.refused()

    def _enter(self, state: SessionState) -> None:
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise WrongState(f"{self.label}: no way from {self.state.value} to {state.value}")
        self.state = state
        if state is SessionState.QUARANTINED:
            log.warning("%s: refused: %s", self.label, self.reason, extra=self.log_fields())
        elif state is SessionState.GONE:
            log.info("%s: removed", self.label, extra=self.log_fields())
        else:
            log.debug("%s: %s", self.label, state.value, extra=self.log_fields())
        if state.is_end or state is SessionState.ATTACH:
            if self.feed is not None:
                self.feed.supply.cut()
            self.contract = None
            self.mode = None
        self._host.changed(self)

    async def _close(self) -> None:
        """Give the source back, whatever state it is in."""
        source = self.source
        if source is None:
            return
        async with self._operation:
            await self._end("stop", source.stop, STOP_S)
            await self._end("close", source.close, CLOSE_S)

    async def _end(self, what: str, step: Callable[[], Awaitable[None]], limit_s: float) -> None:
        """A step of taking leave. Errors are logged: what comes next does not depend on them."""
        try:
            async with asyncio.timeout(limit_s):
                await step()
        except (MaglensError, OSError, TimeoutError) as error:
            level = logging.DEBUG if isinstance(error, Gone) else logging.WARNING
            log.log(level, "%s: %s: %s", self.label, what, error or "it takes too long", extra=self.log_fields())
        except Exception:
            # A defect of ours; the device still has to be given back.
            log.exception("%s: %s: unexpected error", self.label, what, extra=self.log_fields())

    # What the manager does with a playable session.

    async def read(self) -> Mapping[int, int]:
        """Present values of its controls. All who ask meanwhile share one answer: anybody may ask, as often as they
        like, and the module's other requests wait behind it."""
        source = self.playable()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(source.get())
        return held(await asyncio.shield(self._reading), source.controls)

    async def write(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """Write controls, with power for the motors that some of them move; the values as clamped."""
        source = self.playable()
        try:
            if not MOTORS.intersection(values):
                return held(await source.set(values), source.controls)
            async with self._host.burst(self):
                return held(await source.set(values), source.controls)
        finally:
            self._reading = None  # an answer that is on its way may not know of it

    async def configure(self, want: Mode) -> Mode:
        """Set the mode; the answer is what will be sent. Raises ``Deadline`` and what the source raises."""
        source = self.playable()
        async with self._operation, _deadline(CONFIGURE_S * self.visitor.patience, "configuration", self._advice):
            if self.state is SessionState.STANDBY:
                self._enter(SessionState.READY)  # from here on it may draw what its contract says
            self.mode = await source.configure(want)
        return self.mode

    async def start(self, sink: FrameSink, generation: int) -> None:
        """Begin to stream."""
        source = self.playable()
        async with self._operation, _deadline(START_S * self.visitor.patience, "start", self._advice):
            self._generation = generation
            await source.start(sink, generation)
        if self.playable() is source:
            self._enter(SessionState.STREAMING)

    async def stop(self, generation: int | None = None) -> None:
        """End the stream; legal when it is gone. With a ``generation`` only that one's: a later stream goes on."""
        source = self.source
        if source is None:
            return
        async with self._operation:
            if generation is not None and generation != self._generation:
                return
            await self._end("stop", source.stop, STOP_S * self.visitor.patience)
        if self.state is SessionState.STREAMING:
            self._enter(SessionState.READY)

    async def standby(self) -> None:
        """Nobody has watched for a while. No error where it is not ready (any more)."""
        async with self._operation, _deadline(CONFIGURE_S * self.visitor.patience, "standby", self._advice):
            if self.state is not SessionState.READY or not self.is_playable:
                return  # it may have begun to play while another operation went on
            rests = await self.visitor.standby(self.playable())
        if rests and self.state is SessionState.READY:
            self._enter(SessionState.STANDBY)
            log.info("%s: rests, nobody watches", self.label, extra=self.log_fields())

    async def rest(self) -> None:
        """:meth:`standby`, where nothing depends on it: an error is told, and no more."""
        try:
            await self.standby()
        except (MaglensError, OSError) as why:
            log.info("%s: no standby: %s", self.label, why, extra=self.log_fields())

    def playable(self) -> Source:
        """The source, to be asked for something now; raises ``Gone`` or ``WrongState``."""
        if self.source is None or not self.is_playable:
            if self.unplugged:
                raise Gone(f"{self.label} was unplugged")
            raise WrongState(f"{self.label} is {self.state.value}")
        return self.source


@asynccontextmanager
async def _deadline(limit_s: float, what: str, hint: str) -> AsyncIterator[None]:
    """``asyncio.timeout`` that says what took too long."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as late:
        raise Deadline(f"{what} took more than {limit_s:g} s", hint=hint) from late
