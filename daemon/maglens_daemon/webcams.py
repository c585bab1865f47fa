# SPDX-License-Identifier: GPL-2.0-or-later
"""Webcams: what sysfs and /dev tell of this machine's video devices. Nothing is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CLASS: Final = Path("/sys/class/video4linux")
BY_ID: Final = Path("/dev/v4l/by-id")
UVC: Final = "uvcvideo"  # drivers/media/usb/uvc


@dataclass(frozen=True, slots=True)
class VideoDevice:
    """One capture node. ``number`` is its (major, minor), ``token`` changes when it is made anew, ``port`` is the USB
    path of what it belongs to (empty for others), with the interface after it where a device has several cameras."""

    path: str
    number: tuple[int, int]
    token: int
    driver: str
    port: str
    removable: bool  # the firmware says that it can be pulled out


def video_devices(root: Path = CLASS) -> list[VideoDevice]:
    """The first node of every video device that hardware stands behind, by number; what goes away meanwhile is left
    out."""
    found = []
    for entry in root.iterdir() if root.exists() else ():
        try:
            if entry.name.startswith("video") and (entry / "index").read_text().strip() == "0":
                found.append(_device(entry))
        except OSError:
            continue
    return sorted((device for device in found if device.driver), key=lambda device: device.number)


def sensors(root: Path = CLASS) -> dict[tuple[int, int], int]:
    """The nodes of sensors and their like, which no app opens: (major, minor), and a token as a video device has."""
    found = {}
    for entry in root.glob("v4l-subdev*"):
        try:
            found[_number(entry)] = entry.stat().st_ino
        except OSError:  # gone meanwhile
            continue
    return found


def _number(entry: Path) -> tuple[int, int]:
    major, minor = (entry / "dev").read_text().split(":")
    return int(major), int(minor)


def _device(entry: Path) -> VideoDevice:
    behind = (entry / "device").resolve()
    usb = behind.parent if (behind.parent / "bNumInterfaces").exists() else None
    driver = entry / "device" / "driver"
    return VideoDevice(
        path=f"/dev/{entry.name}",
        number=_number(entry),
        token=entry.stat().st_ino,
        driver=driver.resolve().name if driver.exists() else "",
        port=_port(behind, usb) if usb is not None else "",
        removable=usb is not None and _text(usb / "removable") == "removable",
    )


def _port(interface: Path, usb: Path) -> str:
    """``1-2``, or ``1-2:1.2`` for a camera that does not begin with the first interface."""
    return usb.name if _text(interface / "bInterfaceNumber") in ("", "00") else interface.name


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # not every device has it
        return ""


def names_by_id(folder: Path = BY_ID) -> Mapping[str, str]:
    """udev's stable name by device node, as ``usb-Maker_Model_Serial-video-index0``."""
    try:
        names = os.listdir(folder)
    except OSError:  # there is none while no such device is plugged in
        return {}
    return {os.path.realpath(folder / name): name for name in sorted(names)}
