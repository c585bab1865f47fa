# SPDX-License-Identifier: GPL-2.0-or-later
"""LibusbTransport: pyusb for control requests, python-libusb1 for asynchronous transfers."""

from __future__ import annotations

import errno
import functools
import logging
import os
import time
from array import array
from pathlib import Path
from typing import Any, Final

import usb.backend.libusb1
import usb.core
import usb.util
import usb1

from maglens_driver.errors import BadModule, Deadline, Gone, MaglensError, MissingDependency, Refused
from maglens_driver.link import wire
from maglens_driver.link.limits import MAX_CONTROL_BYTES
from maglens_driver.packages import Need, install
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.transport import Done, NoTransferMemory, Outcome

log = logging.getLogger(__name__)

USBFS_MEMORY: Final = Path("/sys/module/usbcore/parameters/usbfs_memory_mb")
_GET_STATUS_REQUEST: Final = (0x80, 0x00)  # to the device; every USB device answers it (USB 2.0, 9.4.5)
_PROBE_MS: Final = 100
LISTED_S: Final = 1.0  # libusb hears of a device by a socket of its own; below control._OPEN_S
_LIST_AGAIN_S: Final = 0.005
_NO_DISCOVERY_SINCE: Final = (1, 0, 27)  # libusb_init_context with NO_DEVICE_DISCOVERY
_ACCESS_HINT: Final = "maglens doctor"

_OUTCOMES: Final = {
    usb1.TRANSFER_COMPLETED: Outcome.COMPLETED,
    usb1.TRANSFER_CANCELLED: Outcome.CANCELLED,
    usb1.TRANSFER_NO_DEVICE: Outcome.GONE,
    usb1.TRANSFER_STALL: Outcome.HALTED,
    usb1.TRANSFER_ERROR: Outcome.FAILED,
    usb1.TRANSFER_OVERFLOW: Outcome.FAILED,
    usb1.TRANSFER_TIMED_OUT: Outcome.FAILED,
}


def _find_library(_name: str) -> str:
    """The run-time name of libusb. pyusb's own search starts ``ldconfig`` and a compiler, each time."""
    return "libusb-1.0.so.0"


@functools.cache
def libusb_backend() -> Any:
    """pyusb's backend, made once. Making it lists all devices: do that before a module comes."""
    backend = usb.backend.libusb1.get_backend(find_library=_find_library)
    if backend is None:
        raise MissingDependency("libusb 1.0 is not installed", hint=install(Need.LIBUSB))
    return backend


def _gone(device: UsbDevice) -> Gone:
    return Gone(f"the module at port {device.port} was unplugged")


def _no_access(device: UsbDevice) -> Refused:
    return Refused("ACCESS", f"no permission to open {device.devnode} (port {device.port})", hint=_ACCESS_HINT)


class PyusbControl:
    """Endpoint 0 by pyusb. Needs no claim, so a program that streams and a tool that asks can live side by side."""

    def __init__(self, device: UsbDevice) -> None:
        self._device = device
        self._buffer = array("B", bytes(MAX_CONTROL_BYTES))
        self._handle = _find(device)

    def read(self, request: int, value: int, timeout_s: float) -> bytes:
        """See :class:`~maglens_driver.usb.transport.ControlPipe`."""
        count = self._transfer(wire.REQUEST_IN, request, value, self._buffer, timeout_s)
        return bytes(memoryview(self._buffer)[:count])

    def write(self, request: int, value: int, data: bytes, timeout_s: float) -> None:
        """See :class:`~maglens_driver.usb.transport.ControlPipe`."""
        self._transfer(wire.REQUEST_OUT, request, value, array("B", data), timeout_s)

    def _transfer(self, kind: int, request: int, value: int, data: array[int], timeout_s: float) -> int:
        try:
            return int(
                self._handle.ctrl_transfer(
                    kind, request, value, self._device.interface_number, data, max(1, round(timeout_s * 1000))
                )
            )
        except usb.core.USBError as error:
            raise self._translate(error, f"request {request:#04x}", timeout_s) from error

    def _translate(self, error: usb.core.USBError, what: str, timeout_s: float) -> MaglensError:
        port = self._device.port
        if error.errno in (errno.ENODEV, errno.ENOENT):
            return _gone(self._device)
        if error.errno == errno.EACCES:
            return _no_access(self._device)
        if error.errno == errno.ETIMEDOUT:
            return Deadline(f"port {port}: no answer to {what} within {timeout_s * 1000:.0f} ms")
        if error.errno == errno.EPIPE:
            return BadModule("control_stall", f"port {port}: the module stalled {what}")
        if not self._is_there():
            return _gone(self._device)
        return BadModule("control_io", f"port {port}: {what} failed on the bus: {error}")

    def _is_there(self) -> bool:
        """Whether the device still answers: after an unplug the bus reports errors before the kernel lets go."""
        try:
            self._handle.ctrl_transfer(*_GET_STATUS_REQUEST, 0, 0, 2, _PROBE_MS)
        except usb.core.USBError:
            return False
        return True

    def close(self) -> None:
        """See :class:`~maglens_driver.usb.transport.ControlPipe`."""
        usb.util.dispose_resources(self._handle)


def _find(device: UsbDevice) -> usb.core.Device:
    """pyusb's object for a device. Blocks for ``LISTED_S`` at most, while it is there and libusb does not know it.
    Raises ``Gone``, and ``Deadline`` for a device that is there and that libusb does not list."""
    backend, began, waited = libusb_backend(), time.monotonic(), False
    while (found := _listed(backend, device)) is None:
        if not os.path.exists(device.devnode):
            raise _gone(device)
        if time.monotonic() - began > LISTED_S:
            raise Deadline(
                f"port {device.port}: libusb has not listed {device.devnode} within {LISTED_S:g} s",
                hint="sudo systemctl restart maglensd",
            )
        waited = True
        # Not an event that can be awaited: the list changes when libusb's own thread has read its own socket, and its
        # hot-plug callback, which would tell, is not in pyusb's backend.
        time.sleep(_LIST_AGAIN_S)
    if waited:
        log.debug("port %s: libusb listed it %.0f ms late", device.port, (time.monotonic() - began) * 1000)
    return found


def _listed(backend: Any, device: UsbDevice) -> usb.core.Device | None:
    """By bus and address. ``usb.core.find`` would read every device's descriptor."""
    for candidate in backend.enumerate_devices():
        devid = candidate.devid
        if (
            backend.lib.libusb_get_device_address(devid) == device.devnum
            and backend.lib.libusb_get_bus_number(devid) == device.busnum
        ):
            return usb.core.Device(candidate, backend)
    return None


class Usb1Transfer:
    """One python-libusb1 transfer."""

    def __init__(self, transfer: Any, device: UsbDevice, scratch: bytearray) -> None:
        self._transfer = transfer
        self._device = device
        self._scratch = scratch
        self._buffer: Any = None

    def submit(self, view: memoryview) -> None:
        """See :class:`~maglens_driver.usb.transport.Transfer`."""
        if view is not self._buffer:
            self._transfer.setBuffer(view)
            self._buffer = view
        try:
            self._transfer.submit()
        except (usb1.USBErrorNoDevice, usb1.USBErrorIO, usb1.USBErrorNotFound) as error:
            raise _gone(self._device) from error
        except usb1.USBErrorNoMem as error:
            raise NoTransferMemory(
                f"port {self._device.port}: the kernel refuses {len(view)} more bytes for USB transfers",
                hint=f"echo 128 | sudo tee {USBFS_MEMORY}",
            ) from error

    def cancel(self) -> None:
        """See :class:`~maglens_driver.usb.transport.Transfer`."""
        if self._transfer.isSubmitted():
            try:
                self._transfer.cancel()
            except (usb1.USBErrorNotFound, usb1.USBErrorNoDevice):
                log.debug("port %s: a transfer ended before it could be cancelled", self._device.port)

    def forget(self) -> None:
        """See :class:`~maglens_driver.usb.transport.Transfer`."""
        if self._buffer is not None:
            self._transfer.setBuffer(self._scratch)
            self._buffer = None

    def close(self) -> None:
        """See :class:`~maglens_driver.usb.transport.Transfer`."""
        self._transfer.close()


class Usb1Stream:
    """Asynchronous transfers by python-libusb1, in a libusb context of their own.

    A context per module: threads of different modules then never handle each other's events. It does not look for
    devices; it is given an open file of the one it serves.
    """

    def __init__(self, device: UsbDevice) -> None:
        self._device = device
        self._scratch = bytearray(1)
        self._file = _open_node(device)
        try:
            discovery = tuple(usb1.getVersion()[:3]) < _NO_DISCOVERY_SINCE
            self._context = usb1.USBContext(with_device_discovery=discovery).open()
        except usb1.USBError as error:
            os.close(self._file)
            raise Refused(
                "LIBUSB", f"port {device.port}: libusb does not begin: {error}", hint=_ACCESS_HINT
            ) from error
        except BaseException:
            os.close(self._file)
            raise
        try:
            self._handle = self._context.wrapSysDevice(self._file)
            self._handle.claimInterface(device.interface_number)
        except usb1.USBError as error:
            self._context.close()
            os.close(self._file)
            raise _claim_error(device, error) from error

    def transfer(self, endpoint: int, done: Done) -> Usb1Transfer:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        return self._make("setBulk", endpoint, done)

    def interrupt_transfer(self, endpoint: int, done: Done) -> Usb1Transfer:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        return self._make("setInterrupt", endpoint, done)

    def _make(self, setup: str, endpoint: int, done: Done) -> Usb1Transfer:
        def completed(transfer: Any) -> None:
            done(_OUTCOMES[transfer.getStatus()], transfer.getActualLength())

        transfer = self._handle.getTransfer()
        getattr(transfer, setup)(endpoint, self._scratch, callback=completed)
        return Usb1Transfer(transfer, self._device, self._scratch)

    def run(self, timeout_s: float) -> None:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        try:
            self._context.handleEventsTimeout(timeout_s)
        except usb1.USBErrorInterrupted:
            log.debug("port %s: a signal interrupted the event loop", self._device.port)

    def wake(self) -> None:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        self._context.interruptEventHandler()

    def clear_halt(self, endpoint: int) -> None:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`. usbfs allows it only to the one who claimed."""
        try:
            self._handle.clearHalt(endpoint)
        except usb1.USBError as error:
            raise _gone(self._device) from error

    def close(self) -> None:
        """See :class:`~maglens_driver.usb.transport.StreamPipe`."""
        try:
            self._handle.releaseInterface(self._device.interface_number)
        except usb1.USBError as error:
            log.debug("port %s: the interface went with the device: %s", self._device.port, error)
        self._context.close()
        os.close(self._file)


def _open_node(device: UsbDevice) -> int:
    try:
        return os.open(device.devnode, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError as error:
        raise _no_access(device) from error
    except OSError as error:
        raise _gone(device) from error


def _claim_error(device: UsbDevice, error: usb1.USBError) -> MaglensError:
    if isinstance(error, usb1.USBErrorBusy):
        return Refused(
            "CLAIMED",
            f"another program uses the module at port {device.port}",
            hint=f"fuser -v {device.devnode}",
        )
    if isinstance(error, usb1.USBErrorAccess):
        return _no_access(device)
    return _gone(device)


class LibusbTransport:
    """Both pipes of one device by libusb."""

    def __init__(self, device: UsbDevice) -> None:
        self._device = device

    def open_control(self) -> PyusbControl:
        """See :class:`~maglens_driver.usb.transport.Transport`."""
        return PyusbControl(self._device)

    def open_stream(self) -> Usb1Stream:
        """See :class:`~maglens_driver.usb.transport.Transport`."""
        return Usb1Stream(self._device)

    def transfer_memory(self) -> int | None:
        """See :class:`~maglens_driver.usb.transport.Transport`."""
        try:
            mebibytes = int(USBFS_MEMORY.read_text())
        except FileNotFoundError:
            return None
        return mebibytes * 1024 * 1024 or None
