# SPDX-License-Identifier: GPL-2.0-or-later
"""StreamEngine: the thread that receives a module's frames and events, and mends the stream when it breaks.

Everything here runs in one thread; other threads only post. What a stream is doing is its :class:`Phase`:

    IDLE -> STREAMING            start
    STREAMING -> DRAINING        a transfer of wrong length, a stall, stop, unplug: cancel all, wait for all
    DRAINING -> MENDING          all are back: FLUSH (or STOP and START after a stall) goes to the module
    MENDING -> MENDING           it refused FLUSH: STOP and START instead, once
    MENDING -> STREAMING         the module did it: queue again
    DRAINING, MENDING -> IDLE    stopped, or lost
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from maglens_driver.errors import BadModule, Deadline, Gone, MaglensError
from maglens_driver.link import limits, wire
from maglens_driver.usb import checks
from maglens_driver.usb.clock import FIRST_RESAMPLE_S, RESAMPLE_S, ClockSample, ModuleClock
from maglens_driver.usb.control import ModuleControl
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.job import Job
from maglens_driver.usb.listener import EventListener
from maglens_driver.usb.plan import Plan
from maglens_driver.usb.requests import Requests
from maglens_driver.usb.slots import Ring, Role, Slot, Step
from maglens_driver.usb.transport import Outcome, StreamPipe, Transport

log = logging.getLogger(__name__)

DRAIN_S: Final = 10 * limits.FLUSH_S  # the kernel gives cancelled transfers back in ms, or something is badly broken
_HUNT_TRANSFERS: Final = 4  # a FIFO holds a few packets at most
_IDLE_WAIT_S: Final = 60.0  # the thread sleeps in libusb; a wake or a completion ends that at once
_FIRST_SAMPLES: Final = 4
_CLOCK_REST_S: Final = 5.0


class Phase(enum.Enum):
    """What the stream is doing."""

    IDLE = "idle"
    STREAMING = "streaming"
    DRAINING = "draining"  # all transfers are cancelled; waiting for them to come back
    MENDING = "mending"  # the module is being told to begin anew

    @property
    def is_active(self) -> bool:
        """Whether a stream was started and has not ended."""
        return self is not Phase.IDLE


ALLOWED: Final = frozenset(
    (
        (Phase.IDLE, Phase.STREAMING),
        (Phase.STREAMING, Phase.DRAINING),
        (Phase.DRAINING, Phase.MENDING),
        (Phase.DRAINING, Phase.IDLE),
        (Phase.MENDING, Phase.MENDING),
        (Phase.MENDING, Phase.STREAMING),
        (Phase.MENDING, Phase.IDLE),
    )
)


class StreamEngine:
    """Frames and events of one module. ``on_event`` and ``on_gone`` are called from its thread."""

    def __init__(
        self,
        device: UsbDevice,
        transport: Transport,
        control: ModuleControl,
        clock: ModuleClock,
        *,
        on_event: Callable[[wire.Event], None],
        on_gone: Callable[[Exception], None],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._device = device
        self._transport = transport
        self._control = control
        self._clock = clock
        self._on_event = on_event
        self._on_gone = on_gone
        self._lock = threading.Lock()  # guards _commands and _ended
        self._commands: deque[Callable[[], None]] = deque()
        self._ended = False
        self._opened: Future[None] = Future()
        self._closed = False
        self._pipe: StreamPipe | None = None
        self._phase = Phase.IDLE
        self._job: Job | None = None
        self._ring: Ring | None = None
        self._then: Callable[[], None] = self._finish
        self._why: Exception | None = None
        self._lost = False
        self._epoch = 0
        self._drain_deadline = 0.0
        self._hunted = 0
        self._listener = EventListener(device, self.counters, on_event=self._event, on_gone=on_gone)
        self._thread = threading.Thread(target=self._main, name=f"stream-{device.port}", daemon=True)

    # --- any thread -------------------------------------------------------------------------------------------

    def open(self) -> Future[None]:
        """Claim the interface and listen for events; done when that has worked. Once."""
        self._thread.start()
        return self._opened

    def prepare(self, plan: Plan) -> None:
        """Make transfers for ``plan`` now; a start with it has them then."""
        self._post(lambda: self._prepare(plan))

    def start(self, job: Job) -> Future[None]:
        """Queue transfers for ``job``; done when they are queued. Raises in the future what ``Ring.fill`` raises."""
        future: Future[None] = Future()

        def command() -> None:
            if not future.set_running_or_notify_cancel():
                return  # called off before it began
            try:
                self._begin(job)
            except Exception as error:
                future.set_exception(error)
                if not isinstance(error, MaglensError):
                    raise
            else:
                future.set_result(None)

        if not self._post(command):
            future.set_exception(Gone(f"the module at port {self._device.port} was closed"))
        return future

    def stop(self) -> Future[None]:
        """End the stream; done when no lease is held. Done at once when none runs."""
        future: Future[None] = Future()
        if not self._post(lambda: self._stop(future)):
            future.set_result(None)
        return future

    def close(self) -> None:
        """Stop, release the interface and end the thread; returns when that is done. Idempotent."""
        self._post(self._close)
        self._thread.join()

    @property
    def phase(self) -> Phase:
        """What the stream is doing; a snapshot."""
        return self._phase

    @property
    def has_ended(self) -> bool:
        """Whether the last stream ended by itself."""
        return self._lost

    @property
    def epoch(self) -> int:
        """The last one used, so that the next stream takes another."""
        return self._epoch

    def _post(self, command: Callable[[], None]) -> bool:
        """Have the thread do ``command``; False when the thread has ended or will not look at it any more."""
        with self._lock:
            if self._ended:
                return False
            self._commands.append(command)
            if self._pipe is not None:
                self._pipe.wake()
        return True

    # --- the thread -------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._pipe = self._transport.open_stream()
            self._listener.listen(self._pipe)
        except Exception as error:  # whoever waits must hear of it, whatever it is
            if not isinstance(error, MaglensError):
                log.exception("port %s: the stream thread could not begin", self._device.port)
            try:
                self._shut()
            finally:
                _tell(self._opened, error)
            return
        _tell(self._opened)
        try:
            self._loop(self._pipe)
        except Exception as error:  # the thread's own fault must reach the session, not end in silence
            log.exception("port %s: the stream thread failed", self._device.port)
            self._fail(error)
        self._shut()

    def _loop(self, pipe: StreamPipe) -> None:
        while True:
            self._obey()
            if self._closed and not self._phase.is_active and self._listener.queued == 0:
                return
            until = min(self._next_deadline(), self._listener.deadline)
            pipe.run(max(0.0, until - time.monotonic()))
            self._take_frames()
            self._listener.take()
            self._check_deadlines(time.monotonic())

    def _obey(self) -> None:
        while self._commands:
            self._commands.popleft()()

    def _fail(self, error: Exception) -> None:
        """End in disorder: transfers may still be queued, so their memory is kept, and leases are not given back."""
        self._on_gone(error)
        job, self._job, self._phase = self._job, None, Phase.IDLE
        if job is None:
            return
        for future in job.stopping:
            _tell(future, error)
        if not job.stopping:
            self._lost = True
            job.sink.lost(job.generation, error)

    def _shut(self) -> None:
        """Give everything back; commands that come from now on are refused."""
        pipe = self._pipe
        self._closed = True
        self._listener.cancel()
        until = time.monotonic() + limits.FLUSH_S
        while pipe is not None and self._listener.queued and (left := until - time.monotonic()) > 0:
            pipe.run(left)
            self._listener.take()
        with self._lock:
            self._ended = True
            self._pipe = None
        self._obey()
        if pipe is not None and self._listener.queued == 0 and (self._ring is None or self._ring.queued == 0):
            self._listener.close()
            if self._ring is not None:
                self._ring.close()
            pipe.close()

    def _next_deadline(self) -> float:
        job = self._job
        if self._commands:
            return 0.0
        if self._phase is Phase.STREAMING and job is not None:
            return min(job.deadline, job.resample_at)
        if self._phase is Phase.DRAINING:
            return self._drain_deadline
        return time.monotonic() + _IDLE_WAIT_S

    def _check_deadlines(self, now: float) -> None:
        job = self._job
        if job is None:
            return
        if self._phase is Phase.STREAMING:
            if now >= job.deadline:
                self._stalled(job)
            elif now >= job.resample_at:
                self._resample(job, now)
        elif self._phase is Phase.DRAINING and now >= self._drain_deadline:
            raise RuntimeError(f"port {self._device.port}: the kernel did not give cancelled transfers back")

    def _enter(self, phase: Phase) -> None:
        if (self._phase, phase) not in ALLOWED:
            raise RuntimeError(f"stream: {self._phase.name} -> {phase.name} is not a transition")
        self._phase = phase

    # --- start, stop ------------------------------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        """The source sees to it that no other stream runs."""
        if self._pipe is None:
            raise Gone(f"the module at port {self._device.port} was closed")
        ring = self._provide(self._pipe, job.plan)
        self._job, self._epoch = job, job.epoch
        self._why, self._lost = None, False
        self._hunt(not job.fresh)
        self._enter(Phase.STREAMING)
        try:
            ring.fill(job.sink)
        except MaglensError:
            job.stopping.append(Future())  # the caller is told by the exception, so the sink need not be
            self._drain(self._finish)
            raise

    def _provide(self, pipe: StreamPipe, plan: Plan) -> Ring:
        """Transfers for ``plan``: those of before, or new ones."""
        if self._ring is None or self._ring.plan != plan:
            if self._ring is not None:
                self._ring.close()
            self._ring = Ring.make(pipe, self._device.bulk.address, plan)
        return self._ring

    def _prepare(self, plan: Plan) -> None:
        if self._pipe is not None and not self._phase.is_active:
            self._provide(self._pipe, plan)

    def _hunt(self, hunting: bool) -> None:
        assert self._ring is not None
        self._ring.hunting = hunting
        self._hunted = 0

    def _stop(self, future: Future[None]) -> None:
        job = self._job
        if job is None:
            _tell(future)
            return
        job.stopping.append(future)
        if self._phase is Phase.STREAMING:
            self._drain(self._finish)

    def _close(self) -> None:
        self._closed = True
        if self._phase is Phase.STREAMING:
            self._drain(self._finish)
        self._listener.cancel()

    def _finish(self) -> None:
        """The stream has ended: by stop, or lost for ``_why``."""
        job, ring = self._job, self._ring
        assert job is not None
        assert ring is not None
        ring.reset()
        self._job = None
        self._enter(Phase.IDLE)
        if self._why is not None:
            if isinstance(self._why, Gone):
                self._on_gone(self._why)
            if not job.stopping:
                self._lost = True
                job.sink.lost(job.generation, self._why)
        for future in job.stopping:
            _tell(future)

    def _lose(self, why: Exception) -> None:
        """The stream cannot go on."""
        self._why = why
        if self._phase is Phase.STREAMING:
            self._drain(self._finish)
        elif self._phase is Phase.DRAINING:
            self._then = self._finish
        else:
            self._finish()

    # --- breaking and mending ---------------------------------------------------------------------------------

    def _drain(self, then: Callable[[], None]) -> None:
        """Cancel everything; ``then`` when all is back."""
        assert self._ring is not None
        self._enter(Phase.DRAINING)
        self._then = then
        self._drain_deadline = time.monotonic() + DRAIN_S
        self._ring.cancel()
        self._drained()

    def _drained(self) -> None:
        ring, job = self._ring, self._job
        assert ring is not None
        assert job is not None
        if ring.queued:
            return
        then = self._finish if job.stopping or self._closed else self._then
        then()

    def _out_of_step(self, job: Job, cause: str) -> None:
        """Transfers and data no longer match: begin anew behind a FLUSH."""
        self._drop(job, cause)
        halted = cause == "halted"
        self._drain(lambda: self._mend(job, lambda requests: self._flush(requests, job.epoch, halted)))

    def _flush(self, requests: Requests, epoch: int, halted: bool) -> None:
        """In the control thread."""
        pipe = self._pipe
        if halted and pipe is not None:
            pipe.clear_halt(self._device.bulk.address)
        requests.flush(epoch)

    def _stalled(self, job: Job) -> None:
        """No good frame for too long: stop and start the module, once; then give up."""
        self.counters["stall"] += 1
        late = Deadline(f"port {self._device.port}: no good frame for {job.stall_s:.1f} s", hint="maglens status")
        if job.restarted:
            self._lose(late)
            return
        log.warning("%s; starting the stream anew", late)
        self._drain(lambda: self._restart(job))

    def _restart(self, job: Job) -> None:
        job.restart()
        self._mend(job, lambda requests: requests.restart(job.epoch))

    def _mend(self, job: Job, work: Callable[[Requests], None]) -> None:
        """Have the control thread do ``work`` with the next epoch, then go on."""
        assert self._ring is not None
        self._enter(Phase.MENDING)
        self._ring.reset()
        self._hunt(True)
        self._epoch += 1
        job.begin_anew(self._epoch)
        mending = self._control.submit(work)
        mending.add_done_callback(lambda done: self._post(lambda: self._mended(job, done)))

    def _mended(self, job: Job, done: Future[None]) -> None:
        if self._job is not job or self._ring is None:
            return
        if job.stopping or self._closed:
            self._finish()
            return
        error = done.exception()
        if isinstance(error, MaglensError) and not isinstance(error, Gone) and not job.restarted:
            log.warning("port %s: %s; starting the stream anew", self._device.port, error)
            self._restart(job)
            return
        try:
            if error is not None:
                raise error
            self._ring.fill(job.sink)
        except MaglensError as why:
            self._why = why
            if self._ring.queued == 0:
                self._finish()
            else:
                self._enter(Phase.STREAMING)
                self._drain(self._finish)
            return
        self._enter(Phase.STREAMING)

    # --- frames -----------------------------------------------------------------------------------------------

    def _take_frames(self) -> None:
        ring, job = self._ring, self._job
        if ring is None or job is None:
            return
        while ring.completions:
            index, outcome, nbytes = ring.completions.popleft()
            step = ring.complete(index)
            if outcome is Outcome.GONE:
                self._lose_gone()
            elif self._phase is not Phase.STREAMING:
                continue
            elif outcome is not Outcome.COMPLETED or index != ring.head:
                self._out_of_step(job, "halted" if outcome is Outcome.HALTED else "bus")
            elif ring.hunting:
                self._take_hunted(job, ring, step, nbytes)
            else:
                ring.head = (ring.head + 1) % len(ring.steps)
                self._take(job, step, nbytes)
        if self._phase is Phase.DRAINING:
            self._drained()
        elif self._phase is Phase.STREAMING:
            try:
                ring.fill(job.sink)
            except MaglensError as why:
                self._lose(why)

    def _lose_gone(self) -> None:
        if not isinstance(self._why, Gone):
            self._lose(Gone(f"the module at port {self._device.port} was unplugged"))

    def _take_hunted(self, job: Job, ring: Ring, step: Step, nbytes: int) -> None:
        try:
            job.hunt(step, nbytes, self._device.bulk.max_packet)
        except BadModule as error:
            self.counters["stale"] += 1
            self._hunted += 1
            log.debug("port %s: left over: %s", self._device.port, error)
            ring.again(step)
            if self._hunted > _HUNT_TRANSFERS:  # this is no rest of anything, but a damaged frame
                self._out_of_step(job, error.cause)
            return
        ring.hunting = False
        ring.head = (ring.head + 1) % len(ring.steps)

    def _take(self, job: Job, step: Step, nbytes: int) -> None:
        slot = step.slot
        try:
            job.receive(step, nbytes)
        except BadModule as error:
            if error.cause in checks.OUT_OF_STEP:
                log.info("port %s: %s", self._device.port, error)
                self._out_of_step(job, error.cause)
                return
            slot.cause = error.cause if slot.cause in ("", "no_buffer") else slot.cause
        if step.role is Role.TRAILER:
            self._end(job, slot)

    def _end(self, job: Job, slot: Slot) -> None:
        """A whole frame is in: deliver or drop it."""
        frame = job.finish(slot, self._clock)
        if frame is None:
            if slot.cause == "no_buffer":
                job.progress()
            self._drop(job, slot.cause)
            slot.clear()
            return
        job.progress()
        self.counters["frames"] += 1
        slot.lease = None  # it goes with the frame
        slot.clear()
        job.sink.deliver(frame)

    def _drop(self, job: Job, cause: str) -> None:
        self.counters[cause] += 1
        job.sink.dropped(job.generation, cause)

    # --- clock ------------------------------------------------------------------------------------------------

    def _resample(self, job: Job, now: float) -> None:
        fit = self._clock.fit
        young = fit is None or fit.drift == 0.0
        eager = young and self.counters["clock_samples"] < _FIRST_SAMPLES
        job.resample_at = now + (FIRST_RESAMPLE_S if eager else RESAMPLE_S)
        self._control.submit(Requests.clock_sample).add_done_callback(self._sampled)

    def _sampled(self, done: Future[tuple[int, int, int]]) -> None:
        """In the control thread."""
        error = done.exception()
        if error is None:
            sample = ClockSample(*done.result())
            self._post(lambda: self._add_sample(sample))
        else:  # the stream itself tells whether the module is well; a missing sample only ages the fit
            log.debug("port %s: no clock sample: %s", self._device.port, error)
            self._post(self._rest_clock)

    def _rest_clock(self) -> None:
        """Requests that run into their limit hold up all others: ask less often."""
        self.counters["clock_failures"] += 1
        if self._job is not None:
            self._job.resample_at = time.monotonic() + _CLOCK_REST_S

    def _add_sample(self, sample: ClockSample) -> None:
        self.counters["clock_samples"] += 1
        self._clock.add(sample)

    # --- events -----------------------------------------------------------------------------------------------

    def _event(self, event: wire.Event) -> None:
        job = self._job
        if event.kind == wire.EventKind.CONTROL and job is not None and not job.stopping:
            job.sink.control(job.generation, event.id, event.value)
        self._on_event(event)


def _tell(future: Future[None], error: Exception | None = None) -> None:
    """Done; whoever asked may have given up waiting, and a future that was called off cannot be set."""
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
