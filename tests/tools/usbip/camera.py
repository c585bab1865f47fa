# SPDX-License-Identifier: GPL-2.0-or-later
"""Camera: serves one host over a USB/IP socket: control requests at once, frames at their time."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from maglens_driver.mode import Mode
from maglens_driver.virtual.mark import Mark
from tests.tools import stamp
from tests.tools.usbip import descriptors
from tests.tools.usbip.descriptors import Identity, Speed, Uvc
from tests.tools.usbip.device import Stall, UvcDevice
from tests.tools.usbip.payload import HEADER_BYTES, FrameClock, payloads
from tests.tools.usbip.picture import Picture
from tests.tools.usbip.protocol import Decoder, Errno, Submit, Unlink, submitted, unlinked

MARK_SOURCE: Final = 0x55
"""Which source the marks in the pictures name."""

_RECEIVE_BYTES: Final = 1 << 16


class Camera:
    """One camera and the socket to the kernel that has it plugged in. For measuring, one that is not ``paced`` sends
    as fast as it is asked, and a ``stamped`` picture says when it was taken in place of the beginning of its mark."""

    def __init__(
        self,
        link: socket.socket,
        speed: Speed,
        uvc: Uvc,
        identity: Identity | None = None,
        *,
        paced: bool = True,
        stamped: bool = False,
    ) -> None:
        self._link = link
        self._decoder = Decoder()
        self._device = UvcDevice(speed, uvc, self._stream, self._controlled, identity)
        self._payload_bytes = descriptors.payload_bytes(speed)
        self._waiting: deque[Submit] = deque()  # URBs for frames to come
        self._sending: Iterator[tuple[bytes, memoryview]] | None = None
        self._picture: Picture | None = None
        self._clock: FrameClock | None = None
        self._streams = 0
        self._paced = paced
        self._stamped = stamped

    def serve(self) -> None:
        """Until the host unplugs it."""
        poller = select.poll()
        poller.register(self._link, select.POLLIN)
        while True:
            if poller.poll(self._wait_ms()):
                data = self._link.recv(_RECEIVE_BYTES)
                if not data:
                    return
                for message in self._decoder.feed(data):
                    self._handle(message)
            self._fill()

    def _wait_ms(self) -> int | None:
        """How long nothing is to be done but to listen; None: for ever."""
        if self._clock is None or not self._waiting:
            return None
        return max(0, -(-(self._clock.due_ns() - time.monotonic_ns()) // 1_000_000))

    def _handle(self, message: Submit | Unlink) -> None:
        if isinstance(message, Unlink):
            found = next((urb for urb in self._waiting if urb.seqnum == message.target), None)
            if found is not None:
                self._waiting.remove(found)
            self._link.sendall(unlinked(message.seqnum, Errno.OK if found is None else Errno.CONNRESET))
        elif message.endpoint == 0:
            self._control(message)
        elif message.to_host and message.endpoint == descriptors.STREAM_ENDPOINT & 0x0F:
            self._waiting.append(message)
        else:
            self._link.sendall(submitted(message.seqnum, Errno.PIPE, 0))

    def _control(self, urb: Submit) -> None:
        try:
            reply = self._device.control(urb.setup, urb.data)
        except Stall:
            self._link.sendall(submitted(urb.seqnum, Errno.PIPE, 0))
            return
        actual = len(reply) if urb.to_host else len(urb.data)
        self._link.sendall(submitted(urb.seqnum, Errno.OK, actual) + reply)

    def _fill(self) -> None:
        """Send what is due, as far as the host has asked for it."""
        while self._waiting and self._picture is not None and self._clock is not None:
            if self._sending is None:
                now = time.monotonic_ns()
                if now < self._clock.due_ns():
                    return
                number = self._clock.take(now)
                frame = self._picture.frame(Mark.wrapped(MARK_SOURCE, self._streams, number))
                if self._stamped and isinstance(frame, bytearray):
                    stamp.put(frame, now)
                self._sending = payloads(frame, number, self._payload_bytes)
            piece = next(self._sending, None)
            if piece is None:
                self._sending = None
                continue
            urb = self._waiting.popleft()
            header, data = piece
            size = min(urb.length, HEADER_BYTES + len(data))
            self._link.sendall(submitted(urb.seqnum, Errno.OK, size) + header)
            self._link.sendall(data[: size - HEADER_BYTES])

    def _stream(self, mode: Mode | None) -> None:
        self._sending = None
        if mode is None:
            self._picture = self._clock = None
            return
        self._streams += 1
        self._picture = Picture(mode, self._device.values)
        self._clock = FrameClock(mode.interval_ns if self._paced else 0, time.monotonic_ns())

    def _controlled(self, values: dict[str, int]) -> None:
        if self._picture is not None:
            self._picture.apply(values)
