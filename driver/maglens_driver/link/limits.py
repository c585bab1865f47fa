# SPDX-License-Identifier: MIT
"""Every ceiling and time limit of link protocol 1 (docs/protocol.md, "Ceilings" and "Time limits")."""

from __future__ import annotations

import os
from typing import Final

from maglens_driver.names import ENV_TIME_FACTOR

VERSION_MAJOR: Final = 1
VERSION_MINOR: Final = 0

# Ceilings. Checked before anything is allocated.
MAX_DESCRIPTOR_BYTES: Final = 64 * 1024
MAX_DESCRIPTOR_DEPTH: Final = 6
MAX_DESCRIPTOR_ITEMS: Final = 4096
MAX_CONTROL_BYTES: Final = 4096  # header included; Linux usbfs carries at most a page in one control transfer
DESCRIPTOR_BLOCK_BYTES: Final = MAX_CONTROL_BYTES - 8  # what a reply holds behind its header
MAX_STRUCTURE_BYTES: Final = 512  # leader or trailer; below a host's 1024, so that a short packet ends it always
MAX_EVENT_BYTES: Final = 64  # one interrupt packet, at full speed too
MAX_TEXT_BYTES: Final = 64
MAX_MODES: Final = 64
MAX_CONTROLS: Final = 64
MAX_CONTROL_VALUE: Final = 0x7FFFFFFF  # V4L2's controls hold 32 bits; the least is one further from 0
MAX_MENU_ITEMS: Final = 32
MAX_WIDTH: Final = 16384
MAX_HEIGHT: Final = 16384
MAX_JPEG_PIXELS: Final = 1 << 24  # of an MJPG mode: a few bytes of JPEG can ask for any amount of decoding
MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
MAX_INTERVAL_S: Final = 60
MAX_RATE_FPS: Final = 1000
MAX_MODE_MBIT_S: Final = 40_000
MAX_POWER_MW: Final = 100_000
MAX_STANDBY_MW: Final = 500  # of a squeezed module: its own word must not let it out of the squeeze
MAX_EVENTS_PER_S: Final = 200
MAX_PD_OBJECTS: Final = 7  # USB PD 3.1, 6.2.1.1.2
MAX_PD_MESSAGES: Final = 16  # one that always has another would never come to an end
MAX_CALIBRATION_POINTS: Final = 256

# Under emulation everything takes many times as long, the module too: the lab stretches the limits by this.
TIME_FACTOR: Final = min(max(float(os.environ.get(ENV_TIME_FACTOR, "1")), 1.0), 100.0)

# Time limits, in seconds. USB PD's own are beside them for comparison; they make no sense over acknowledged
# USB transfers, where the bus itself tells whether a message arrived.
REPLY_S: Final = 0.5 * TIME_FACTOR  # any control request; PD tSenderResponse is 0.024-0.030
POWER_TRANSITION_S: Final = 0.5 * TIME_FACTOR  # Accept to PS_RDY; PD tPSTransition 0.450-0.550
FIRST_FRAME_S: Final = 2.0 * TIME_FACTOR  # START to the first leader, on top of the exposure time
STALL_INTERVALS: Final = 10  # no leader for so many intervals (and at least STALL_MIN_S): the stream stalls
STALL_MIN_S: Final = 1.0 * TIME_FACTOR
FLUSH_S: Final = 0.5 * TIME_FACTOR
BURST_S: Final = 0.5 * TIME_FACTOR  # motors may draw up to peak_mw so long after SET_CONTROLS; PD has none
HARD_RESETS: Final = 2  # port power-cycles before a port is given up; PD nHardResetCount 2
