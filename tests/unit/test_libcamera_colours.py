# SPDX-License-Identifier: GPL-2.0-or-later
"""The colours of libcamera's cameras: what apps are told is asked for, and what comes of it is told."""

from __future__ import annotations

import pytest

from maglens_driver.errors import BadModule
from maglens_driver.libcamera.packet import ModeBody
from maglens_driver.libcamera.source import LibcameraSource, mode_of
from maglens_driver.mode import MJPG, NV12
from maglens_driver.ycbcr import Matrix, YCbCr
from tests.unit.test_libcamera_packet import MODE
from tests.unit.test_libcamera_source import Sink, scenario, wanted


@pytest.mark.parametrize(
    ("stays", "means"),
    [
        (None, None),  # a viewfinder's full range, until it is asked for another
        (["Rec709", "Full"], YCbCr(Matrix.BT709, full=True)),
        (["Null", "Limited"], None),
    ],
)
def test_a_camera_is_asked_for_what_apps_are_told(stays: list[str] | None, means: YCbCr | None) -> None:
    async def body(source: LibcameraSource) -> None:
        assert {mode.ycbcr for mode in source.modes if mode.fourcc == NV12} == {means}
        assert {mode.ycbcr for mode in source.modes if mode.fourcc == MJPG} <= {None}
        mode = await source.configure(wanted(source))
        assert mode.ycbcr == means
        sink = Sink()
        await source.start(sink, 1)
        await sink.until(lambda: bool(sink.frames))
        assert sink.frames[0].mode.ycbcr == means
        await source.stop()

    scenario(body, **({} if stays is None else {"colours": stays}))


def test_a_child_is_not_believed_every_matrix() -> None:
    said = {name: getattr(MODE, name) for name in ("fourcc", "width", "height", "stride", "nbytes")}
    rate = {"numerator": 1, "denominator": 30}
    assert mode_of(ModeBody(**said, **rate, matrix=6, full=1)).ycbcr == YCbCr(Matrix.BT2020, full=True)
    assert mode_of(ModeBody(**said, **rate, matrix=1)).ycbcr is None
    with pytest.raises(BadModule, match="matrix 3"):
        mode_of(ModeBody(**said, **rate, matrix=3))
