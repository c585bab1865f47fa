# SPDX-License-Identifier: GPL-2.0-or-later
"""ModuleControl: the control requests as coroutines, in a thread of their own, each with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self, TypeVar

from maglens_driver.errors import Deadline, Gone
from maglens_driver.link import limits, wire
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.pd import PdMessage
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.libusb import LibusbTransport
from maglens_driver.usb.requests import Requests
from maglens_driver.usb.transport import Transport

T = TypeVar("T")

_OPEN_S: Final = 2.0  # opening a device file waits for the hub when that is busy with a reset
# libusb ends each request at its own limit. This is on top, for what is queued before it (the stream's FLUSH, a
# reading of the clock) and the hand-over between threads; beyond it the kernel holds the thread.
_GRACE_S: Final = 4 * limits.REPLY_S


class ModuleControl:
    """Requests to one module, one after the other.

    A hop into the thread and back costs as much as a request: :meth:`run` makes several requests in one hop.
    """

    def __init__(self, device: UsbDevice, transport: Transport | None = None) -> None:
        """Begins to open endpoint 0; what goes wrong with that shows in the first request."""
        self._port = device.port
        self._transport = transport or LibusbTransport(device)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"control-{device.port}")
        self._opening = self._executor.submit(lambda: Requests(self._transport.open_control()))
        self._info: wire.Info | None = None
        self._closed = False

    @classmethod
    async def open(cls, device: UsbDevice, transport: Transport | None = None) -> Self:
        """Open endpoint 0; no request is sent. Raises ``Gone``, ``Refused("ACCESS")``."""
        control = cls(device, transport)
        try:
            await _within(control._opening, _OPEN_S, device.port)
        except BaseException:
            await control.close()
            raise
        return control

    def submit(self, work: Callable[[Requests], T]) -> Future[T]:
        """Queue ``work`` for the control thread; any thread. After :meth:`close` the future fails with ``Gone``."""
        try:
            return self._executor.submit(lambda: work(self._opening.result()))
        except RuntimeError as error:
            failed: Future[T] = Future()
            gone = Gone(f"the module at port {self._port} was closed")
            gone.__cause__ = error
            failed.set_exception(gone)
            return failed

    async def run(self, work: Callable[[Requests], T], requests: int = 1) -> T:
        """Do ``work`` in the control thread, within the time that so many requests may take."""
        return await _within(self.submit(work), requests * limits.REPLY_S, self._port)

    async def info(self) -> wire.Info:
        """See :meth:`Requests.info`."""
        self._info = await self.run(Requests.info)
        return self._info

    async def descriptor(self) -> Descriptor:
        """See :meth:`Requests.descriptor`; asks for INFO first where that was not done."""
        info = self._info or await self.info()
        blocks = -(-info.descriptor_bytes // limits.DESCRIPTOR_BLOCK_BYTES)
        return await self.run(lambda r: r.descriptor(info), blocks)

    async def clock_sample(self) -> tuple[int, int, int]:
        """See :meth:`Requests.clock_sample`."""
        return await self.run(Requests.clock_sample)

    async def configure(self, want: wire.Configure) -> tuple[wire.Status, wire.Configured]:
        """See :meth:`Requests.configure`."""
        return await self.run(lambda r: r.configure(want))

    async def start(self, epoch: int) -> None:
        """See :meth:`Requests.start`."""
        await self.run(lambda r: r.start(epoch))

    async def stop(self) -> None:
        """See :meth:`Requests.stop`."""
        await self.run(Requests.stop)

    async def flush(self, epoch: int) -> None:
        """See :meth:`Requests.flush`."""
        await self.run(lambda r: r.flush(epoch))

    async def standby(self) -> None:
        """See :meth:`Requests.standby`."""
        await self.run(Requests.standby)

    async def controls(self) -> dict[int, int]:
        """See :meth:`Requests.controls`."""
        return await self.run(Requests.controls)

    async def set_controls(self, values: Mapping[int, int]) -> dict[int, int]:
        """See :meth:`Requests.set_controls`."""
        wanted = dict(values)
        return await self.run(lambda r: r.set_controls(wanted))

    async def power_send(self, message: PdMessage) -> None:
        """See :meth:`Requests.power_send`."""
        await self.run(lambda r: r.power_send(message))

    async def power_receive(self) -> PdMessage | None:
        """See :meth:`Requests.power_receive`."""
        return await self.run(Requests.power_receive)

    async def close(self) -> None:
        """Close the device, whoever gives up waiting for that. Idempotent."""
        if self._closed:
            return
        self._closed = True
        closing = self._executor.submit(self._close)
        self._executor.shutdown(wait=False)
        # Cancelling a wait takes back what the thread has not begun; this must be done all the same.
        await asyncio.shield(_within(closing, _OPEN_S, self._port))
        self._executor.shutdown()  # that was the thread's last work: it ends now

    def _close(self) -> None:
        if self._opening.exception() is None:
            self._opening.result().close()


async def _within(future: Future[T], limit_s: float, port: str) -> T:
    """Await ``future``; a thread that the kernel holds longer than libusb's own limit is a ``Deadline`` too."""
    try:
        async with asyncio.timeout(limit_s + _GRACE_S):
            return await asyncio.wrap_future(future)
    except TimeoutError as error:
        raise Deadline(f"port {port}: no answer within {limit_s + _GRACE_S:.2f} s") from error
