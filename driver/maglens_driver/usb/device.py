# SPDX-License-Identifier: GPL-2.0-or-later
"""UsbDevice: a USB device that says it is a module; and the rules by which it is recognised, from sysfs alone.

Nothing here talks to the device: what the kernel read at enumeration is enough, and a stranger that happens to use
our class triple must never see one of our requests.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from maglens_driver import names

_DEVICE: Final = struct.Struct("<BBHBBBBHHHBBBB")
_CONFIG: Final = struct.Struct("<BBHBBBBB")
_INTERFACE: Final = struct.Struct("<BBBBBBBBB")
_ENDPOINT: Final = struct.Struct("<BBBBHB")
_DT_CONFIG, _DT_INTERFACE, _DT_ENDPOINT = 2, 4, 5
_TRANSFER_MASK, _BULK, _INTERRUPT = 3, 2, 3
_DIRECTION_IN = 0x80
_PACKET_MASK = 0x7FF
_SUPER_SPEED_MBIT = 5000
_POWER_UNIT_MA, _POWER_UNIT_SUPER_MA = 2, 8  # USB 2.0 table 9-10, USB 3.2 table 9-22


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address with its direction bit, and largest packet in bytes."""

    address: int
    max_packet: int


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """One module as the kernel sees it.

    ``port`` is the kernel's name of the place ("1-2.3"), the same every time something is plugged in there;
    ``speed_mbit`` is the link as trained; ``max_power_ma`` is bMaxPower in mA; ``added_ns`` is CLOCK_MONOTONIC when
    its uevent was seen.
    """

    syspath: str
    port: str
    busnum: int
    devnum: int
    speed_mbit: int
    devnode: str
    interface_number: int
    max_power_ma: int
    vendor: int
    product: int
    added_ns: int
    bulk: Endpoint
    interrupt: Endpoint


class NotYet(Exception):
    """The kernel has not published interface ``number``: its own uevent is still to come."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interface {number} is not published yet")
        self.number = number


class Vanished(Exception):
    """It was pulled off before it could be judged; its removal is still to come."""


class NotAModule(Exception):
    """Our class triple, but not one of ours; the text says why."""


@dataclass(frozen=True, slots=True)
class _Interface:
    number: int
    max_power_units: int
    bulk: Endpoint | None
    interrupt: Endpoint | None


def claims_class(interfaces: str) -> bool:
    """Whether udev's ID_USB_INTERFACES names our class triple."""
    return fnmatchcase(interfaces, names.UDEV_INTERFACE_GLOB)


def _find_interface(raw: bytes) -> _Interface | None:
    """First interface with our triple in the ``descriptors`` file of sysfs; raises ``NotAModule`` if that is cut."""
    at, power, found = _DEVICE.size, 0, None
    while at + 2 <= len(raw):
        length, kind = raw[at], raw[at + 1]
        if length < 2 or at + length > len(raw):
            raise NotAModule(f"its USB descriptors are broken at byte {at}")
        if kind == _DT_CONFIG and length >= _CONFIG.size:
            power = raw[at + 8] if length > 8 else 0
        elif kind == _DT_INTERFACE and length >= _INTERFACE.size:
            if found is not None:
                return found
            number, alternate, klass, subclass, protocol = raw[at + 2], raw[at + 3], *raw[at + 5 : at + 8]
            triple = (names.USB_CLASS, names.USB_SUBCLASS, names.USB_PROTOCOL)
            if (klass, subclass, protocol) == triple and alternate == 0:
                found = _Interface(number, power, None, None)
        elif kind == _DT_ENDPOINT and length >= _ENDPOINT.size and found is not None:
            found = _with_endpoint(found, raw, at)
        at += length
    return found


def _with_endpoint(interface: _Interface, raw: bytes, at: int) -> _Interface:
    _, _, address, attributes, packet, _ = _ENDPOINT.unpack_from(raw, at)
    endpoint = Endpoint(address, packet & _PACKET_MASK)
    kind = attributes & _TRANSFER_MASK
    bulk, interrupt = interface.bulk, interface.interrupt
    if address & _DIRECTION_IN and kind == _BULK:
        bulk = bulk or endpoint
    elif address & _DIRECTION_IN and kind == _INTERRUPT:
        interrupt = interrupt or endpoint
    return _Interface(interface.number, interface.max_power_units, bulk, interrupt)


def _attribute(path: Path) -> str | None:
    """A sysfs attribute as text, or None where there is none."""
    try:
        return path.read_text(errors="replace").rstrip("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None


def recognise(syspath: str, *, devnode: str, busnum: int, devnum: int, added_ns: int, final: bool) -> UsbDevice:
    """Decide from sysfs whether the device at ``syspath`` is a module.

    Raises ``NotYet`` while the interface is not published (never with ``final``), ``Vanished``, and ``NotAModule``
    with the reason when it is something else. Four small files are read; no request goes to the device.
    """
    root = Path(syspath)
    try:
        raw = (root / "descriptors").read_bytes()
    except OSError as error:
        raise Vanished(syspath) from error
    if len(raw) < _DEVICE.size:
        raise NotAModule("it has no USB descriptors")
    vendor, product = _DEVICE.unpack_from(raw)[7:9]
    interface = _find_interface(raw)
    if interface is None:
        raise NotAModule("it has no maglens interface")
    configuration = (_attribute(root / "bConfigurationValue") or "").strip()
    text = None
    if configuration:
        text = _attribute(root / f"{root.name}:{configuration}.{interface.number}" / "interface")
    if text is None and not final:
        raise NotYet(interface.number)
    if text != names.USB_INTERFACE_STRING:
        raise NotAModule(f"its interface is named {text!r}, not {names.USB_INTERFACE_STRING!r}: a stranger")
    if interface.bulk is None or interface.interrupt is None:
        raise NotAModule("it lacks a bulk IN or an interrupt IN endpoint")
    speed = int(float(_attribute(root / "speed") or "0"))  # "1.5" is low speed
    unit = _POWER_UNIT_SUPER_MA if speed >= _SUPER_SPEED_MBIT else _POWER_UNIT_MA
    return UsbDevice(
        syspath=syspath,
        port=root.name,
        busnum=busnum,
        devnum=devnum,
        speed_mbit=speed,
        devnode=devnode,
        interface_number=interface.number,
        max_power_ma=interface.max_power_units * unit,
        vendor=vendor,
        product=product,
        added_ns=added_ns,
        bulk=interface.bulk,
        interrupt=interface.interrupt,
    )
