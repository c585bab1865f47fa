# SPDX-License-Identifier: MIT
"""Sensor: what a raw sensor makes of light: its own colours, vignetting, shot and read noise, black level, steps.

Light is kept as a mosaic of linear 16-bit values, one per sample in the sensor's own colours; ``ONE`` is a white
surface as green sees it. Exposing it takes two table look-ups and one addition per sample, since in the square root
of the electrons (plus the read noise squared) noise is the same everywhere (Anscombe's transform).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from maglens_driver.color import XYZ_OF_SRGB, adapted, camera_to_xyz
from maglens_driver.link.descriptor import Sensor
from maglens_driver.mode import Mode
from maglens_driver.raw import RawFacts
from maglens_driver.virtual.bayer import Bytes, Samples, bits_of, cfa_of, pack
from maglens_driver.virtual.optics import Optics

ONE: Final = 32768
HEADROOM: Final = 0.9  # of the sensor's range that rightly exposed white takes in green
FULL_WELL: Final = 6000  # electrons of one pixel at unity gain
READ_NOISE: Final = 3.0  # electrons of one pixel
MAX_BINNED: Final = 16  # pixels whose charge is put together; the rest are skipped
_GAMMA: Final = 2.2  # of the drawn scene
_ROOM: Final = 12_000  # below the darkest value, for noise
_SPAN: Final = 45_000
_BAND: Final = 1 << 19  # samples that are worked on at a time
_NOISE: Final = 1 << 20

F32 = npt.NDArray[np.float32]


class SensorModel:
    """One raw mode of one sensor. Not for several threads at once."""

    def __init__(self, sensor: Sensor, mode: Mode) -> None:
        if mode.raw is None:
            raise ValueError(f"nothing is known of the samples of {mode.describe()}")
        self.mode = mode
        self.facts: RawFacts = mode.raw
        self.cfa = cfa_of(mode)
        binned = min(MAX_BINNED, max(1, (sensor.width // mode.width) * (sensor.height // mode.height)))
        self._well = FULL_WELL * binned
        self._read = READ_NOISE * binned**0.5
        self._noise = np.random.default_rng(1).standard_normal(_NOISE, np.float32)
        self._shade: F32 | None = None
        self._rng = np.random.default_rng(2)

    def seen(self, scene: Bytes, kelvin: float, enlarge: int = 1) -> Samples:
        """Light (height, width) on the sensor of a drawn ``scene`` under a light of ``kelvin``. ``scene`` is
        sRGB-like of shape (height, width, 3), each side divided by ``enlarge``, which is 1 or even."""
        height, width = self.mode.height, self.mode.width
        # The scene's colours are what they look like under D65; its white is the light's.
        colors = np.linalg.solve(camera_to_xyz(self.facts, kelvin), adapted(kelvin) @ XYZ_OF_SRGB)
        colors = colors / colors.sum(axis=1)[1]
        linear = (np.arange(256, dtype=np.float32) / 255) ** np.float32(_GAMMA)
        out = np.empty((height, width), np.uint16)
        if self._shade is None:
            self._shade = self._shading()
        for place, channel in enumerate(self.cfa):
            dy, dx = divmod(place, 2)
            part = scene[dy::2, dx::2] if enlarge == 1 else scene
            light = sum((linear * np.float32(colors[channel, k]))[part[:, :, k]] for k in range(3))
            light = np.clip(light, 0, 1.99, dtype=np.float32)
            if enlarge > 2:
                light = light.repeat(enlarge // 2, axis=0).repeat(enlarge // 2, axis=1)
            light *= self._shade[dy::2, dx::2]
            light *= ONE
            out[dy::2, dx::2] = light
        return out

    def _shading(self) -> F32:
        """What vignetting leaves of the light, (height, width)."""
        height, width = self.mode.height, self.mode.width
        gains = self.facts.vignetting
        if len(gains) < 2:
            return np.ones((height, width), np.float32)
        y = (2 * np.arange(height, dtype=np.float32) + 1 - height)[:, None] ** 2
        x = (2 * np.arange(width, dtype=np.float32) + 1 - width)[None, :] ** 2
        at = (y + x) * ((len(gains) - 1) / (height**2 + width**2))
        low = np.minimum(at.astype(np.uint8), len(gains) - 2)
        at -= low
        table = np.array(gains, np.float32)
        return np.asarray(1 / (table[low] + at * np.diff(table)[low]), np.float32)

    def expose(self, light: Samples, optics: Optics, out: Bytes) -> None:
        """One frame of ``light`` at these settings, packed into ``out`` (flat); noise is new each time."""
        facts, bits = self.facts, bits_of(self.mode)
        gain, reach = optics.gain, HEADROOM * optics.brightness()
        squared = self._read**2
        electrons = np.arange(65536) / ONE * reach / gain * self._well
        unit = _SPAN / np.sqrt(electrons[-1] + squared)
        roots = (np.sqrt(electrons + squared) * unit + _ROOM).astype(np.uint16)
        back = (np.arange(65536) - _ROOM) / unit
        filled = (back * np.abs(back) - squared) / self._well * gain
        values = np.rint(facts.black + np.minimum(filled, 1) * (facts.white - facts.black))
        values = np.clip(values, 0, (1 << bits) - 1).astype(np.uint16)
        noise = np.clip(self._noise * (unit / 2), 500 - _ROOM, 65535 - _ROOM - _SPAN).astype(np.int16).view(np.uint16)
        height, width = light.shape
        rows = max(2, _BAND // width)
        packed = out[: self.mode.nbytes].reshape(height, self.mode.stride)
        for top in range(0, height, rows):
            part = roots[light[top : top + rows]]
            at = int(self._rng.integers(0, _NOISE - part.size + 1))
            part += noise[at : at + part.size].reshape(part.shape)
            pack(values[part], bits, packed[top : top + rows])
