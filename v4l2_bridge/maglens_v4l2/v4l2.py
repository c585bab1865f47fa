# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of linux/videodev2.h that a node's producer, and a plain reader in tests, need.

Structures are declared once, as ctypes; a test compares sizes, offsets and request numbers with the C header.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from ctypes import Structure, Union, c_char, c_int32, c_long, c_uint8, c_uint32, c_ulong
from fractions import Fraction
from typing import Final

from maglens_driver.errors import Gone
from maglens_driver.mode import Mode

BUF_TYPE_VIDEO_CAPTURE: Final = 1
BUF_TYPE_VIDEO_OUTPUT: Final = 2
MEMORY_MMAP: Final = 1
FIELD_NONE: Final = 1
COLORSPACE_SRGB: Final = 8
YCBCR_ENC_601: Final = 1
QUANTIZATION_FULL_RANGE: Final = 1
QUANTIZATION_LIM_RANGE: Final = 2
XFER_FUNC_SRGB: Final = 2

CAP_VIDEO_CAPTURE: Final = 0x00000001
CAP_VIDEO_OUTPUT: Final = 0x00000002
CAP_STREAMING: Final = 0x04000000
CAP_DEVICE_CAPS: Final = 0x80000000

EVENT_PRIVATE_START: Final = 0x08000000
EVENT_SUB_FL_SEND_INITIAL: Final = 1


class Capability(Structure):
    """struct v4l2_capability"""

    _fields_ = (
        ("driver", c_char * 16),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    )
    driver: bytes
    card: bytes
    bus_info: bytes
    capabilities: int
    device_caps: int


class PixFormat(Structure):
    """struct v4l2_pix_format"""

    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
    )
    width: int
    height: int
    pixelformat: int
    field: int
    bytesperline: int
    sizeimage: int
    colorspace: int
    priv: int
    ycbcr_enc: int
    quantization: int
    xfer_func: int


class _FormatUnion(Union):
    # The pointer gives the union the alignment that struct v4l2_window gives it in C.
    _fields_ = (("pix", PixFormat), ("raw_data", c_uint8 * 200), ("_align", ctypes.c_void_p))
    pix: PixFormat


class Format(Structure):
    """struct v4l2_format"""

    _fields_ = (("type", c_uint32), ("fmt", _FormatUnion))
    type: int
    fmt: _FormatUnion


class Fract(Structure):
    """struct v4l2_fract"""

    _fields_ = (("numerator", c_uint32), ("denominator", c_uint32))
    numerator: int
    denominator: int


class _StreamParm(Structure):
    """The common beginning of struct v4l2_captureparm and v4l2_outputparm."""

    _fields_ = (
        ("capability", c_uint32),
        ("mode", c_uint32),
        ("timeperframe", Fract),
        ("extendedmode", c_uint32),
        ("buffers", c_uint32),
        ("reserved", c_uint32 * 4),
    )
    capability: int
    timeperframe: Fract


class _ParmUnion(Union):
    _fields_ = (("capture", _StreamParm), ("raw_data", c_uint8 * 200))
    capture: _StreamParm


class StreamParm(Structure):
    """struct v4l2_streamparm"""

    _fields_ = (("type", c_uint32), ("parm", _ParmUnion))
    type: int
    parm: _ParmUnion


class RequestBuffers(Structure):
    """struct v4l2_requestbuffers"""

    _fields_ = (
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    )
    count: int


class TimeVal(Structure):
    """struct timeval"""

    _fields_ = (("tv_sec", c_long), ("tv_usec", c_long))
    tv_sec: int
    tv_usec: int


class _TimeCode(Structure):
    _fields_ = (("type", c_uint32), ("flags", c_uint32), ("digits", c_uint8 * 4), ("userbits", c_uint8 * 4))


class _BufferUnion(Union):
    _fields_ = (("offset", c_uint32), ("userptr", c_ulong), ("planes", ctypes.c_void_p), ("fd", c_int32))
    offset: int


class Buffer(Structure):
    """struct v4l2_buffer"""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("timestamp", TimeVal),
        ("timecode", _TimeCode),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _BufferUnion),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
    )
    index: int
    type: int
    bytesused: int
    flags: int
    field: int
    timestamp: TimeVal
    sequence: int
    memory: int
    m: _BufferUnion
    length: int


class Control(Structure):
    """struct v4l2_control"""

    _fields_ = (("id", c_uint32), ("value", c_int32))
    id: int
    value: int


class EventSubscription(Structure):
    """struct v4l2_event_subscription"""

    _fields_ = (("type", c_uint32), ("id", c_uint32), ("flags", c_uint32), ("reserved", c_uint32 * 5))


class _TimeSpec(Structure):
    _fields_ = (("tv_sec", c_long), ("tv_nsec", c_long))


class _EventUnion(Union):
    _fields_ = (("data", c_uint8 * 64), ("count", c_uint32), ("_align", ctypes.c_int64))
    count: int


class Event(Structure):
    """struct v4l2_event; ``u.count`` is v4l2loopback's struct v4l2_event_client_usage."""

    _fields_ = (
        ("type", c_uint32),
        ("u", _EventUnion),
        ("pending", c_uint32),
        ("sequence", c_uint32),
        ("timestamp", _TimeSpec),
        ("id", c_uint32),
        ("reserved", c_uint32 * 8),
    )
    type: int
    u: _EventUnion
    pending: int


def _ioc(direction: int, magic: str, number: int, size: int) -> int:
    """asm-generic/ioctl.h; direction 1 is write, 2 is read (as the kernel sees userspace)."""
    return direction << 30 | size << 16 | ord(magic) << 8 | number


def ior(magic: str, number: int, of: type[ctypes._CData] | type[Structure]) -> int:
    """_IOR"""
    return _ioc(2, magic, number, ctypes.sizeof(of))


def iow(magic: str, number: int, of: type[ctypes._CData] | type[Structure]) -> int:
    """_IOW"""
    return _ioc(1, magic, number, ctypes.sizeof(of))


def iowr(magic: str, number: int, of: type[ctypes._CData] | type[Structure]) -> int:
    """_IOWR"""
    return _ioc(3, magic, number, ctypes.sizeof(of))


VIDIOC_QUERYCAP: Final = ior("V", 0, Capability)
VIDIOC_G_FMT: Final = iowr("V", 4, Format)
VIDIOC_S_FMT: Final = iowr("V", 5, Format)
VIDIOC_REQBUFS: Final = iowr("V", 8, RequestBuffers)
VIDIOC_QUERYBUF: Final = iowr("V", 9, Buffer)
VIDIOC_QBUF: Final = iowr("V", 15, Buffer)
VIDIOC_DQBUF: Final = iowr("V", 17, Buffer)
VIDIOC_STREAMON: Final = iow("V", 18, c_int32)
VIDIOC_STREAMOFF: Final = iow("V", 19, c_int32)
VIDIOC_G_PARM: Final = iowr("V", 21, StreamParm)
VIDIOC_S_PARM: Final = iowr("V", 22, StreamParm)
VIDIOC_G_CTRL: Final = iowr("V", 27, Control)
VIDIOC_S_CTRL: Final = iowr("V", 28, Control)
VIDIOC_DQEVENT: Final = ior("V", 89, Event)
VIDIOC_SUBSCRIBE_EVENT: Final = iow("V", 90, EventSubscription)


def call(fd: int, request: int, argument: Structure) -> None:
    """One ioctl on a video device; it fills ``argument``. ``Gone`` when the device is no more, else ``OSError``."""
    try:
        fcntl.ioctl(fd, request, argument)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise Gone("the video device was taken away", hint="maglens doctor") from error
        raise


def stream(fd: int, buffer_type: int, on: bool) -> None:
    """STREAMON or STREAMOFF."""
    fcntl.ioctl(fd, VIDIOC_STREAMON if on else VIDIOC_STREAMOFF, buffer_type.to_bytes(4, "little"))


def query(fd: int) -> Capability:
    """QUERYCAP."""
    capability = Capability()
    call(fd, VIDIOC_QUERYCAP, capability)
    return capability


def query_path(path: str) -> Capability | None:
    """QUERYCAP of a device file; None when it cannot be opened or is none of V4L2's."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return query(fd)
    except (OSError, Gone):
        return None
    finally:
        os.close(fd)


def format_of(buffer_type: int, mode: Mode) -> Format:
    """``mode`` for S_FMT, with the colours that the pixel kernel makes: BT.601, limited range."""
    wanted = Format()
    wanted.type = buffer_type
    pix = wanted.fmt.pix
    pix.width, pix.height, pix.pixelformat = mode.width, mode.height, mode.fourcc
    pix.field, pix.bytesperline, pix.sizeimage = FIELD_NONE, mode.stride, mode.nbytes
    pix.colorspace, pix.ycbcr_enc = COLORSPACE_SRGB, YCBCR_ENC_601
    pix.quantization, pix.xfer_func = QUANTIZATION_LIM_RANGE, XFER_FUNC_SRGB
    return wanted


def mode_of(format: Format, interval: Fraction) -> Mode:
    """What a device answered to S_FMT or G_FMT, as a mode."""
    pix = format.fmt.pix
    return Mode(pix.pixelformat, pix.width, pix.height, pix.bytesperline, pix.sizeimage, interval)


def timeval(nanoseconds: int) -> tuple[int, int]:
    """Seconds and microseconds, as struct timeval has them."""
    return divmod(nanoseconds // 1000, 1_000_000)
