# SPDX-License-Identifier: GPL-2.0-or-later
"""A module before a made-up scene, for the automatics: optics by the model, light by FFT, noise, samples, and the
real pixel kernel's statistics of them. No threads, no clock: one call, one frame.

Settings show two frames after they were written. Scenes have as much contrast in one octave of detail as in the next,
and a few things with edges.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from maglens_driver.color import neutral
from maglens_driver.control import Cid, ControlInfo
from maglens_driver.frame import Frame
from maglens_driver.link.descriptor import Sensor
from maglens_driver.mode import NV12, SRGGB10P, make_mode
from maglens_driver.virtual.lens import load_lens
from maglens_driver.virtual.optics import Optics
from maglens_v4l2.auto_focus import AutoFocus
from maglens_v4l2.developing import DevelopConverter
from maglens_v4l2.measurement import Measurement, Window, measure
from maglens_v4l2.recipe_book import RecipeBook
from maglens_v4l2.statistics import Statistics
from tests.bench.pixel_raw_reference import pack

F32 = NDArray[np.float32]
LATENCY: Final = 2  # frames
FULL_WELL: Final = 12_000.0  # electrons at unity gain; a gain of 2 saturates at half
READ_NOISE: Final = 4.0  # electrons
BITS: Final = 10
INTERVAL: Final = Fraction(1, 30)
CONFUSION: Final = 1 / 1500  # of the diagonal


def _disc_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """2 J1(x) / x, what a disc does to a wave: Bessel's integral by the midpoint rule."""
    x = np.linspace(0, 1500, 30_001)
    angle = (np.arange(1024) + 0.5) * np.pi / 1024
    out = np.ones_like(x)
    for part in np.array_split(np.arange(1, len(x)), 40):
        some = x[part, None]
        out[part] = 2 * np.cos(angle - some * np.sin(angle)).mean(axis=1) / x[part]
    return x, out


_DISC: Final = _disc_table()


class Lease:
    """A frame's memory."""

    def __init__(self, packed: NDArray[np.uint8]) -> None:
        self.view = memoryview(packed)  # type: ignore[arg-type]

    def release(self) -> None:
        """Nothing to give back."""


class Rig:
    """One module. ``light``: the scene's brightness (1: right at EV 10); ``kelvin``: of its light; ``at_udpt``: how
    far away it is; ``mains_hz``: at which frequency its light pulses (0: none). All may be changed between frames.
    A ``coloured`` scene is sharp at any focus."""

    def __init__(self, lens: str, seed: int, size: tuple[int, int] = (640, 480), coloured: bool = False) -> None:
        self.descriptor = load_lens(lens).descriptor
        sensor = self.descriptor.sensor
        assert sensor is not None
        self.sensor: Sensor = sensor
        self.controls: dict[int, ControlInfo] = {info.id: info for info in self.descriptor.controls}
        self.values = {info.id: info.default for info in self.descriptor.controls}
        self.light, self.kelvin, self.at_udpt, self.mains_hz = 1.0, 5600.0, 0.0, 0
        self.window = Window()
        self.shot = 0
        self.mode = self.descriptor.with_facts(make_mode(SRGGB10P, *size, INTERVAL))
        assert self.mode.raw is not None
        self.facts = self.mode.raw
        self.book = RecipeBook()
        self._rng = np.random.default_rng(seed)
        self._size = size
        self._pending: deque[dict[int, int]] = deque({} for _ in range(LATENCY))
        self._shown = dict(self.values)
        self._coloured = coloured
        self._scene = self._painted(coloured)
        self._waves = np.fft.rfft2(self._scene.mean(axis=2))
        height, width = size[1], size[0]
        self._frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
        self._statistics: Statistics | None = None
        self._out = memoryview(bytearray(width * height * 3 // 2))
        self._converter = DevelopConverter(self.mode, make_mode(NV12, *size, INTERVAL), self.book, self._measured)

    @property
    def diagonal_m(self) -> float:
        """Of the sensor."""
        return math.hypot(self.sensor.width, self.sensor.height) * self.sensor.pitch_nm / 1e9

    @property
    def pixel_m(self) -> float:
        """Of the frames."""
        return self.sensor.width * self.sensor.pitch_nm / 1e9 / self._size[0]

    def write(self, values: Mapping[int, int]) -> dict[int, int]:
        """Move controls; they show LATENCY frames later."""
        clamped = {control: self.controls[control].clamp(value) for control, value in values.items()}
        self.values |= clamped
        self._pending[-1] |= clamped
        return clamped

    def optics(self) -> Optics:
        """Settings of the next frame."""
        return Optics.of(self.descriptor, self._shown | self._pending[0])

    def blur_circles(self, optics: Optics) -> float:
        """Blur of the scene in circles of confusion (the sensor's diagonal / 1500)."""
        pixels = optics.blur_pixels(1e6 / self.at_udpt if self.at_udpt else math.inf, self._size[0])
        return pixels * self.pixel_m / (self.diagonal_m * CONFUSION)

    def frame(self) -> Measurement:
        """Take one frame."""
        optics = self.optics()
        self._shown |= self._pending.popleft()
        self._pending.append({})
        packed = pack(self._samples(optics), BITS)
        self._converter.run(Frame(Lease(packed), packed.size, self.mode, self.shot, 0, 1, optics.meta()), self._out)
        self.shot += 1
        assert self._statistics is not None
        return measure(self._statistics, self.window)

    def skip(self) -> None:
        """A frame that nobody looks at."""
        self._shown |= self._pending.popleft()
        self._pending.append({})
        self.shot += 1

    def _measured(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def _painted(self, coloured: bool) -> F32:
        """Linear light (height, width, 3) with a mean of 0.18 in every colour."""
        width, height = self._size
        rng = self._rng
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
        frequency[0, 0] = 1
        waves = (rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)) / frequency
        waves[0, 0] = 0
        texture = np.fft.irfft2(waves, s=(height, width))
        scene = np.repeat(np.exp(0.35 * texture / texture.std())[:, :, None], 3, axis=2)
        for _ in range(rng.integers(3, 14)):
            x, y = rng.integers(0, width), rng.integers(0, height)
            w, h = rng.integers(width // 40, width // 3), rng.integers(height // 40, height // 3)
            colour = rng.uniform(0.3, 3.0, 3 if coloured else 1)
            scene[y : y + h, x : x + w] = colour
        return np.asarray(0.18 * scene / scene.mean(axis=(0, 1)), np.float32)

    def _samples(self, optics: Optics) -> NDArray[np.uint16]:
        blur = optics.blur_pixels(1e6 / self.at_udpt if self.at_udpt else math.inf, self._size[0])
        scene: NDArray[Any] = self._scene
        if blur > 0.05 and not self._coloured:
            veil = np.interp(np.pi * blur * self._frequency, *_DISC)
            scene = np.fft.irfft2(self._waves * veil, s=self._scene.shape[:2]).astype(np.float32)[:, :, None]
        white = neutral(self.facts, self.kelvin)
        level = self.light * optics.brightness() * self._pulses(optics.exposure_s)
        electrons = np.empty(self._scene.shape[:2], np.float32)
        for k, colour in enumerate((0, 1, 1, 2)):
            cut = np.s_[k // 2 :: 2, k % 2 :: 2]
            electrons[cut] = scene[cut][..., colour if scene.shape[2] == 3 else 0] * white[colour]
        electrons *= level / optics.gain * FULL_WELL
        noise = np.sqrt(np.maximum(electrons, 0) + READ_NOISE**2)
        electrons += self._rng.standard_normal(electrons.shape, np.float32) * noise
        facts = self.facts
        samples = facts.black + electrons * optics.gain / FULL_WELL * (facts.white - facts.black)
        return np.clip(np.round(samples), 0, (1 << BITS) - 1).astype(np.uint16)

    def _pulses(self, exposure_s: float) -> float:
        """What pulsing light gives an exposure at this time, relative to its mean: the integral of 1 - cos."""
        if not self.mains_hz:
            return 1.0
        omega = 4 * math.pi * self.mains_hz
        start = self.shot * float(INTERVAL)
        swing = math.sin(omega * (start + exposure_s)) - math.sin(omega * start)
        return 1 - swing / (omega * exposure_s)


def autofocus(rig: Rig, fine: int, limit: int = 200) -> AutoFocus:
    """Run a search on ``rig`` from FOCUS_FINE ``fine`` until it ends; frames that show no position asked for are not
    rendered."""
    info = rig.controls[Cid.FOCUS_FINE]
    focus = AutoFocus(info, rig.diagonal_m * CONFUSION, rig.pixel_m)
    rig.write({Cid.FOCUS_FINE: fine})
    for _ in range(LATENCY):
        rig.skip()
    focus.start(continuous=False)
    for _ in range(limit):
        wanted = focus.observe(rig.frame())
        if focus.state.value in ("held", "failed"):
            break
        if wanted is not None:
            focus.wrote(rig.write({Cid.FOCUS_FINE: wanted})[Cid.FOCUS_FINE])
            for _ in range(LATENCY):
                rig.skip()
    return focus
