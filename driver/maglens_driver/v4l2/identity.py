# SPDX-License-Identifier: GPL-2.0-or-later
"""Identity of a capture device: of its USB device where it is one, else of its driver."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from maglens_driver.errors import Refused
from maglens_driver.link import limits
from maglens_driver.names import LOOPBACK_DRIVER, NODE_CARD_NAME
from maglens_driver.source import Identity
from maglens_driver.v4l2.binding import linuxpy

CAPTURE = 0x00000001  # V4L2_CAP_VIDEO_CAPTURE
STREAMING = 0x04000000  # V4L2_CAP_STREAMING
DEVICE_CAPS = 0x80000000  # V4L2_CAP_DEVICE_CAPS
OWN_DRIVERS = ("maglens",)
SYSFS = Path("/sys/class/video4linux")


def identify(fd: int, path: str, ours: Collection[str] = (NODE_CARD_NAME,)) -> Identity:
    """Raises ``Refused`` when it is a node of ours, or no camera. ``ours``: names of nodes that we may have made of
    v4l2loopback."""
    found = linuxpy().read_capabilities(fd)
    driver, card, bus = (
        printable(text.decode("utf-8", "replace")) for text in (found.driver, found.card, found.bus_info)
    )
    named_so = card == NODE_CARD_NAME or card.startswith(f"{NODE_CARD_NAME} ")
    if driver in OWN_DRIVERS or named_so or (driver == LOOPBACK_DRIVER and card in ours):
        hint = "leave it out of [cameras] device; v4l2-ctl --list-devices"
        raise Refused("own_node", f"{path} is maglens' own node, which is never a source", hint=hint)
    caps = found.device_caps if found.capabilities & DEVICE_CAPS else found.capabilities
    if not (caps & CAPTURE and caps & STREAMING):
        raise Refused("no_camera", f"{path} ({card}) is no camera", hint="v4l2-ctl --list-devices")
    usb = usb_device(path)
    return Identity(
        maker=_attribute(usb, "manufacturer") or driver,
        model=_attribute(usb, "product") or card,
        serial=_attribute(usb, "serial") or bus,
    )


def usb_device(path: str) -> Path | None:
    """The sysfs folder of the USB device that a node belongs to; None where it is none of USB's."""
    interface = SYSFS / Path(path).resolve().name / "device"
    parent = interface.resolve().parent
    return parent if (parent / "bNumInterfaces").exists() else None


def _attribute(device: Path | None, name: str) -> str:
    if device is None:
        return ""
    try:
        return printable((device / name).read_text(errors="replace").strip())
    except OSError:  # not every device has every string
        return ""


def printable(text: str) -> str:
    """What a camera says of itself, fit for a terminal: what does not print becomes ``?``, and no more is taken than
    of a module, :data:`limits.MAX_TEXT_BYTES`."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain.encode(errors="replace")[: limits.MAX_TEXT_BYTES].decode(errors="ignore")
