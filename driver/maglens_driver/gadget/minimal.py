# SPDX-License-Identifier: MIT
"""A whole camera module on one screen: a grey that breathes. docs/writing-a-module.md starts it."""

import sys
from fractions import Fraction

from maglens_driver.frame import Meta
from maglens_driver.gadget.drawn import DrawnSource
from maglens_driver.gadget.service import serve
from maglens_driver.link.descriptor import Descriptor, Lens, PowerNeeds, Sensor
from maglens_driver.mode import NV12, make_mode
from maglens_driver.source import Identity

MODE = make_mode(NV12, 640, 480, Fraction(1, 30), mbit_s=111, mw=400)
GREYS = [bytes([64 + level]) * (640 * 480) + bytes([128]) * (640 * 240) for level in range(0, 128, 8)]
DESCRIPTOR = Descriptor(
    Identity("Acme", "Minimal", "0001"),
    "1.0",
    Lens("4 mm f/2", focal_um=(4000, 4000), fnumber_milli=(2000, 2000), near_mm=100),
    Sensor(640, 480, pitch_nm=3000, cfa="RGGB", bits=10, black=64, white=1023),
    (MODE,),
    (),
    PowerNeeds(standby_mw=100, peak_mw=450),
)
META = Meta(exposure_us=10_000, gain_milli=1000, fnumber_milli=2000, focal_um=4000)


def draw(view: memoryview, number: int) -> None:
    """Fill one NV12 picture."""
    view[:] = GREYS[number % len(GREYS)]


if __name__ == "__main__":
    sys.exit(serve(DrawnSource(DESCRIPTOR, draw, META), DESCRIPTOR))
