# SPDX-License-Identifier: GPL-2.0-or-later
"""LibcameraSource's controls, of the libcameras that have but one switch for exposure and of newer ones."""

from __future__ import annotations

from maglens_driver.control import Cid
from maglens_driver.libcamera.source import LibcameraSource
from tests.unit.test_libcamera_source import scenario


def test_newer_libcamera_has_more() -> None:
    async def body(source: LibcameraSource) -> None:
        controls = {c.id: c for c in source.controls}
        assert controls[Cid.WHITE_BALANCE_TEMPERATURE].maximum == 8000
        assert controls[Cid.EXPOSURE_AUTO].default == 0

    scenario(body, generation="0.7")
