# SPDX-License-Identifier: GPL-2.0-or-later
"""Suite: every check there is, in the order in which they are made: a sound module first, odd requests last."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from maglens_driver.conform.check import Check
from maglens_driver.conform.clock_checks import CLOCK
from maglens_driver.conform.configure_checks import CONFIGURE
from maglens_driver.conform.control_checks import CONTROLS
from maglens_driver.conform.descriptor_checks import DESCRIPTOR
from maglens_driver.conform.event_checks import EVENTS
from maglens_driver.conform.flush_checks import FLUSH
from maglens_driver.conform.info_checks import INFO
from maglens_driver.conform.odd_checks import ODD
from maglens_driver.conform.power_checks import POWER
from maglens_driver.conform.replug_checks import REPLUG
from maglens_driver.conform.state_checks import STATES
from maglens_driver.conform.stream_checks import STREAM
from maglens_driver.conform.usb_checks import USB

GROUPS: Final = (
    INFO, USB, DESCRIPTOR, POWER, STREAM, CONTROLS, CLOCK, STATES, CONFIGURE, FLUSH, EVENTS, ODD, REPLUG,
)  # fmt: skip
SUITE: Final[tuple[Check, ...]] = tuple(check for group in GROUPS for check in group.checks)


def chosen(patterns: Sequence[str]) -> tuple[Check, ...]:
    """Checks whose names fit one of the patterns (as ``stream.*``); all where there is none."""
    if not patterns:
        return SUITE
    return tuple(check for check in SUITE if any(fnmatchcase(check.name, pattern) for pattern in patterns))
