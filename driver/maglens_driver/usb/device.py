# SPDX-License-Identifier: GPL-2.0-or-later
"""UsbDevice: a USB device that says it is a module; and the rules by which it is recognised, from sysfs alone.

Nothing here talks to the device: what the kernel read at enumeration is enough, and a stranger that happens to use
our class triple must never see one of our requests.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
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
    """The kernel has published none of ``interfaces`` ("CONFIGURATION.NUMBER"): a uevent of one is still to come."""

    def __init__(self, interfaces: frozenset[str]) -> None:
        super().__init__(f"interface {' or '.join(sorted(interfaces))} is not published yet")
        self.interfaces = interfaces


class Vanished(Exception):
    """It was pulled off before it could be judged; its removal is still to come."""


class NotAModule(Exception):
    """Our class triple, but not one of ours; the text says why."""


@dataclass(frozen=True, slots=True)
class _Interface:
    configuration: int
    number: int
    max_power_units: int
    bulk: Endpoint | None = None
    interrupt: Endpoint | None = None

    @property
    def name(self) -> str:
        """As the kernel's directory of it ends."""
        return f"{self.configuration}.{self.number}"


def claims_class(interfaces: str) -> bool:
    """Whether udev's ID_USB_INTERFACES names our class triple."""
    return fnmatchcase(interfaces, names.UDEV_INTERFACE_GLOB)


def _candidates(raw: bytes) -> list[_Interface]:
    """The first interface with our triple of every configuration in the ``descriptors`` file of sysfs; raises
    ``NotAModule`` if that is cut. Of configurations with the same value the kernel sets the first."""
    at, found = _DEVICE.size, dict[int, _Interface]()
    configuration = power = 0
    open_for: int | None = None  # the configuration whose interface the endpoints that follow belong to
    while at + 2 <= len(raw):
        length, kind = raw[at], raw[at + 1]
        if length < 2 or at + length > len(raw):
            raise NotAModule(f"its USB descriptors are broken at byte {at}")
        if kind == _DT_CONFIG and length >= _CONFIG.size:
            configuration, power, open_for = raw[at + 5], raw[at + 8], None
        elif kind == _DT_INTERFACE and length >= _INTERFACE.size:
            number, alternate, *triple = raw[at + 2], raw[at + 3], *raw[at + 5 : at + 8]
            ours = triple == [names.USB_CLASS, names.USB_SUBCLASS, names.USB_PROTOCOL] and alternate == 0
            open_for = configuration if ours and configuration not in found else None
            if open_for is not None:
                found[open_for] = _Interface(configuration, number, power)
        elif kind == _DT_ENDPOINT and length >= _ENDPOINT.size and open_for is not None:
            found[open_for] = _with_endpoint(found[open_for], raw, at)
        at += length
    return list(found.values())


def _with_endpoint(interface: _Interface, raw: bytes, at: int) -> _Interface:
    _, _, address, attributes, packet, _ = _ENDPOINT.unpack_from(raw, at)
    endpoint = Endpoint(address, packet & _PACKET_MASK)
    kind = attributes & _TRANSFER_MASK
    bulk, interrupt = interface.bulk, interface.interrupt
    if address & _DIRECTION_IN and kind == _BULK:
        bulk = bulk or endpoint
    elif address & _DIRECTION_IN and kind == _INTERRUPT:
        interrupt = interrupt or endpoint
    return replace(interface, bulk=bulk, interrupt=interrupt)


def _attribute(path: Path) -> str | None:
    """A sysfs attribute as text, or None where there is none, or none any more (ENODEV)."""
    try:
        return path.read_text(errors="replace").rstrip("\n")
    except OSError:
        return None


def recognise(syspath: str, *, devnode: str, busnum: int, devnum: int, added_ns: int, final: bool) -> UsbDevice:
    """Decide from sysfs whether the device at ``syspath`` is a module.

    Raises ``NotYet`` while the interface is not published (never with ``final``), ``Vanished``, and ``NotAModule``
    with the reason when it is something else. Small files are read that need no lock of the kernel's; no request
    goes to the device.
    """
    root = Path(syspath)
    try:
        raw = (root / "descriptors").read_bytes()
    except OSError as error:
        raise Vanished(syspath) from error
    if len(raw) < _DEVICE.size:
        raise NotAModule("it has no USB descriptors")
    vendor, product = _DEVICE.unpack_from(raw)[7:9]
    candidates = _candidates(raw)
    if not candidates:
        raise NotAModule("it has no maglens interface")
    interface, text = candidates[0], None
    for candidate in candidates:
        # Only the active configuration's interfaces have directories. Its number is not asked for: the kernel takes
        # the device's lock to tell it, which a device can have held for seconds while it is enumerated.
        if (text := _attribute(root / f"{root.name}:{candidate.name}" / "interface")) is not None:
            interface = candidate
            break
    if text is None and not final:
        raise NotYet(frozenset(candidate.name for candidate in candidates))
    if text != names.USB_INTERFACE_STRING:
        raise NotAModule(f"its interface is named {text!r}, not {names.USB_INTERFACE_STRING!r}: a stranger")
    if interface.bulk is None or interface.interrupt is None:
        raise NotAModule("it lacks a bulk IN or an interrupt IN endpoint")
    if not (interface.bulk.max_packet and interface.interrupt.max_packet):
        raise NotAModule("one of its endpoints has packets of 0 bytes")
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
