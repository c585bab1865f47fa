# SPDX-License-Identifier: GPL-2.0-or-later
"""vhci: the kernel's virtual USB host controller, through sysfs (drivers/usb/usbip/vhci_sysfs.c)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maglens_driver.errors import MaglensError, MissingDependency
from tests.tools.usbip.descriptors import Speed

CONTROLLER: Final = Path("/sys/devices/platform/vhci_hcd.0")
DEVICE_ID: Final = 0x4D4C0001
"""Bus and device number at the far end as we give them: how our ports are told from others'."""

_FREE: Final = 4  # VDEV_ST_NULL of usbip_common.h
_HUBS: Final = {"hs": Speed.HIGH, "ss": Speed.SUPER}


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the controller. ``status`` 4 is free, 6 in use."""

    number: int
    speed: Speed
    status: int
    device_id: int

    @property
    def ours(self) -> bool:
        """Whether one of our cameras is plugged in."""
        return self.status != _FREE and self.device_id == DEVICE_ID


def parse(status: str) -> Iterator[Port]:
    """The ports in the text of the status file: hub, port, status, speed, device, socket, bus id."""
    for line in status.splitlines():
        words = line.split()
        if len(words) >= 5 and words[0] in _HUBS:
            yield Port(int(words[1]), _HUBS[words[0]], int(words[2]), int(words[4], 16))


def ports(controller: Path = CONTROLLER) -> list[Port]:
    """All ports."""
    try:
        return list(parse((controller / "status").read_text()))
    except FileNotFoundError:
        raise MissingDependency("there is no virtual USB host controller", hint="modprobe vhci-hcd") from None


def attach(link: socket.socket, speed: Speed, controller: Path = CONTROLLER) -> int:
    """Plug in the device behind the far end of ``link``, a connected stream socket. Returns the port's number."""
    free = next((port for port in ports(controller) if port.speed is speed and port.status == _FREE), None)
    if free is None:
        raise MaglensError(f"no free {speed.name.lower()}-speed port", hint="python -m tests.tools.usbip unplug")
    (controller / "attach").write_text(f"{free.number} {link.fileno()} {DEVICE_ID} {int(speed)}")
    return free.number


def detach(number: int, controller: Path = CONTROLLER) -> None:
    """Pull whatever is in that port. The kernel closes the socket."""
    (controller / "detach").write_text(f"{number}\n")
