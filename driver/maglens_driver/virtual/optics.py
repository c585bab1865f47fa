# SPDX-License-Identifier: MIT
"""Optics: what a lens and its settings do to light. Thin lens, one aperture stop, no diffraction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maglens_driver.control import Cid
from maglens_driver.frame import Meta
from maglens_driver.link.descriptor import Descriptor

SCENE_KELVIN = 5600
FINE_PER_COARSE = 10_000  # steps of FOCUS_FINE in one of FOCUS_ABSOLUTE
# The scene is rightly exposed at 1/125 s, f/2.8, unity gain: EV 10 at ISO 100, an hour of golden light.
_REFERENCE = 0.008 / 2.8**2


@dataclass(frozen=True, slots=True)
class Optics:
    """Settings in force: focal length and sensor width in mm, f-number, focus in dioptres (0 is infinity), exposure
    in seconds, gain as a factor, white balance in kelvin; and the light: its temperature in kelvin, and its strength
    as a multiple of what the scene is drawn for. ``nearest_dpt``: how near the lens can be focused."""

    focal_mm: float
    sensor_mm: float
    fnumber: float
    focus_dpt: float
    exposure_s: float
    gain: float
    kelvin: int
    light_kelvin: int = SCENE_KELVIN
    light_level: float = 1.0
    nearest_dpt: float = 0.0

    @classmethod
    def of(cls, module: Descriptor, values: Mapping[int, int]) -> Optics:
        """Settings of ``module`` (which has a sensor) for these control values; what it lacks is at rest."""
        sensor = module.sensor
        if sensor is None:
            raise ValueError(f"{module.identity} has no sensor")
        lens = module.lens
        return cls(
            values.get(Cid.ZOOM_ABSOLUTE, lens.focal_um[0] // 100) / 10,
            sensor.width * sensor.pitch_nm / 1e6,
            lens.fnumber_milli[1] / 1000 / 2 ** (values.get(Cid.IRIS_ABSOLUTE, 0) / 200),
            values.get(Cid.FOCUS_FINE, values.get(Cid.FOCUS_ABSOLUTE, 0) * FINE_PER_COARSE) / 1e6,
            values.get(Cid.EXPOSURE_ABSOLUTE, 80) / 10_000,
            values.get(Cid.GAIN, 1000) / 1000,
            values.get(Cid.WHITE_BALANCE_TEMPERATURE, SCENE_KELVIN),
            nearest_dpt=1000 / max(1, lens.near_mm),
        )

    def blur_pixels(self, distance_m: float, width: int) -> float:
        """Diameter of the circle of confusion, in pixels of a picture ``width`` pixels wide, of a point at
        ``distance_m`` (``inf`` allowed).

        c = A f |1/d - 1/s| / (1 - f/s), with A the aperture's diameter, d the point's and s the focus distance.
        """
        focal = self.focal_mm / 1000
        away = abs(1 / distance_m - self.focus_dpt)
        circle = focal / self.fnumber * focal * away / max(0.01, 1 - focal * self.focus_dpt)
        return circle * 1000 / self.sensor_mm * width

    def brightness(self) -> float:
        """Linear exposure, 1.0 where the scene is rightly exposed."""
        return self.light_level * self.exposure_s * self.gain / self.fnumber**2 / _REFERENCE

    def color_gains(self) -> tuple[float, float, float]:
        """Linear gains of red, green, blue: telling the camera a warmer light than there is makes it bluer."""
        ratio = self.kelvin / self.light_kelvin
        return ratio**0.7, 1.0, ratio**-0.9

    def meta(self) -> Meta:
        """The settings as a frame carries them."""
        return Meta(
            round(self.exposure_s * 1e6),
            round(self.gain * 1000),
            round(self.fnumber * 1000),
            round(self.focus_dpt * 100),
            round(self.focal_mm * 1000),
            self.kelvin,
            round(self.focus_dpt * 1e6),
        )
