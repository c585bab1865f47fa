# SPDX-License-Identifier: GPL-2.0-or-later
"""A small module in memory, for the tests of the USB source."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.link.descriptor import (
    Calibration,
    ColorMatrix,
    Descriptor,
    Lens,
    PowerNeeds,
    Sensor,
)
from maglens_driver.mode import MJPG, NV12, YUYV, Mode, make_mode
from maglens_driver.source import Identity
from maglens_driver.usb.device import Endpoint
from maglens_driver.usb.fake import DEVICE, FakeModule, FakeTransport
from maglens_driver.usb.source import ModuleSource

DESCRIPTOR = Descriptor(
    Identity("maglens", "Test 35 mm f/1.4", "T1"),
    "1.0",
    Lens("35 mm f/1.4", (35_000, 35_000), (1400, 11_000), 300, ("focus", "iris")),
    Sensor(
        11648,
        8736,
        1485,
        "RGGB",
        12,
        256,
        4095,
        (ColorMatrix(17, (7161, 1021, 2182, 2624, 6929, 447, 131, -2182, 12900)), ColorMatrix(21, (1,) * 9)),
    ),
    (
        make_mode(NV12, 64, 48, Fraction(1, 30), mbit_s=2, mw=500),
        make_mode(YUYV, 64, 32, Fraction(1, 30), mbit_s=2, mw=500),  # 4096 bytes: a multiple of every packet size
        Mode(MJPG, 64, 48, 0, 6000, Fraction(1, 30), 2, 500),
    ),
    (
        ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus", ControlType.INTEGER, 0, 333, 1, 0, ControlFlag.RING),
        ControlInfo(Cid.IRIS_ABSOLUTE, "Iris", ControlType.INTEGER, 0, 600, 10, 600, ControlFlag.RING),
        ControlInfo(Cid.TEST_PATTERN, "Test pattern", ControlType.MENU, 0, 1, 1, 0, menu=((0, "Off"), (1, "Bars"))),
    ),
    PowerNeeds(150, 2500),
    Calibration((0, 120_000), (-5, 0, 30)),
)


class FakeRig:
    """Opens sources on one fake module."""

    def __init__(self, **options: Any) -> None:
        transport = {k: options.pop(k) for k in ("packet", "memory", "claim_error") if k in options}
        self.module = FakeModule(options.pop("descriptor", DESCRIPTOR), **options)
        self.transport = FakeTransport(self.module, **transport)
        self.device = replace(DEVICE, bulk=Endpoint(DEVICE.bulk.address, self.transport.packet))

    async def open(self) -> ModuleSource:
        return await ModuleSource.open(self.device, self.transport)

    def unplug(self) -> bool:
        self.module.unplug()
        return True
