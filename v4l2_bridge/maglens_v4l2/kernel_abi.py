# SPDX-License-Identifier: GPL-2.0-or-later
"""The interface of maglens.ko (driver/kernel/include/uapi/linux/maglens.h) as ctypes; a test compares the two.

What each field means stands in that header, once.
"""

from __future__ import annotations

from ctypes import Structure, Union, c_char, c_int32, c_int64, c_uint32, c_uint64
from typing import Final

from maglens_v4l2.v4l2 import Fract, iow, iowr

ABI_VERSION: Final = 1
MAX_FORMATS: Final = 128
MAX_INTERVALS: Final = 8
MAX_CONTROLS: Final = 64
MAX_INPUTS: Final = 16
MAX_RING: Final = 0x40000000  # bytes of all slots together
FLAG_EXCLUSIVE: Final = 1
SUBMIT_ADDRESS: Final = 1
PUSH_VALUE: Final = 1
PUSH_RANGE: Final = 2
PUSH_DEFAULT: Final = 4
PUSH_ACTIVE: Final = 8
INPUT_STATUS: Final = 1
INPUT_NAME: Final = 2
EVENT_USAGE: Final = 1
EVENT_FORMAT: Final = 2
EVENT_INPUT: Final = 3
EVENT_CONTROL: Final = 4

# linux/videodev2.h, as the header refers to it
CTRL_FLAG_READ_ONLY: Final = 0x0004
CTRL_FLAG_INACTIVE: Final = 0x0010
INPUT_NO_SIGNAL: Final = 0x00000002


class Format(Structure):
    """struct maglens_format"""

    _fields_ = (
        ("fourcc", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
        ("n_intervals", c_uint32),
        ("reserved", c_uint32 * 2),
        ("intervals", Fract * MAX_INTERVALS),
    )
    fourcc: int
    width: int
    height: int
    bytesperline: int
    sizeimage: int
    colorspace: int
    ycbcr_enc: int
    quantization: int
    xfer_func: int
    n_intervals: int


class _MenuUnion(Union):
    _fields_ = (("name", c_char * 32), ("value", c_int64))
    name: bytes
    value: int


class MenuItem(Structure):
    """struct maglens_menu_item"""

    _anonymous_ = ("u",)
    _fields_ = (("u", _MenuUnion),)
    name: bytes
    value: int


class Control(Structure):
    """struct maglens_control"""

    _fields_ = (
        ("id", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("n_menu", c_uint32),
        ("minimum", c_int64),
        ("maximum", c_int64),
        ("step", c_int64),
        ("default_value", c_int64),
        ("menu_skip_mask", c_uint64),
        ("menu", c_uint64),
        ("value", c_int64),
        ("name", c_char * 32),
    )
    id: int
    type: int
    flags: int
    n_menu: int
    minimum: int
    maximum: int
    step: int
    default_value: int
    menu_skip_mask: int
    menu: int
    value: int
    name: bytes


class Input(Structure):
    """struct maglens_input"""

    _fields_ = (("name", c_char * 32), ("status", c_uint32), ("reserved", c_uint32 * 3))
    name: bytes
    status: int


class Create(Structure):
    """struct maglens_create"""

    _fields_ = (
        ("abi_version", c_uint32),
        ("flags", c_uint32),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("camera_id", c_char * 64),
        ("n_slots", c_uint32),
        ("slot_slack", c_uint32),
        ("n_formats", c_uint32),
        ("n_controls", c_uint32),
        ("n_inputs", c_uint32),
        ("hold_ms", c_uint32),
        ("video_nr", c_int32),
        ("slot_size", c_uint32),
        ("formats", c_uint64),
        ("controls", c_uint64),
        ("inputs", c_uint64),
        ("ring_size", c_uint64),
        ("generation", c_uint64),
        ("reserved", c_uint64 * 4),
    )
    video_nr: int
    generation: int


class Submit(Structure):
    """struct maglens_submit"""

    _fields_ = (
        ("flags", c_uint32),
        ("slot", c_uint32),
        ("address", c_uint64),
        ("bytesused", c_uint32),
        ("format_serial", c_uint32),
        ("timestamp_ns", c_uint64),
        ("generation", c_uint64),
        ("delivered", c_uint32),
        ("dropped", c_uint32),
        ("filled", c_uint32),
        ("reserved", c_uint32 * 3),
    )
    slot: int
    bytesused: int
    format_serial: int
    timestamp_ns: int
    generation: int
    filled: int


class Placeholder(Structure):
    """struct maglens_placeholder"""

    _fields_ = (
        ("generation", c_uint64),
        ("address", c_uint64),
        ("bytesused", c_uint32),
        ("format_serial", c_uint32),
        ("reserved", c_uint64 * 2),
    )


class Counters(Structure):
    """struct maglens_counters"""

    _fields_ = (
        ("submitted", c_uint64),
        ("delivered", c_uint64),
        ("dropped", c_uint64),
        ("unwatched", c_uint64),
        ("stale", c_uint64),
        ("mismatched", c_uint64),
        ("filled", c_uint64),
        ("adoptions", c_uint64),
    )
    filled: int
    stale: int


class State(Structure):
    """struct maglens_state"""

    _fields_ = (
        ("abi_version", c_uint32),
        ("flags", c_uint32),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("camera_id", c_char * 64),
        ("n_slots", c_uint32),
        ("slot_size", c_uint32),
        ("slot_slack", c_uint32),
        ("n_formats", c_uint32),
        ("n_controls", c_uint32),
        ("n_inputs", c_uint32),
        ("hold_ms", c_uint32),
        ("video_nr", c_int32),
        ("formats", c_uint64),
        ("controls", c_uint64),
        ("inputs", c_uint64),
        ("ring_size", c_uint64),
        ("generation", c_uint64),
        ("format_index", c_uint32),
        ("format_serial", c_uint32),
        ("interval", Fract),
        ("input", c_uint32),
        ("openers", c_uint32),
        ("holders", c_uint32),
        ("streamers", c_uint32),
        ("held_slot", c_uint32),
        ("placeholder", c_uint32),
        ("last_timestamp_ns", c_uint64),
        ("counters", Counters),
        ("reserved", c_uint64 * 4),
    )
    abi_version: int
    n_slots: int
    slot_size: int
    n_formats: int
    n_controls: int
    n_inputs: int
    video_nr: int
    ring_size: int
    generation: int
    format_index: int
    format_serial: int
    interval: Fract
    input: int
    openers: int
    holders: int
    streamers: int
    held_slot: int
    counters: Counters


class Adopt(Structure):
    """struct maglens_adopt"""

    _fields_ = (("abi_version", c_uint32), ("reserved", c_uint32), ("generation", c_uint64))
    generation: int


class Push(Structure):
    """struct maglens_push"""

    _fields_ = (
        ("generation", c_uint64),
        ("id", c_uint32),
        ("what", c_uint32),
        ("minimum", c_int64),
        ("maximum", c_int64),
        ("step", c_int64),
        ("default_value", c_int64),
        ("value", c_int64),
        ("active", c_uint32),
        ("reserved", c_uint32 * 3),
    )
    what: int
    minimum: int
    maximum: int
    step: int
    default_value: int
    value: int
    active: int


class InputPush(Structure):
    """struct maglens_input_push"""

    _fields_ = (("generation", c_uint64), ("index", c_uint32), ("what", c_uint32), ("input", Input))


class FormatPush(Structure):
    """struct maglens_format_push"""

    _fields_ = (
        ("generation", c_uint64),
        ("format_index", c_uint32),
        ("format_serial", c_uint32),
        ("interval", Fract),
        ("reserved", c_uint64),
    )


class Event(Structure):
    """struct maglens_event"""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("value", c_int64),
        ("generation", c_uint64),
        ("count", c_uint32),
        ("tgid", c_uint32),
        ("openers", c_uint32),
        ("holders", c_uint32),
        ("streamers", c_uint32),
        ("format_index", c_uint32),
        ("format_serial", c_uint32),
        ("interval", Fract),
        ("input", c_uint32),
        ("comm", c_char * 16),
    )
    type: int
    id: int
    value: int
    generation: int
    count: int
    tgid: int
    openers: int
    holders: int
    streamers: int
    format_index: int
    format_serial: int
    interval: Fract
    input: int
    comm: bytes


IOC_CREATE: Final = iowr("m", 0x80, Create)
IOC_SUBMIT: Final = iowr("m", 0x81, Submit)
IOC_PLACEHOLDER: Final = iow("m", 0x82, Placeholder)
IOC_STATE: Final = iowr("m", 0x83, State)
IOC_ADOPT: Final = iowr("m", 0x84, Adopt)
IOC_PUSH: Final = iowr("m", 0x85, Push)
IOC_INPUT: Final = iow("m", 0x86, InputPush)
IOC_FORMAT: Final = iowr("m", 0x87, FormatPush)
