# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel read at enumeration: class, name, endpoints, power."""

from __future__ import annotations

from typing import Final

from maglens_driver import names
from maglens_driver.conform.check import Group, Skipped, expect
from maglens_driver.conform.specimen import Specimen
from maglens_driver.link.payload import usable_mbit
from maglens_driver.link.wire import Event

USB: Final = Group("usb")
_SPEEDS: Final = {12: 64, 480: 512, 5000: 1024, 10_000: 1024, 20_000: 1024}  # Mbit/s: a bulk packet
_EVENT_PACKET: Final = 64
_MAX_BEFORE_CONTRACT_MA: Final = 500


@USB.check("class", "an interface of class ff, subclass 53, protocol 01 in alternate setting 0")
def _class(s: Specimen) -> None:
    expect(s.facts.interfaces > 0, "it has no such interface")


@USB.check("one_interface", "no second interface of that class")
def _one(s: Specimen) -> None:
    expect(s.facts.interfaces <= 1, f"it has {s.facts.interfaces}")


@USB.check("interface_string", f"the interface's string reads {names.USB_INTERFACE_STRING}, exactly")
def _string(s: Specimen) -> None:
    expect(s.facts.text == names.USB_INTERFACE_STRING, f"it reads {s.facts.text!r}")


@USB.check("bulk_in", "a bulk IN endpoint for the stream")
def _bulk(s: Specimen) -> None:
    expect(s.facts.bulk() is not None, "there is none")


@USB.check("interrupt_in", "an interrupt IN endpoint for events")
def _interrupt(s: Specimen) -> None:
    expect(s.facts.interrupt() is not None, "there is none")


@USB.check("bulk_packet", "the bulk endpoint's packet is that of the bus's speed")
def _bulk_packet(s: Specimen) -> None:
    endpoint, speed = s.facts.bulk(), s.facts.speed_mbit
    if endpoint is None or speed not in _SPEEDS:
        raise Skipped(f"no bulk endpoint at a known speed ({speed} Mbit/s)")
    expect(endpoint.packet == _SPEEDS[speed], f"{endpoint.packet} bytes at {speed} Mbit/s, not {_SPEEDS[speed]}")


@USB.check("interrupt_packet", f"an event of {Event.SIZE} bytes fits into a packet of the interrupt endpoint")
def _interrupt_packet(s: Specimen) -> None:
    endpoint = s.facts.interrupt()
    if endpoint is None:
        raise Skipped("no interrupt endpoint")
    expect(endpoint.packet >= Event.SIZE, f"its packet holds {endpoint.packet} bytes")


@USB.check(
    "interrupt_room", f"that packet has room for longer events of later versions: {_EVENT_PACKET}", should=True
)
def _interrupt_room(s: Specimen) -> None:
    endpoint = s.facts.interrupt()
    if endpoint is None:
        raise Skipped("no interrupt endpoint")
    expect(endpoint.packet >= _EVENT_PACKET, f"its packet holds {endpoint.packet} bytes")


@USB.check("speed", "full speed or faster")
def _speed(s: Specimen) -> None:
    expect(s.facts.speed_mbit >= min(_SPEEDS), f"{s.facts.speed_mbit} Mbit/s")


@USB.check("max_power", f"bMaxPower, which holds before a contract, is at most {_MAX_BEFORE_CONTRACT_MA} mA")
def _max_power(s: Specimen) -> None:
    expect(s.facts.max_power_ma <= _MAX_BEFORE_CONTRACT_MA, f"it is {s.facts.max_power_ma} mA")


@USB.check("carries_every_mode", "the link, as it has come up, carries every mode", should=True)
def _carries(s: Specimen) -> None:
    usable = usable_mbit(s.facts.speed_mbit)
    over = [m.describe() for m in s.descriptor.modes if m.mbit_s > usable]
    expect(not over, f"{usable} Mbit/s do not carry {len(over)} of them, as {over[0] if over else ''}")


@USB.check("serial", "the device's serial number is that of the descriptor", should=True)
def _serial(s: Specimen) -> None:
    serial = s.descriptor.identity.serial
    expect(s.facts.serial == serial, f"USB says {s.facts.serial!r}, the descriptor {serial!r}")
