# SPDX-License-Identifier: GPL-2.0-or-later
"""App calls: what OBS, Chromium, PipeWire and GStreamer ask of a video device beyond streaming (videodev2.h)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import struct
from collections.abc import Iterator
from ctypes import c_char, c_int32, c_int64, c_uint32, c_uint64
from typing import Final

from maglens_v4l2 import v4l2

CTRL_FLAG_NEXT_CTRL: Final = 0x80000000
CTRL_FLAG_NEXT_COMPOUND: Final = 0x40000000
CTRL_FLAG_DISABLED: Final = 0x0001
CTRL_FLAG_INACTIVE: Final = 0x0010
CTRL_TYPE_CLASS: Final = 6
EVENT_CTRL: Final = 3
EVENT_SOURCE_CHANGE: Final = 5


class ExportBuffer(ctypes.Structure):
    """struct v4l2_exportbuffer"""

    _fields_ = (
        ("type", c_uint32),
        ("index", c_uint32),
        ("plane", c_uint32),
        ("flags", c_uint32),
        ("fd", c_int32),
        ("reserved", c_uint32 * 11),
    )
    fd: int


class Input(ctypes.Structure):
    """struct v4l2_input"""

    _fields_ = (
        ("index", c_uint32),
        ("name", c_char * 32),
        ("type", c_uint32),
        ("audioset", c_uint32),
        ("tuner", c_uint32),
        ("std", c_uint64),
        ("status", c_uint32),
        ("capabilities", c_uint32),
        ("reserved", c_uint32 * 3),
    )
    index: int
    name: bytes


class QueryExtCtrl(ctypes.Structure):
    """struct v4l2_query_ext_ctrl"""

    _fields_ = (
        ("id", c_uint32),
        ("type", c_uint32),
        ("name", c_char * 32),
        ("minimum", c_int64),
        ("maximum", c_int64),
        ("step", c_uint64),
        ("default_value", c_int64),
        ("flags", c_uint32),
        ("elem_size", c_uint32),
        ("elems", c_uint32),
        ("nr_of_dims", c_uint32),
        ("dims", c_uint32 * 4),
        ("reserved", c_uint32 * 32),
    )
    id: int
    type: int
    name: bytes
    minimum: int
    maximum: int
    step: int
    default_value: int
    flags: int


VIDIOC_EXPBUF: Final = v4l2.iowr("V", 16, ExportBuffer)
VIDIOC_ENUMINPUT: Final = v4l2.iowr("V", 26, Input)
VIDIOC_G_INPUT: Final = v4l2.ior("V", 38, c_int32)
VIDIOC_S_INPUT: Final = v4l2.iowr("V", 39, c_int32)
VIDIOC_QUERY_EXT_CTRL: Final = v4l2.iowr("V", 103, QueryExtCtrl)


def controls(fd: int) -> Iterator[QueryExtCtrl]:
    """Every control, as PipeWire, OBS and Chromium walk the list."""
    query = QueryExtCtrl()
    while True:
        query.id |= CTRL_FLAG_NEXT_CTRL | CTRL_FLAG_NEXT_COMPOUND
        try:
            v4l2.call(fd, VIDIOC_QUERY_EXT_CTRL, query)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return
        if query.type != CTRL_TYPE_CLASS and not query.flags & CTRL_FLAG_DISABLED:
            yield QueryExtCtrl.from_buffer_copy(query)


def control(fd: int, id: int) -> QueryExtCtrl:
    """One of them."""
    query = QueryExtCtrl(id=id)
    v4l2.call(fd, VIDIOC_QUERY_EXT_CTRL, query)
    return query


def value(fd: int, id: int) -> int:
    """G_CTRL"""
    asked = v4l2.Control(id=id)
    v4l2.call(fd, v4l2.VIDIOC_G_CTRL, asked)
    return asked.value


def set_control(fd: int, id: int, to: int) -> None:
    """S_CTRL"""
    v4l2.call(fd, v4l2.VIDIOC_S_CTRL, v4l2.Control(id=id, value=to))


def inputs(fd: int) -> list[str]:
    """ENUMINPUT: the names, in order."""
    names: list[str] = []
    while True:
        entry = Input(index=len(names))
        try:
            v4l2.call(fd, VIDIOC_ENUMINPUT, entry)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the end
                return names
            raise
        names.append(entry.name.decode())


def get_input(fd: int) -> int:
    """G_INPUT"""
    return int(struct.unpack("i", fcntl.ioctl(fd, VIDIOC_G_INPUT, struct.pack("i", -1)))[0])


def set_input(fd: int, index: int) -> None:
    """S_INPUT"""
    fcntl.ioctl(fd, VIDIOC_S_INPUT, struct.pack("i", index))


def subscribe(fd: int, kind: int, id: int = 0) -> None:
    """SUBSCRIBE_EVENT"""
    v4l2.call(fd, v4l2.VIDIOC_SUBSCRIBE_EVENT, v4l2.EventSubscription(type=kind, id=id))


def next_event(fd: int, timeout_s: float) -> v4l2.Event | None:
    """DQEVENT after POLLPRI; None where none comes. ``OSError`` where poll reports an error alone."""
    poll = select.poll()
    poll.register(fd, select.POLLPRI)
    ready = poll.poll(timeout_s * 1000)
    if not ready or not ready[0][1] & select.POLLPRI:
        return None
    event = v4l2.Event()
    v4l2.call(fd, v4l2.VIDIOC_DQEVENT, event)
    return event


def export(fd: int, count: int) -> list[int]:
    """EXPBUF of the first buffers: DMABUF descriptors, the caller's."""
    fds = []
    for index in range(count):
        wanted = ExportBuffer(type=v4l2.BUF_TYPE_VIDEO_CAPTURE, index=index, flags=os.O_CLOEXEC | os.O_RDWR)
        v4l2.call(fd, VIDIOC_EXPBUF, wanted)
        fds.append(wanted.fd)
    return fds
