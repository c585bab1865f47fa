# SPDX-License-Identifier: GPL-2.0-or-later
"""Loopback node: v4l2loopback as the node. The degraded mode: one reader, no controls, one format.

Pictures are written into the device's own mapped buffers and queued with their timestamp. v4l2loopback lets readers
look into those very buffers and tracks neither side's use of them, so a buffer lent to a source would be written
while a reader that lags still shows it. Leases are therefore memory of ours, copied into the next buffer when
submitted: a reader may lag by all buffers but one and never sees half of another picture. (``write`` would copy too,
took four times as long for 1080p in the emulated test machine, and cannot carry the time of exposure.)

What an app sees when the daemon dies: ``keep_format`` stays set, so the device remains a camera of the same format,
no error is reported, and reading waits (poll times out) until the next daemon adopts the same device; there is no
picture in between. Only the kernel node can give one.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import select
import threading
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import count

from maglens_driver.errors import WrongState
from maglens_driver.frame import Frame
from maglens_driver.mode import Mode
from maglens_driver.names import NODE_CARD_NAME
from maglens_v4l2 import loopback_control, v4l2
from maglens_v4l2._pixels import copy
from maglens_v4l2.node import ControlChange, InputInfo, NodeCaps, NodeState, UsageChanged
from maglens_v4l2.node_base import NodeBase
from maglens_v4l2.pool import BufferPool

BUFFERS = 16  # half a second at 30 fps: how far a reader may lag before v4l2loopback skips it to the newest
LEASES = 8  # frames a source may have in hand
MAX_SIDE = 16384  # v4l2loopback's default of 8192 is less than a 100-megapixel sensor's width

log = logging.getLogger(__name__)


class LoopbackNode(NodeBase):
    """A :class:`maglens_v4l2.node.Node` on a v4l2loopback device."""

    @classmethod
    def create(cls, mode: Mode, name: str = NODE_CARD_NAME) -> LoopbackNode:
        """Adopt the device named ``name``, or make one where v4l2loopback can (0.15 and later).

        Raises ``MissingDependency`` when there is neither, ``WrongState`` when another program feeds the device.
        """
        path = loopback_control.find(name)
        if path is None:
            path = loopback_control.create(name, BUFFERS, max(MAX_SIDE, mode.width), max(MAX_SIDE, mode.height))
        return cls(path, mode)

    def __init__(self, path: str, mode: Mode) -> None:
        """Become the producer of ``path``. While an app holds it in another format, that format stays."""
        super().__init__()
        self._path = path
        self._lock = threading.Lock()
        self._tokens = count(1)
        self._last: tuple[int, int] | None = None  # the buffer shown last, and bytes in it
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._maps: list[mmap.mmap] = []
        try:
            self._format = self._set_format(mode)
            self._map_buffers()
            v4l2.stream(self._fd, v4l2.BUF_TYPE_VIDEO_OUTPUT, True)
            loopback_control.keep_format(self._fd, True)
            self._usage = loopback_control.subscribe_usage(self._fd)
        except BaseException:
            self._unmap()
            os.close(self._fd)
            raise
        self._contents = [0] * len(self._maps)  # which picture each buffer holds
        self._streamers = 0 if self._usage else 1
        self._poll = self._readable = select.epoll()
        self._poll.register(self._fd, select.EPOLLPRI)
        self._lender = BufferPool(LEASES, self._format.nbytes)

    @property
    def path(self) -> str:
        return self._path

    @property
    def caps(self) -> NodeCaps:
        return NodeCaps(
            controls=False,
            many_readers=False,
            outlives_daemon=False,
            fixed_format=True,
            inputs=False,
            usage=self._usage,
            idle_fill=True,
        )

    @property
    def formats(self) -> Sequence[Mode]:
        return (self._format,)

    def state(self) -> NodeState:
        self._read_events()
        return NodeState(
            format=self._format,
            locked=self._usage and self._streamers > 0,
            openers=None,
            streamers=self._streamers,
            input=0,
            generation=self._generation,
        )

    def adopt(self) -> int:
        with self._lock:
            self._generation += 1
            return self._generation

    def submit(self, frame: Frame) -> bool:
        try:
            with self._lock:
                self._check_open()
                if frame.generation != self._generation or frame.mode != self._format:
                    return False
                index = self._next_buffer()
                copy(frame.lease.view, self._maps[index], frame.nbytes)
                self._contents[index] = next(self._tokens)
                self._last = (index, frame.nbytes)
                self._queue(index, frame.nbytes, frame.exposure_ns)
                return True
        finally:
            frame.lease.release()

    @property
    def filled(self) -> int:
        return 0  # v4l2loopback only repeats what its owner writes

    def repeat(self, exposure_ns: int, generation: int) -> bool:
        """A picture is copied only into buffers that do not hold it yet: a card that stands costs nothing."""
        with self._lock:
            self._check_open()
            if generation != self._generation or self._last is None:
                return False
            last, nbytes = self._last
            index = self._next_buffer()
            if self._contents[index] != self._contents[last]:
                copy(self._maps[last], self._maps[index], nbytes)
                self._contents[index] = self._contents[last]
            self._last = (index, nbytes)
            self._queue(index, nbytes, exposure_ns)
            return True

    def placeholder(self, image: bytes, format: Mode) -> None:
        """v4l2loopback's own filler repeats old timestamps, which breaks recordings: it is not used."""

    def push(self, generation: int, control: int, change: ControlChange) -> None:
        """Apps see no controls here."""

    def push_inputs(self, inputs: Sequence[InputInfo]) -> None:
        """Apps see one input here."""

    def close(self) -> None:
        """The device stays, for the next daemon. Without a reader it turns back into an output, which apps do not
        list; under one it stays a camera."""
        with self._lock:
            if self._closed:
                return
            self._read_events()
            loopback_control.keep_format(self._fd, self._streamers > 0)
            v4l2.stream(self._fd, v4l2.BUF_TYPE_VIDEO_OUTPUT, False)
            self._closed = True
            self._unmap()
            self._poll.close()
            os.close(self._fd)
        self._events.close()

    def _set_format(self, mode: Mode) -> Mode:
        """The format that apps will get: ``mode``, unless a reader holds the device in another."""
        got = self._try_format(mode)
        if not _same_picture(got, mode):
            # Kept from a daemon before; it can only be let go while no reader needs it.
            loopback_control.keep_format(self._fd, False)
            got = self._try_format(mode)
        if not _same_picture(got, mode):
            log.warning("an app has %s open: it stays %s, not %s", self._path, got.describe(), mode.describe())
        parm = v4l2.StreamParm(type=v4l2.BUF_TYPE_VIDEO_OUTPUT)
        parm.parm.capture.timeperframe = v4l2.Fract(mode.interval.numerator, mode.interval.denominator)
        v4l2.call(self._fd, v4l2.VIDIOC_S_PARM, parm)
        rate = parm.parm.capture.timeperframe
        return replace(got, interval=Fraction(rate.numerator, rate.denominator))

    def _try_format(self, mode: Mode) -> Mode:
        wanted = v4l2.format_of(v4l2.BUF_TYPE_VIDEO_OUTPUT, mode)
        try:
            v4l2.call(self._fd, v4l2.VIDIOC_S_FMT, wanted)
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EINVAL):  # EINVAL: it is no output while another one streams
                raise WrongState(
                    f"another program feeds {self._path}", hint=f"systemctl status maglensd; fuser -v {self._path}"
                ) from error
            raise
        return v4l2.mode_of(wanted, mode.interval)

    def _map_buffers(self) -> None:
        """A reader that is there already has settled how many buffers there are."""
        request = v4l2.RequestBuffers(count=BUFFERS, type=v4l2.BUF_TYPE_VIDEO_OUTPUT, memory=v4l2.MEMORY_MMAP)
        v4l2.call(self._fd, v4l2.VIDIOC_REQBUFS, request)
        for index in range(request.count):
            buffer = v4l2.Buffer(index=index, type=v4l2.BUF_TYPE_VIDEO_OUTPUT, memory=v4l2.MEMORY_MMAP)
            v4l2.call(self._fd, v4l2.VIDIOC_QUERYBUF, buffer)
            self._maps.append(mmap.mmap(self._fd, buffer.length, offset=buffer.m.offset))
        self._buffer = v4l2.Buffer()

    def _unmap(self) -> None:
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()

    def _next_buffer(self) -> int:
        """The buffer that was shown longest ago; never waits."""
        self._prepare()
        v4l2.call(self._fd, v4l2.VIDIOC_DQBUF, self._buffer)
        return self._buffer.index

    def _queue(self, index: int, nbytes: int, exposure_ns: int) -> None:
        self._prepare()
        self._buffer.index, self._buffer.bytesused, self._buffer.field = index, nbytes, v4l2.FIELD_NONE
        self._buffer.timestamp.tv_sec, self._buffer.timestamp.tv_usec = v4l2.timeval(exposure_ns)
        v4l2.call(self._fd, v4l2.VIDIOC_QBUF, self._buffer)

    def _prepare(self) -> None:
        self._buffer.flags = 0
        self._buffer.type, self._buffer.memory = v4l2.BUF_TYPE_VIDEO_OUTPUT, v4l2.MEMORY_MMAP

    def _read_events(self) -> None:
        """Take over what v4l2loopback says of readers: it counts none or one."""
        seen = None
        while self._usage and not self._closed:
            usage = loopback_control.next_usage(self._fd)
            if usage is None:
                break
            seen = usage
        if seen is not None and seen != self._streamers:
            self._streamers = seen
            self._events.post(UsageChanged(self._generation, seen, None))


def _same_picture(a: Mode, b: Mode) -> bool:
    return (a.fourcc, a.width, a.height, a.stride) == (b.fourcc, b.width, b.height, b.stride)
