# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenCV on the same job as `Developer`: packed Bayer to YUV 4:2:0, everything preallocated, on one thread.

`Steps` does what Developer does: unpack, black level, gains (white balance and vignetting), demosaic, colour matrix,
tone curve, YUV 4:2:0. `Short` only unpacks, demosaics and converts, as a quick program would. The unpacking is ours
in both, since OpenCV has none and numpy's takes ten times as long.

Ways tried for `Steps`, so that the peer is as fast as we know how to make it:
- 8 bits throughout: the fastest, at the price of two bits in the shadows (banding once the tone curve lifts them);
- 16 bits up to the tone curve: what the quality asks for. cv2.LUT takes 16-bit indices from OpenCV 5 on; before,
  the samples are brought to 8 bits first.
- Black level by cv2.subtract and both gains by one cv2.multiply with an integer map: float maps are slower by half.
- cv2.demosaicing bilinear; of 8 bits its edge-aware sibling is as fast or faster, `demosaic=` chooses.
- cv2.transform for the matrix (float32 is slower than 16 bits; cv2.gemm needs floats).
- BGR2YUV_I420, since OpenCV writes no NV12; its bytes are as many. YUYV it writes itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from maglens_v4l2 import _pixels
from tests.bench.pixel_raw_reference import Tuning, fourcc_of, mesh

Bits = Literal[8, 16]
DEMOSAIC = {
    "RGGB": (cv2.COLOR_BayerRGGB2BGR, cv2.COLOR_BayerRGGB2BGR_EA),
    "GRBG": (cv2.COLOR_BayerGRBG2BGR, cv2.COLOR_BayerGRBG2BGR_EA),
    "GBRG": (cv2.COLOR_BayerGBRG2BGR, cv2.COLOR_BayerGBRG2BGR_EA),
    "BGGR": (cv2.COLOR_BayerBGGR2BGR, cv2.COLOR_BayerBGGR2BGR_EA),
}
COLOURS = {"NV12": cv2.COLOR_BGR2YUV_I420, "YUYV": cv2.COLOR_BGR2YUV_YUYV}
GAIN_POINT = {8: 32, 16: 8192}  # 1.0 in the integer gain map
OPENCV_5 = int(cv2.__version__.split(".")[0]) >= 5


@dataclass(frozen=True, slots=True)
class Format:
    """What goes in: a packed Bayer picture."""

    width: int
    height: int
    cfa: str
    bits: int

    @property
    def fourcc(self) -> str:
        """V4L2's name."""
        return fourcc_of(self.cfa, self.bits)


def gain_map(fmt: Format, tuning: Tuning, depth: Bits) -> NDArray[Any]:
    """White balance times vignetting of each sample, as integers of the samples' own type."""
    falloff = mesh((fmt.height, fmt.width), (0, 0, fmt.width, fmt.height), tuning.falloff) / 16384
    out = np.empty((fmt.height, fmt.width))
    for k, colour in enumerate(fmt.cfa):
        out[k // 2 :: 2, k % 2 :: 2] = falloff * tuning.gains["RGB".index(colour)]
    top = (1 << depth) - 1
    out *= GAIN_POINT[depth] * ((1 << fmt.bits) - 1) / (tuning.white - tuning.black)
    return np.minimum(np.round(out), top).astype(np.uint8 if depth == 8 else np.uint16)


def matrix_bgr(tuning: Tuning) -> NDArray[np.float32]:
    """The colour matrix for pixels in OpenCV's order."""
    return np.ascontiguousarray(np.reshape(tuning.matrix, (3, 3))[::-1, ::-1], dtype=np.float32)


def room(fmt: Format, fourcc: str) -> NDArray[np.uint8]:
    """For a picture as OpenCV writes it: I420 (height * 3 / 2, width), YUYV (height, width, 2)."""
    return np.empty((fmt.height, fmt.width, 2) if fourcc == "YUYV" else (fmt.height * 3 // 2, fmt.width), np.uint8)


@dataclass(slots=True)
class Steps:
    """All of Developer's steps, in 8 or 16 bits."""

    fmt: Format
    tuning: Tuning
    depth: Bits = 16
    edge_aware: bool = False
    fourcc: str = "NV12"
    yuv: NDArray[np.uint8] = field(init=False)  # the result
    _samples: NDArray[Any] = field(init=False)
    _gains: NDArray[Any] = field(init=False)
    _bgr: NDArray[Any] = field(init=False)
    _bgr8: NDArray[np.uint8] = field(init=False)
    _matrix: NDArray[np.float32] = field(init=False)
    _tone: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        shape, kind = (self.fmt.height, self.fmt.width), np.uint8 if self.depth == 8 else np.uint16
        self.into(self.fourcc)
        self._samples = np.empty(shape, kind)
        self._gains = gain_map(self.fmt, self.tuning, self.depth)
        self._bgr = np.empty((*shape, 3), kind)
        self._bgr8 = self._bgr if self.depth == 8 else np.empty((*shape, 3), np.uint8)
        self._matrix = matrix_bgr(self.tuning)
        top = 1 << (8 if self.depth == 8 else self.fmt.bits)
        entries = (1 << 16) if self.depth == 16 and OPENCV_5 else 256
        index = np.minimum(np.arange(entries) / ((top if entries > 256 else 256) - 1), 1) * 8192
        self._tone = np.round(np.interp(index, np.arange(8193), self.tuning.curve) / 257).astype(np.uint8)

    def into(self, fourcc: str) -> None:
        """Write this from now on: NV12 (as I420) or YUYV."""
        self.fourcc, self.yuv = fourcc, room(self.fmt, fourcc)

    def __call__(self, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Develops one frame into `yuv`."""
        fmt, samples = self.fmt, self._samples
        _pixels.unpack(fmt.fourcc, fmt.width, fmt.height, 0, packed, self.depth, samples)
        # cv2's stubs know arrays only, cv2 itself takes numbers.
        black: Any = round(self.tuning.black / (1 << (fmt.bits - 8)) if self.depth == 8 else self.tuning.black)
        top: Any = (1 << fmt.bits) - 1
        cv2.subtract(samples, black, dst=samples)
        cv2.multiply(samples, self._gains, dst=samples, scale=1 / GAIN_POINT[self.depth])
        if self.depth == 16:
            cv2.min(samples, top, dst=samples)  # white balance must not tint what is clipped
        cv2.demosaicing(samples, DEMOSAIC[fmt.cfa][self.edge_aware], dst=self._bgr)
        cv2.transform(self._bgr, self._matrix, dst=self._bgr)
        if self.depth == 16 and not OPENCV_5:
            cv2.convertScaleAbs(self._bgr, dst=self._bgr8, alpha=255 / top)
            cv2.LUT(self._bgr8, self._tone, dst=self._bgr8)
        else:
            cv2.LUT(self._bgr, self._tone, dst=self._bgr8)
        cv2.cvtColor(self._bgr8, COLOURS[self.fourcc], dst=self.yuv)
        return self.yuv


@dataclass(slots=True)
class Short:
    """Unpack, demosaic, YUV in 8 bits: no black level, no gains, no matrix, no tone curve."""

    fmt: Format
    edge_aware: bool = False
    fourcc: str = "NV12"
    yuv: NDArray[np.uint8] = field(init=False)
    _samples: NDArray[np.uint8] = field(init=False)
    _bgr: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.into(self.fourcc)
        self._samples = np.empty((self.fmt.height, self.fmt.width), np.uint8)
        self._bgr = np.empty((self.fmt.height, self.fmt.width, 3), np.uint8)

    def into(self, fourcc: str) -> None:
        """Write this from now on: NV12 (as I420) or YUYV."""
        self.fourcc, self.yuv = fourcc, room(self.fmt, fourcc)

    def __call__(self, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Develops one frame into `yuv`."""
        fmt = self.fmt
        _pixels.unpack(fmt.fourcc, fmt.width, fmt.height, 0, packed, 8, self._samples)
        cv2.demosaicing(self._samples, DEMOSAIC[fmt.cfa][self.edge_aware], dst=self._bgr)
        cv2.cvtColor(self._bgr, COLOURS[self.fourcc], dst=self.yuv)
        return self.yuv
