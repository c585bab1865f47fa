# SPDX-License-Identifier: MIT
"""The minimal module once more, with a word on every line that you will change. Copy this file and begin.

sudo /usr/local/lib/maglens/bin/python -m maglens_driver.gadget.template
sudo maglens conform           # on the host: every promise of docs/protocol.md, one by one
"""

import sys
from collections.abc import Mapping
from fractions import Fraction

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.frame import Meta
from maglens_driver.gadget.drawn import DrawnSource
from maglens_driver.gadget.service import Place, serve
from maglens_driver.link.descriptor import ColorMatrix, Descriptor, Lens, PowerNeeds, Sensor
from maglens_driver.mode import NV12, YUYV, Mode, make_mode
from maglens_driver.source import Identity
from maglens_driver.virtual.lens import link_mbit

# 1. Who it is. Hosts tell modules apart by these three, and keep a person's settings under them: the serial number
#    must be another one for every unit made (read it from your processor's fuses, or write it at the factory).
IDENTITY = Identity(maker="Acme", model="Template", serial="0001")
FIRMWARE = "1.0"

# 2. The lens, in micrometres and thousandths. A zoom has two focal lengths; rings are what a hand can turn, out of
#    "focus", "iris" and "zoom". near_mm is the nearest distance that it can focus on.
LENS = Lens("4 mm f/2", focal_um=(4000, 4000), fnumber_milli=(2000, 2000), near_mm=100, rings=("focus",))

# 3. The sensor: from its data sheet. Matrices (camera to CIE XYZ, in ten-thousandths, row by row) are wanted by hosts
#    that develop raw frames; leave them out where you send finished pictures only.
SENSOR = Sensor(
    width=640,
    height=480,
    pitch_nm=3000,
    cfa="RGGB",
    bits=10,
    black=64,
    white=1023,
    matrices=(ColorMatrix(21, (6712, 1389, 1404, 2571, 7294, 135, 163, -2364, 13090)),),  # D65
)


# 4. The modes, your favourite first. Each has its price: mbit_s on the link, and mw while it streams. A host offers
#    only those that port and link can carry, so be honest, and have a cheap one.
def _mode(code: int, width: int, height: int, rate: int, mw: int) -> Mode:
    mode = make_mode(code, width, height, Fraction(1, rate))
    mbit_s = link_mbit(mode.nbytes, mode.interval)
    return make_mode(code, width, height, mode.interval, mbit_s=mbit_s, mw=mw)


MODES = (_mode(NV12, 640, 480, 30, 400), _mode(YUYV, 640, 480, 15, 380), _mode(NV12, 320, 240, 30, 300))

# 5. The controls, with V4L2's ids; docs/protocol.md has the units of focus, iris and zoom. RING: a hand can move it,
#    and then you tell the host (PacedSource.tell). A module without controls has () here, as the minimal one.
FOCUS = ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus, Absolute", ControlType.INTEGER, 0, 1000, 1, 0, ControlFlag.RING)

# 6. Power: the least, and the most that it ever draws, focus motors included. Before the host has granted more you
#    may take what bMaxPower says (Place.max_power_ma).
POWER = PowerNeeds(standby_mw=100, peak_mw=450)

DESCRIPTOR = Descriptor(IDENTITY, FIRMWARE, LENS, SENSOR, MODES, (FOCUS,), POWER)


PICTURES = {mode: [bytes([level]) * mode.nbytes for level in (96, 160)] for mode in MODES}


class TemplateSource(DrawnSource):
    """7. Where pictures come from. DrawnSource has a thread that calls :meth:`compose` at the mode's rate; here a
    control is added. Where a driver hands you buffers, write a Source of your own (maglens_driver/source.py) that
    delivers those buffers as they are: nothing is copied in Python.
    """

    def __init__(self) -> None:
        super().__init__(DESCRIPTOR, lambda _view, _number: None, Meta())
        self._focus = FOCUS.default

    async def get(self) -> Mapping[int, int]:
        """Present value of every control of the descriptor."""
        return {FOCUS.id: self._focus}

    async def set(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """Move the motor; answer with what it really did. The requests' side has refused ids that are not ours."""
        if FOCUS.id in values:
            self._focus = FOCUS.clamp(values[FOCUS.id])
        return {FOCUS.id: self._focus}

    def compose(self, mode: Mode, view: memoryview, generation: int, seq: int) -> tuple[int, Meta]:
        """8. One picture, and how it was taken: exposure, gain, aperture, focus as they *were*; 0 is "not known"."""
        view[: mode.nbytes] = PICTURES[mode][seq % 2]
        meta = Meta(exposure_us=10_000, gain_milli=1000, fnumber_milli=2000, focus_cdpt=self._focus, focal_um=4000)
        return mode.nbytes, meta


if __name__ == "__main__":
    # 9. Where: the gadget's name among others, the controller (None: the first free one), and bMaxPower.
    sys.exit(serve(TemplateSource(), DESCRIPTOR, Place(name="template", udc=None, max_power_ma=200)))
