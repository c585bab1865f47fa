# SPDX-License-Identifier: GPL-2.0-or-later
"""What the service does not load before it needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

IDLE = "import sys, maglens_daemon.service; print(*sys.modules)"


@pytest.mark.parametrize("package", ["numpy", "linuxpy", "libcamera"])
def test_a_service_that_idles_does_without(package: str) -> None:
    done = subprocess.run([sys.executable, "-c", IDLE], capture_output=True, text=True, check=True)
    assert "maglens_v4l2.pipeline" in done.stdout.split()
    assert package not in done.stdout.split()
