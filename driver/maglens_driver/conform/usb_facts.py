# SPDX-License-Identifier: GPL-2.0-or-later
"""UsbFacts: what the kernel read of a USB device at enumeration, from sysfs; no request goes to the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maglens_driver import names

SYSFS_USB: Final = Path("/sys/bus/usb/devices")
_DT_CONFIG, _DT_INTERFACE, _DT_ENDPOINT = 2, 4, 5
_SUPER_SPEED_MBIT: Final = 5000
_UNIT_MA, _UNIT_SUPER_MA = 2, 8  # USB 2.0 table 9-10, USB 3.2 table 9-22


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """One endpoint of our interface: address with direction bit, bmAttributes, wMaxPacketSize, bInterval."""

    address: int
    attributes: int
    packet: int
    interval: int

    @property
    def is_bulk_in(self) -> bool:
        """Whether frames can come from it."""
        return bool(self.address & 0x80) and self.attributes & 3 == 2

    @property
    def is_interrupt_in(self) -> bool:
        """Whether events can come from it."""
        return bool(self.address & 0x80) and self.attributes & 3 == 3


@dataclass(frozen=True, slots=True)
class UsbFacts:
    """``interfaces``: how many carry our class triple in alternate setting 0; ``number`` and ``endpoints`` are of the
    first. ``text`` is its string, None where it has none."""

    port: str
    speed_mbit: int
    serial: str
    interfaces: int
    number: int
    text: str | None
    endpoints: tuple[EndpointFacts, ...]
    max_power_ma: int

    def bulk(self) -> EndpointFacts | None:
        """The first bulk IN endpoint."""
        return next((e for e in self.endpoints if e.is_bulk_in), None)

    def interrupt(self) -> EndpointFacts | None:
        """The first interrupt IN endpoint."""
        return next((e for e in self.endpoints if e.is_interrupt_in), None)


def _text(path: Path) -> str | None:
    return path.read_text(errors="replace").rstrip("\n") if path.is_file() else None


def read_facts(syspath: Path) -> UsbFacts:
    """Of the device at ``syspath``. Raises ``OSError`` when it has left."""
    raw = (syspath / "descriptors").read_bytes()
    speed = int(float(_text(syspath / "speed") or "0"))
    triple = (names.USB_CLASS, names.USB_SUBCLASS, names.USB_PROTOCOL)
    power, found, number, ours = 0, 0, -1, False
    endpoints: list[EndpointFacts] = []
    at = 0
    while at + 2 <= len(raw) and raw[at] >= 2:
        kind, one = raw[at + 1], raw[at : at + raw[at]]
        if kind == _DT_CONFIG and len(one) > 8 and not found:
            power = one[8]
        elif kind == _DT_INTERFACE and len(one) > 8:
            ours = tuple(one[5:8]) == triple and one[3] == 0
            found += ours
            if ours and found == 1:
                number = one[2]
        elif kind == _DT_ENDPOINT and len(one) > 6 and ours and found == 1:
            endpoints.append(EndpointFacts(one[2], one[3], int.from_bytes(one[4:6], "little") & 0x7FF, one[6]))
        at += raw[at]
    # Only the active configuration's interfaces are there. To read its number, the kernel takes the device's lock.
    interface = next(syspath.glob(f"{syspath.name}:*.{number}"), None)
    return UsbFacts(
        port=syspath.name,
        speed_mbit=speed,
        serial=_text(syspath / "serial") or "",
        interfaces=found,
        number=number,
        text=_text(interface / "interface") if interface is not None else None,
        endpoints=tuple(endpoints),
        max_power_ma=power * (_UNIT_SUPER_MA if speed >= _SUPER_SPEED_MBIT else _UNIT_MA),
    )
