# SPDX-License-Identifier: GPL-2.0-or-later
"""swscale (FFmpeg's) on a 16-bit Bayer picture, by ctypes: the peer that most programs would reach for."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SWS_FAST_BILINEAR = 1
CFA_FORMAT = {
    "RGGB": b"bayer_rggb16le",
    "GRBG": b"bayer_grbg16le",
    "GBRG": b"bayer_gbrg16le",
    "BGGR": b"bayer_bggr16le",
}


def libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """libavutil and libswscale. RuntimeError: they are not installed, and a report without them would look whole."""
    names = [ctypes.util.find_library(name) for name in ("avutil", "swscale")]
    if None in names:
        raise RuntimeError("libswscale, a peer of the bench, is not installed\n  try: make bench, which installs it")
    util, scale = (ctypes.CDLL(name) for name in names)
    util.av_get_pix_fmt.argtypes = [ctypes.c_char_p]
    scale.sws_getContext.restype = ctypes.c_void_p
    scale.sws_getContext.argtypes = [ctypes.c_int] * 7 + [ctypes.c_void_p] * 3
    scale.sws_scale.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int] * 2 + [ctypes.c_void_p] * 2
    return util, scale


def to_yuv(samples: NDArray[np.uint16], cfa: str, fourcc: str = "NV12") -> Callable[[], NDArray[np.uint8]]:
    """A function that demosaics and converts `samples` (16 bits, unpacked already) to I420 (for NV12) or YUYV.

    RuntimeError: swscale is not installed, or was built without Bayer formats.
    """
    util, scale = libraries()
    height, width = samples.shape
    formats = [
        util.av_get_pix_fmt(name) for name in (CFA_FORMAT[cfa], b"yuyv422" if fourcc == "YUYV" else b"yuv420p")
    ]
    sizes = (width, height, formats[0], width, height, formats[1])
    context = scale.sws_getContext(*sizes, SWS_FAST_BILINEAR, None, None, None)
    if min(formats) < 0 or not context:
        raise RuntimeError(f"this libswscale does not convert {CFA_FORMAT[cfa].decode()}")
    packed = fourcc == "YUYV"
    out = np.empty(width * height * (4 if packed else 3) // 2, np.uint8)
    planes = (0,) if packed else (0, width * height, width * height * 5 // 4)
    source: Any = (ctypes.c_void_p * 4)(samples.ctypes.data)
    source_stride: Any = (ctypes.c_int * 4)(2 * width)
    target: Any = (ctypes.c_void_p * 4)(*(out.ctypes.data + at for at in planes))
    target_stride: Any = (ctypes.c_int * 4)(*((2 * width,) if packed else (width, width // 2, width // 2)))

    def run() -> NDArray[np.uint8]:
        scale.sws_scale(context, source, source_stride, 0, height, target, target_stride)
        return out

    return run
