# SPDX-License-Identifier: GPL-2.0-or-later
"""Which controls apps see on the video device, and what is said of the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction

from maglens_daemon.cli.control import Control
from maglens_daemon.reach import NO_CONTROLS, NO_NODE, UNKNOWN, unavailable
from maglens_driver.control import Cid, ControlInfo, ControlType
from maglens_driver.mode import YUYV, make_mode
from maglens_v4l2.memory_node import MemoryNode
from maglens_v4l2.node import NodeCaps

FOCUS = ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus", ControlType.INTEGER, 0, 100, 1, 0)
SPECIAL = ControlInfo(0x0F4D1234, "Bokeh shape", ControlType.INTEGER, 0, 5, 1, 0)


class WithoutControls(MemoryNode):
    """As v4l2loopback is."""

    @property
    def caps(self) -> NodeCaps:
        return replace(super().caps, controls=False)


def test_the_reasons() -> None:
    async def look() -> None:
        formats = (make_mode(YUYV, 640, 480, Fraction(1, 30)),)
        full, poor = MemoryNode(formats), WithoutControls(formats)
        assert unavailable(full, (FOCUS, SPECIAL)) == {SPECIAL.id: UNKNOWN}
        assert unavailable(poor, (FOCUS, SPECIAL)) == {FOCUS.id: NO_CONTROLS, SPECIAL.id: NO_CONTROLS}
        assert unavailable(None, (FOCUS,)) == {FOCUS.id: NO_NODE}
        full.close()
        poor.close()

    asyncio.run(look())


def test_the_command_tells_them() -> None:
    control = Control(FOCUS.id, "Focus", 1, 0, 100, 1, 0, 0, NO_CONTROLS)
    assert control.document(3)["unavailable"] == NO_CONTROLS
    assert NO_CONTROLS in control.remarks[0]
    assert not Control(FOCUS.id, "Focus", 1, 0, 100, 1, 0, 0).remarks
