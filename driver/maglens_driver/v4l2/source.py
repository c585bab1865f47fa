# SPDX-License-Identifier: GPL-2.0-or-later
"""V4L2 source: a webcam, or any other capture device, as a Source.

One thread per stream waits for frames and control events and delivers the driver's own buffers; ioctls of the event
loop's side run one at a time in an executor, each with a deadline, since a driver may take seconds for any of them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from maglens_driver.control import ControlInfo
from maglens_driver.errors import Deadline, Gone, Interrupted, Refused, WrongState
from maglens_driver.frame import Frame
from maglens_driver.mode import Mode, nearest_mode
from maglens_driver.names import NODE_CARD_NAME
from maglens_driver.source import FrameSink, Identity
from maglens_driver.v4l2.binding import gone_is_gone, linuxpy
from maglens_driver.v4l2.buffers import BufferSet
from maglens_driver.v4l2.controls import (
    marked,
    next_change,
    read_controls,
    read_values,
    watch_controls,
    with_flags,
    write_values,
)
from maglens_driver.v4l2.identity import identify
from maglens_driver.v4l2.memory import Choice
from maglens_driver.v4l2.modes import read_modes, set_mode, settle_rates, try_mode

CALL_S = 6.0  # uvcvideo itself gives a camera five seconds for a control
OPEN_S = 10.0  # some webcams answer hundreds of questions
SETTLE_S = 60.0  # and take a moment for each mode that is set
# Some webcams stop to send without any error, and the driver then waits for ever. (It is late, and not silent, while
# it has no buffer to fill.)
STALL_S = 3.0  # without a frame, and at least ...
STALL_INTERVALS = 10  # ... so long: exposure in the dark takes several intervals of what was set
STALL_MOST_S = 600.0  # whatever a device says of its rate
FIRST_FRAME_S = 5.0  # on top of that for the first one: sensors start up, and change their exposure
MAX_GAP_COUNTED = 64  # missed frames of one gap that are counted
MONOTONIC = 0x2000  # V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC, of the mask 0xe000
START_OF_EXPOSURE = 0x10000  # V4L2_BUF_FLAG_TSTAMP_SRC_SOE, of the mask 0x70000
DAMAGED = 0x0040  # V4L2_BUF_FLAG_ERROR

T = TypeVar("T")

log = logging.getLogger(__name__)


class V4L2Source:
    """A capture device by its path. Implements :class:`maglens_driver.source.Source`."""

    @classmethod
    async def open(
        cls, path: str, memory: Choice = Choice.AUTO, ours: Collection[str] = (NODE_CARD_NAME,)
    ) -> V4L2Source:
        """Look at a device; nothing is changed on it. ``memory``: where its pictures will lie; ``ours``: see
        :func:`identify`.

        Raises ``MissingDependency`` without linuxpy, ``Refused`` when it is no camera or a node of ours, ``Gone``,
        ``Deadline``, and ``OSError`` when it cannot be opened.
        """
        linuxpy()
        executor = ThreadPoolExecutor(1, thread_name_prefix="v4l2-calls")
        try:
            look = partial(cls, path, executor, memory, ours)
            return await _within(executor, OPEN_S, path, look, late=cls._give_back)
        except BaseException:
            executor.shutdown(wait=False)
            raise

    def __init__(
        self,
        path: str,
        executor: ThreadPoolExecutor,
        memory: Choice = Choice.AUTO,
        ours: Collection[str] = (NODE_CARD_NAME,),
    ) -> None:
        """For :meth:`open`, which knows where to call this."""
        self.path = path
        self._memory = memory
        self._executor = executor
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._identity = identify(self._fd, path, ours)
            self._modes = read_modes(self._fd)
            self._controls = read_controls(self._fd)
            if not self._modes:
                hint = f"v4l2-ctl -d {path} --list-formats-ext"
                raise Refused("mode", f"{path} offers no format that can be shown (NV12, YUYV, MJPEG)", hint=hint)
        except BaseException:
            os.close(self._fd)
            raise
        self._ask: Mapping[Mode, Mode] = {}  # for which of the modes another is to be asked for
        self._mode: Mode | None = None
        self._stream: _Stream | None = None
        self._starting = False
        self._ending = threading.Lock()  # whoever ends the stream, or waits until it has ended
        self._gone: Gone | None = None
        self._closed = False

    @property
    def identity(self) -> Identity:
        return self._identity

    def tell_apart(self, place: str) -> None:
        """Another camera has this identity: from now on its serial number says where it sits as well."""
        self._identity = replace(self._identity, serial=f"{self._identity.serial}@{place}")

    @property
    def modes(self) -> Sequence[Mode]:
        return self._modes

    @property
    def controls(self) -> Sequence[ControlInfo]:
        return self._controls

    async def configure(self, want: Mode, test_only: bool = False) -> Mode:
        if self._starting:
            await self._call(_nothing)
            await self.stop()
        self._check(streaming=False)
        nearest = nearest_mode(self._modes, want)
        if test_only:
            return await self._call(lambda: try_mode(self._fd, nearest))
        self._mode = await self._call(lambda: set_mode(self._fd, self._ask.get(nearest, nearest)))
        return self._mode

    async def settle_rates(self) -> None:
        """Offer modes at the rates at which the device truly sends them, which only choosing one after the other
        tells: for who has the device for himself. ``Refused`` where none is left, ``OSError`` EBUSY in use."""
        self._check(streaming=False)
        found = await self._call(lambda: settle_rates(self._fd, self._modes), SETTLE_S)
        if not found:
            raise Refused("mode", f"{self.path} takes none of its modes", hint=f"v4l2-ctl -d {self.path} --all")
        self._ask, self._modes = found, tuple(found)

    async def start(self, sink: FrameSink, generation: int) -> None:
        self._check(streaming=False)
        if self._mode is None:
            raise WrongState(f"{self.path} is not configured")
        mode = self._mode

        def begin() -> None:
            watch_controls(self._fd, self._controls)
            self._controls = with_flags(self._fd, self._controls)  # from here on events tell
            self._stream = _Stream(
                self._fd, self.path, mode, sink, generation, self._activated, self._lost, self._memory
            )

        self._starting = True
        try:
            await self._call(begin)
        except Deadline:
            raise  # it may still be under way; whoever stops or configures next ends what comes of it
        except Exception:
            self._starting = False
            raise
        self._starting = False

    async def stop(self) -> None:
        if self._starting:  # it was called off, and may still be under way
            await asyncio.get_running_loop().run_in_executor(self._executor, _nothing)
            self._starting = False
        if self._stream is not None:
            await asyncio.to_thread(self._end_stream)

    async def get(self) -> Mapping[int, int]:
        self._check()
        return await self._call(self._read)

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        self._check()
        return await self._call(lambda: write_values(self._fd, self._controls, values))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await self.stop()
        finally:  # whoever waits for it may give up
            self._starting = False  # what comes of that is ended with all else:
            self._executor.submit(self._give_back)  # after a call that is still under way
            self._executor.shutdown(wait=False)

    def _end_stream(self) -> None:
        with self._ending:
            stream, self._stream = self._stream, None
            if stream is not None:
                stream.stop()

    def _give_back(self) -> None:
        """Close the device, and end before what a start has begun that nobody waited for. Not in the loop."""
        try:
            self._end_stream()
        except OSError as error:
            log.warning("%s: %s", self.path, error)
        finally:
            os.close(self._fd)

    async def _call(self, work: Callable[[], T], limit_s: float = CALL_S) -> T:
        try:
            return await _within(self._executor, limit_s, self.path, work)
        except Gone as gone:
            self._gone = gone
            raise

    def _check(self, streaming: bool | None = None) -> None:
        if self._gone is not None:
            raise self._gone
        if self._closed:
            raise WrongState(f"{self.path} is closed")
        if streaming is False and (self._starting or self._stream is not None):
            raise WrongState(f"{self.path} is streaming")

    def _read(self) -> Mapping[int, int]:
        if self._stream is None:  # else its thread keeps them
            self._controls = with_flags(self._fd, self._controls)
        return read_values(self._fd, self._controls)

    def _activated(self, control: int, active: bool) -> None:
        self._controls = tuple(marked(info, active) if info.id == control else info for info in self._controls)

    def _lost(self, why: Gone) -> None:
        self._gone = why


def stall_s(mode: Mode) -> float:
    """How long a device that sends ``mode`` may be silent."""
    return min(max(STALL_S, STALL_INTERVALS * float(mode.interval)), STALL_MOST_S)


def _nothing() -> None:
    """Done when all that was asked of the executor's thread before is done."""


async def _within(
    executor: ThreadPoolExecutor,
    limit_s: float,
    path: str,
    work: Callable[[], T],
    late: Callable[[T], None] = lambda result: None,
) -> T:
    """The result of ``work`` in the executor's thread, within a time limit. One that comes when nobody waits for it
    any more is given to ``late``."""

    def guarded() -> T:
        with gone_is_gone(path):
            return work()

    def done(future: Future[T]) -> None:
        if not future.cancelled() and future.exception() is None:
            late(future.result())

    doing = executor.submit(guarded)
    try:
        async with asyncio.timeout(limit_s):  # Python 3.11's wait_for() takes a result for a cancellation
            return await asyncio.wrap_future(doing)
    except TimeoutError as error:
        doing.add_done_callback(done)
        hint = f"try it alone: v4l2-ctl -d {path} --all; journalctl -k -b"
        raise Deadline(f"{path} did not answer within {limit_s:g} s", hint=hint) from error
    except asyncio.CancelledError:
        doing.add_done_callback(done)
        raise


class _Stream:
    """One stay on air: buffers, thread, and the way to wake it."""

    def __init__(
        self,
        fd: int,
        path: str,
        mode: Mode,
        sink: FrameSink,
        generation: int,
        on_active: Callable[[int, bool], None],
        on_gone: Callable[[Gone], None],
        memory: Choice,
    ) -> None:
        self._fd, self._path, self._mode, self._sink, self._generation = fd, path, mode, sink, generation
        self._on_active, self._on_gone = on_active, on_gone
        self._last_sequence: int | None = None
        self._last_exposure = 0
        self._thread = threading.Thread(target=self._run, name="v4l2-source", daemon=True)
        self._halt = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            self._buffers = BufferSet(fd, memory)
            try:
                self._buffers.start()
                self._thread.start()
            except BaseException:
                self._buffers.end()
                raise
        except BaseException:
            os.close(self._halt)
            raise

    def stop(self) -> None:
        """Waits for the thread; buffers still with the sink stay valid until released."""
        os.eventfd_write(self._halt, 1)
        self._thread.join()
        self._buffers.end()
        os.close(self._halt)

    def _run(self) -> None:
        why: Gone | None = Interrupted(f"{self._path} stopped by an error; see the log")
        try:
            with gone_is_gone(self._path):
                self._deliver_all()
            why = None
        except Gone as gone:
            why = gone.with_traceback(None)  # which would hold this stream, and all that it feeds, by itself
        except OSError as error:
            why = Interrupted(f"{self._path} stopped: {error}")
        finally:
            if why is not None:
                if not isinstance(why, Interrupted):  # else it is there still
                    self._on_gone(why)
                self._sink.lost(self._generation, why)

    def _deliver_all(self) -> None:
        poll = select.poll()
        poll.register(self._halt, select.POLLIN)
        poll.register(self._fd, select.POLLIN | select.POLLPRI)
        limit_s = stall_s(self._mode)
        patience_s, heard = FIRST_FRAME_S + limit_s, time.monotonic()
        while True:
            ready = dict(poll.poll(max(0.0, heard + patience_s - time.monotonic()) * 1000))
            if self._halt in ready:
                return
            happened = ready.get(self._fd, 0)
            if happened & select.POLLPRI:
                self._tell_changes()
            if happened & (select.POLLIN | select.POLLERR | select.POLLHUP) and self._deliver():
                patience_s, heard = limit_s, time.monotonic()
                continue
            now, fed = time.monotonic(), self._buffers.fed_at
            heard = now if fed is None else max(heard, fed)
            if now >= heard + patience_s:
                raise Interrupted(f"{self._path} has sent nothing for {patience_s:g} s, and no error")

    def _tell_changes(self) -> None:
        while True:
            try:
                change = next_change(self._fd)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EAGAIN):
                    return
                raise
            if change is not None and change.active is not None:
                self._on_active(change.id, change.active)
                self._sink.active(self._generation, change.id, change.active)
            if change is not None and change.value is not None:
                self._sink.control(self._generation, change.id, change.value)

    def _deliver(self) -> bool:
        """One buffer, if there is one. Where the device reports an error instead, taking one says which."""
        try:
            info, lease = self._buffers.take()
        except BlockingIOError:
            return False
        number = self._number(info.sequence)
        nbytes = info.bytesused
        if self._mode.stride:  # some drivers count what they pad a picture's end with
            nbytes = min(nbytes, self._mode.nbytes)
        if info.flags & DAMAGED or not 0 < nbytes <= self._mode.nbytes:
            self._sink.dropped(self._generation, "damaged")
            lease.release()
            return True
        if self._mode.stride and nbytes < self._mode.nbytes:
            self._sink.dropped(self._generation, "short")
            lease.release()
            return True
        exposure = self._exposure_ns(info)
        self._sink.deliver(Frame(lease, nbytes, self._mode, number, exposure, self._generation))
        return True

    def _number(self, sequence: int) -> int:
        """The driver's number, whose gaps are counted; made to rise, since some drivers use one twice."""
        if self._last_sequence is not None:
            for _ in range(min(sequence - self._last_sequence - 1, MAX_GAP_COUNTED)):
                self._sink.dropped(self._generation, "missed")
            sequence = max(sequence, self._last_sequence + 1)
        self._last_sequence = sequence
        return sequence

    def _exposure_ns(self, info: Any) -> int:
        """The device's timestamp; where it marks the frame's end, one interval earlier, the nearest there is."""
        now = stamp = time.monotonic_ns()
        if info.flags & 0xE000 == MONOTONIC:
            stamp = (info.timestamp.secs * 1_000_000 + info.timestamp.usecs) * 1000
        if info.flags & 0x70000 != START_OF_EXPOSURE:
            stamp -= self._mode.interval_ns
        # Only now: of a frame's end that a driver has reckoned ahead, the beginning is as regular as the device is.
        self._last_exposure = max(min(now, stamp), self._last_exposure + 1)
        return self._last_exposure
