# SPDX-License-Identifier: GPL-2.0-or-later
"""Picture: what the emulated camera sees: a gradient with a fine check, which obeys the controls, and a mark."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from maglens_driver.mode import MJPG, NV12, Mode
from maglens_driver.virtual import mark
from tests.tools.usbip.units import AE_MANUAL, CONTROLS

SHARP_AT: Final = 100
"""Focus setting at which the check is sharp."""

_CHECK_PIXELS: Final = 8
_CHECK_LUMA: Final = 40
_DEFAULTS: Final = {control.name: control.default for control in CONTROLS}

Plane = npt.NDArray[np.uint8]


class Picture:
    """One size and format. The scene is drawn anew only when a control changes it."""

    def __init__(self, mode: Mode, values: Mapping[str, int]) -> None:
        self.mode = mode
        self._scene = b""
        self._chroma: list[Image.Image] = []
        self._painter = mark.Painter(mode.width, mode.height)
        self.apply(values)

    def apply(self, values: Mapping[str, int]) -> None:
        """Draw the scene as the controls say."""
        luma, blue, red = _draw(self.mode.width, self.mode.height, values)
        if self.mode.fourcc == MJPG:
            # A JPEG is full-range; the marks are as easy to read in either.
            self._scene = _full(luma, 16, 219).tobytes()
            for plane in (blue, red):
                plane[: self._painter.rows] = plane[-self._painter.rows :] = 128
            self._chroma = [Image.fromarray(_full(plane, 16, 224)) for plane in (blue, red)]
        elif self.mode.fourcc == NV12:
            chroma = np.stack((blue[::2, ::2], red[::2, ::2]), axis=2)
            self._scene = luma.tobytes() + chroma.tobytes()
        else:
            packed = np.empty((*luma.shape, 2), np.uint8)
            packed[:, :, 0] = luma
            packed[:, 0::2, 1] = blue[:, ::2]
            packed[:, 1::2, 1] = red[:, ::2]
            self._scene = packed.tobytes()

    def frame(self, number: mark.Mark) -> bytes | bytearray:
        """The picture with a mark, as it goes into payloads."""
        picture = bytearray(self._scene)
        if self.mode.fourcc != MJPG:
            mark.draw(picture, self.mode, number)
            return picture
        luma = np.frombuffer(picture, np.uint8).reshape(self.mode.height, self.mode.width)
        self._painter.draw(luma, number)
        out = io.BytesIO()
        Image.merge("YCbCr", [Image.fromarray(luma), *self._chroma]).save(out, "JPEG", quality=80)
        return out.getvalue()


def _draw(width: int, height: int, values: Mapping[str, int]) -> tuple[Plane, Plane, Plane]:
    """Luma and chroma at full size, video range; computed by rows and columns, for a camera redraws at once."""
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    focused = SHARP_AT if values["auto_focus"] else values["focus"]
    sharpness = 1 / (1 + abs(focused - SHARP_AT) / 10)
    check = np.float32(_CHECK_LUMA * sharpness)
    odd = (x // _CHECK_PIXELS + y // _CHECK_PIXELS) % 2 == 1
    exposure = values["exposure"] if values["auto_exposure"] == AE_MANUAL else _DEFAULTS["exposure"]
    light = values["gain"] / _DEFAULTS["gain"] * exposure / _DEFAULTS["exposure"]
    contrast = values["contrast"] / _DEFAULTS["contrast"]
    slope = x * 60 / width - 30
    high, low = (
        _limit((110 + (slope + each) * contrast) * light + values["brightness"], 235) for each in (check, -check)
    )
    luma = np.where(odd, high, low)
    colour = values["saturation"] / _DEFAULTS["saturation"] * 40
    blue = _limit(128 + colour * (2 * y / height - 1), 240)
    red = _limit(128 + colour * (2 * x / width - 1), 240)
    return luma, np.repeat(blue, width, axis=1), np.repeat(red, height, axis=0)


def _limit(plane: npt.NDArray[np.float64], top: int) -> Plane:
    return np.clip(np.rint(plane), 16, top).astype(np.uint8)


def _full(plane: Plane, low: int, span: int) -> Plane:
    return np.clip((plane.astype(np.int32) - low) * 255 // span, 0, 255).astype(np.uint8)
