# SPDX-License-Identifier: GPL-2.0-or-later
"""v4l2loopback's own interface: /dev/v4l2loopback (its v4l2loopback.h, 0.15), its events and its device controls."""

from __future__ import annotations

import errno
import fcntl
import os
from ctypes import Structure, c_char, c_int32, c_uint32
from pathlib import Path
from typing import Final

from maglens_driver.errors import MissingDependency
from maglens_driver.names import LOOPBACK_CONTROL, LOOPBACK_DRIVER, NODE_CARD_NAME
from maglens_driver.packages import Need, install
from maglens_v4l2 import v4l2

CREATES_SINCE: Final = (0, 15)  # versions from here on make devices at run time by the interface below
MODPROBE: Final = f"modprobe v4l2loopback devices=1 exclusive_caps=1 max_buffers=16 card_label={NODE_CARD_NAME}"

EVENT_CLIENT_USAGE: Final = v4l2.EVENT_PRIVATE_START + 0x08E00000 + 1
CID_KEEP_FORMAT: Final = 0x0098F900


class Config(Structure):
    """struct v4l2_loopback_config"""

    _fields_ = (
        ("output_nr", c_int32),
        ("unused", c_int32),
        ("card_label", c_char * 32),
        ("min_width", c_uint32),
        ("max_width", c_uint32),
        ("min_height", c_uint32),
        ("max_height", c_uint32),
        ("max_buffers", c_int32),
        ("max_openers", c_int32),
        ("debug", c_int32),
        ("announce_all_caps", c_int32),
    )
    output_nr: int
    unused: int
    card_label: bytes
    max_width: int
    max_height: int
    max_buffers: int
    max_openers: int
    announce_all_caps: int


CTL_VERSION: Final = v4l2.ior("~", 0, c_uint32)
CTL_ADD: Final = v4l2.iow("~", 1, Config)
CTL_REMOVE: Final = v4l2.iow("~", 2, c_uint32)


def find(card: str) -> str | None:
    """The path of a v4l2loopback device whose card is ``card``, made by whomever; None when there is none."""
    for name in sorted(Path("/sys/class/video4linux").glob("video*/name"), key=_number):
        if name.read_text().strip() != card:
            continue
        path = f"/dev/{name.parent.name}"
        capability = v4l2.query_path(path)
        if capability is not None and capability.driver == LOOPBACK_DRIVER.encode():
            return path
    return None


def _number(name: Path) -> int:
    return int(name.parent.name.removeprefix("video"))


def create(card: str, buffers: int, width: int, height: int) -> str:
    """Make a device at run time and return its path. Raises ``MissingDependency`` with the command that helps."""
    try:
        control = os.open(LOOPBACK_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise MissingDependency(
            "the kernel module v4l2loopback is not loaded",
            hint=f"{install(Need.LOOPBACK)}, then sudo modprobe v4l2loopback",
        ) from error
    except PermissionError as error:
        raise MissingDependency(
            f"no permission for {LOOPBACK_CONTROL}",
            hint="install maglens' udev rules, or run: setfacl -m g:maglens:rw " + LOOPBACK_CONTROL,
        ) from error
    try:
        version = _version(control)
        if version is None or version < CREATES_SINCE:
            raise MissingDependency(
                f"this v4l2loopback is older than {'.'.join(map(str, CREATES_SINCE))} and has no device named {card}",
                hint="modprobe -r v4l2loopback; " + MODPROBE,
            )
        config = Config()
        config.output_nr = config.unused = -1
        config.card_label = card.encode()
        config.max_buffers = buffers
        config.max_width, config.max_height = width, height
        config.announce_all_caps = 0
        return f"/dev/video{fcntl.ioctl(control, CTL_ADD, config)}"
    finally:
        os.close(control)


def remove(path: str) -> bool:
    """Take a device away; False when someone has it open."""
    control = os.open(LOOPBACK_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(control, CTL_REMOVE, int(path.removeprefix("/dev/video")))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    finally:
        os.close(control)
    return True


def _version(control: int) -> tuple[int, int] | None:
    """Major and minor; None for one that does not tell (before 0.13)."""
    version = c_uint32()
    try:
        fcntl.ioctl(control, CTL_VERSION, version)
    except OSError:
        return None
    return version.value >> 16 & 0xFF, version.value >> 8 & 0xFF


def keep_format(fd: int, keep: bool) -> None:
    """Keep the format and the capture capability while there is no producer."""
    control = v4l2.Control(id=CID_KEEP_FORMAT, value=int(keep))
    v4l2.call(fd, v4l2.VIDIOC_S_CTRL, control)


def subscribe_usage(fd: int) -> bool:
    """Ask for an event, now and whenever a reader starts or stops; False where this version has none."""
    wanted = v4l2.EventSubscription(type=EVENT_CLIENT_USAGE, flags=v4l2.EVENT_SUB_FL_SEND_INITIAL)
    try:
        v4l2.call(fd, v4l2.VIDIOC_SUBSCRIBE_EVENT, wanted)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True


def next_usage(fd: int) -> int | None:
    """The count in the next pending usage event; None when there is none. The descriptor does not block."""
    event = v4l2.Event()
    while True:
        try:
            v4l2.call(fd, v4l2.VIDIOC_DQEVENT, event)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EAGAIN):
                return None
            raise
        if event.type == EVENT_CLIENT_USAGE:
            return int(event.u.count)
