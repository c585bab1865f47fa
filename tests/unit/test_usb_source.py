# SPDX-License-Identifier: GPL-2.0-or-later
"""ModuleSource against a module in memory: the conformance of every Source, then what only a module does."""

from __future__ import annotations

import pytest

from tests.unit.source_conformance import SourceConformance
from tests.unit.usb_rig import FakeRig


@pytest.fixture(params=[64, 512, 1024], ids=["full-speed", "high-speed", "super-speed"])
def rig(request: pytest.FixtureRequest) -> FakeRig:
    return FakeRig(packet=request.param)


class TestConformance(SourceConformance):
    """ModuleSource is a Source."""
