# SPDX-License-Identifier: GPL-2.0-or-later
"""For every fault of the virtual module the check of the conformance kit that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from maglens_driver.gadget.faults import Fault

CAUGHT: Final[Mapping[Fault, str]] = {
    Fault.BOUNCE: "replug.steady",
    Fault.STRANGER: "usb.interface_string",
    Fault.REPLY_LATE: "info.in_time",
    Fault.REPLY_NEVER: "info.in_time",
    Fault.REPLY_SHORT: "info.length",
    Fault.REPLY_LONG: "info.length",
    Fault.REPLY_MAGIC: "info.magic",
    Fault.REPLY_TAG: "info.tag",
    Fault.HANG: "info.answers_again",
    Fault.DESCRIPTOR_LONG: "info.descriptor_bytes",
    Fault.DESCRIPTOR_TRUNCATED: "descriptor.whole",
    Fault.DESCRIPTOR_CRC: "descriptor.crc",
    Fault.DESCRIPTOR_ORDER: "descriptor.key_order",
    Fault.DESCRIPTOR_DUPLICATE: "descriptor.unique_keys",
    Fault.DESCRIPTOR_DEPTH: "descriptor.depth",
    Fault.DESCRIPTOR_COUNT: "descriptor.items",
    Fault.DESCRIPTOR_ZERO: "descriptor.sizes",
    Fault.DESCRIPTOR_HUGE: "descriptor.sizes",
    Fault.DESCRIPTOR_VERSION: "descriptor.version",
    Fault.POWER_GREEDY: "power.no_more_than_declared",
    Fault.POWER_STUBBORN: "power.goto_min",
    Fault.POWER_LATE: "power.request_in_time",
    Fault.POWER_SILENT: "power.request_in_time",
    Fault.BROWN_OUT: "stream.frames_come",
    Fault.HALF_SEATED: "usb.carries_every_mode",
    Fault.HEAT: "events.able",
    Fault.STALL: "stream.frames_come",
    Fault.HALT: "stream.not_halted",
    Fault.LEADER_MAGIC: "stream.leader_magic",
    Fault.LEADER_CRC: "stream.leader_crc",
    Fault.LEADER_EPOCH: "stream.leader_epoch",
    Fault.LEADER_GEOMETRY: "stream.leader_geometry",
    Fault.LEADER_LENGTH: "stream.leader_payload_bytes",
    Fault.LEADER_SHORT: "stream.leader_length",
    Fault.ID_BACK: "stream.ids_rise",
    Fault.PAYLOAD_SHORT: "stream.payload_length",
    Fault.PAYLOAD_LONG: "stream.payload_length",
    Fault.PAYLOAD_CRC: "stream.payload_crc",
    Fault.TRAILER_MISSING: "stream.trailer_comes",
    Fault.TRAILER_CRC: "stream.trailer_crc",
    Fault.TRAILER_INCOMPLETE: "stream.complete",
}
