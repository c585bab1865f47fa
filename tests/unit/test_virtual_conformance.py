# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual source is a Source like any other."""

from __future__ import annotations

import pytest

from maglens_driver.source import Source
from maglens_driver.virtual.source import VirtualSource
from tests.unit.source_conformance import SourceConformance


class VirtualRig:
    """Opens a virtual module, and pulls it off."""

    def __init__(self) -> None:
        self._source: VirtualSource | None = None

    async def open(self) -> Source:
        self._source = VirtualSource("35mm")
        self._source.camera.prepare(budget_s=0)
        return self._source

    def unplug(self) -> bool:
        assert self._source is not None
        self._source.unplug()
        return True


class TestVirtualSource(SourceConformance):
    """In-process, so it can be unplugged at will."""

    @pytest.fixture
    def rig(self) -> VirtualRig:
        return VirtualRig()
