# SPDX-License-Identifier: GPL-2.0-or-later
"""A crop of edges as the scene has it, and as four ways of developing one raw frame make it: docs/demosaic.png.

``python -m tests.bench.quality_picture FILE``. Nothing in it is drawn by hand: scene, sensor and noise are those of
`pixel_quality`, the columns are `quality_bench`'s.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tests.bench import pixel_quality as quality
from tests.bench.color_difference import mean_difference
from tests.bench.pixel_quality import Planes
from tests.bench.pixel_raw_reference import pack
from tests.bench.quality_bench import SIZE, by_numpy, by_opencv, developed

CROPS = ((905, 500), (1075, 330), (1660, 960))  # zone plate's middle, an edge of three colours, steep waves
SIDE = 72
ENLARGED = 3


def image_of(planes: Planes) -> Image.Image:
    """As a screen shows it."""
    y = (planes.y.astype(np.float64) - 16) / 219
    u, v = ((c.astype(np.float64).repeat(2, axis=0).repeat(2, axis=1) - 128) / 224 for c in (planes.u, planes.v))
    red, blue = y + 1.402 * v, y + 1.772 * u
    rgb = np.dstack([red, (y - 0.299 * red - 0.114 * blue) / 0.587, blue])
    return Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))


def main(path: Path) -> None:
    """Draw it."""
    cv2.setNumThreads(1)
    rgb = quality.scene(*SIZE)
    truth = Planes.of_linear(rgb)
    samples = quality.seen(rgb, 10)
    packed = pack(samples, 10)
    columns = {
        "scene": truth,
        "maglens": developed(packed, 10, SIZE, SIZE),
        "OpenCV bilinear": by_opencv(packed, 10, 8, False),
        "OpenCV edge-aware": by_opencv(packed, 10, 8, True),
        "numpy bilinear": by_numpy(samples, 10),
    }
    side, top = SIDE * ENLARGED, 40
    sheet = Image.new("RGB", (len(columns) * (side + 6) - 6, top + len(CROPS) * (side + 6) - 6), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    for k, (name, planes) in enumerate(columns.items()):
        told = (
            ""
            if name == "scene"
            else f"\n{quality.psnr(planes, truth)[0]:.1f} dB, dE {mean_difference(planes, truth):.2f}"
        )
        pen.text((k * (side + 6) + 2, 4), name + told, fill="black", font=font)
        picture = image_of(planes)
        for row, (x, y) in enumerate(CROPS):
            crop = picture.crop((x, y, x + SIDE, y + SIDE)).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(crop, (k * (side + 6), top + row * (side + 6)))
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
