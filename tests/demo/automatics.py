# SPDX-License-Identifier: GPL-2.0-or-later
"""Automatics: the part of the film in which a raw module finds exposure, white balance and focus by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from maglens_driver.control import Cid
from maglens_driver.gadget.client import SimClient
from maglens_v4l2.auto_focus import Status
from tests.tools import raw_lens
from tests.vm.guest import app_calls
from tests.vm.guest.recorder import Recording

KELVIN = 3600  # of the light on the scene: lamps, where the module is set to daylight
FOLDER = Path("/run/maglens-demo-lenses")
MOST_FRAMES = 1800


def dress() -> None:
    """Before the 35 mm module is started: it speaks raw."""
    raw_lens.install(FOLDER)


def watch(app: Recording, node: str, hold: Callable[[Recording, int], None]) -> bool:
    """Let the app record until the picture is sharp; whether it ever is."""
    control = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    try:
        for _ in range(MOST_FRAMES // 10):
            if app_calls.value(control, Cid.AUTO_FOCUS_STATUS) == Status.REACHED:
                return True
            hold(app, 10)
    finally:
        os.close(control)
    return False


def lamps(sim: SimClient) -> None:
    """Lamplight on the scene."""
    sim.light(KELVIN)
