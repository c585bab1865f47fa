# SPDX-License-Identifier: GPL-2.0-or-later
"""Automatics: the part of the film in which a raw module is given its exposure, white balance and focus."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from maglens_driver.control import Cid
from maglens_driver.gadget import client
from maglens_driver.gadget.client import SimClient
from maglens_v4l2.auto_focus import Status
from tests.demo.story import RAW_LENS
from tests.tools import raw_lens
from tests.vm.guest import app_calls
from tests.vm.guest.limits import emulated
from tests.vm.guest.recorder import Recording

FOLDER = Path("/run/maglens-demo-lenses")
MOST_FRAMES = 3600  # of the node
EMULATED_RATE = 6  # frames/s that an emulated processor develops beside drawing the next position of focus
EMULATED_SETTINGS = ("CPUWeight=50",)  # half of a service's usual: that drawing does not keep the camera waiting


def dress(undo: ExitStack) -> None:
    """Start the module, as what it is here; ``undo`` ends it and puts all back."""
    undo.callback(raw_lens.remove, FOLDER, RAW_LENS)
    if emulated():
        raw_lens.install(FOLDER, RAW_LENS, EMULATED_RATE, EMULATED_SETTINGS)
    else:
        raw_lens.install(FOLDER, RAW_LENS)
    undo.callback(client.stop, RAW_LENS)
    client.start(RAW_LENS)


def watch(app: Recording, node: str, hold: Callable[[Recording, int], None]) -> dict[str, bool]:
    """Let the app record until focus is found, or is not for too long; what is right then."""
    control = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    try:
        for _ in range(MOST_FRAMES // 10):
            if app_calls.value(control, Cid.AUTO_FOCUS_STATUS) == Status.REACHED:
                break
            hold(app, 10)
        return raw_lens.found({driven: app_calls.value(control, driven) for driven in raw_lens.DRIVEN})
    finally:
        os.close(control)


def lamps(sim: SimClient) -> None:
    """Lamplight on the scene."""
    sim.light(raw_lens.LAMPS_K)
