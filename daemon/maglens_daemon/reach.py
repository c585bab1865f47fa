# SPDX-License-Identifier: GPL-2.0-or-later
"""Reach: which controls of a source apps see on the video device, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from maglens_driver.control import ControlInfo
from maglens_v4l2.canonical import CONTROLS
from maglens_v4l2.node import Node

NO_NODE: Final = "there is no video device"
NO_CONTROLS: Final = "v4l2loopback carries no controls; the kernel module maglens does"
UNKNOWN: Final = "apps know no such control"
_KNOWN: Final = frozenset(info.id for info in CONTROLS)


def unavailable(node: Node | None, controls: Sequence[ControlInfo]) -> Mapping[int, str]:
    """Ids of those that apps cannot reach, each with the reason. ``maglens control`` reaches all of them."""
    if node is None or not node.caps.controls:
        reason = NO_NODE if node is None else NO_CONTROLS
        return {info.id: reason for info in controls}
    return {info.id: UNKNOWN for info in controls if info.id not in _KNOWN}
