# SPDX-License-Identifier: GPL-2.0-or-later
"""Pixel kernels make on an emulated processor what they make on a real one; modules are tried in virtual machines."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys

import pytest

from maglens_v4l2 import _pixels

EMULATOR = "qemu-x86_64"
PROGRAM = """
import hashlib
from tests.unit.test_pixels_emulated import made
print(hashlib.sha256(made()).hexdigest())
"""


def made() -> bytes:
    """A raw frame developed and a picture scaled, on AVX2."""
    import numpy as np

    random = np.random.default_rng(1)
    developer = _pixels.Developer("pRAA", 640, 480, 800, "NV12", 640, 480, 640, level="avx2", zones=(8, 8))
    curve = np.linspace(0, 65535, 8193).astype(np.uint16)
    developer.tune(black=64, white=1023, gains=(1.9, 1.0, 1.6), matrix=(1, 0, 0, 0, 1, 0, 0, 0, 1), curve=curve)
    picture = bytearray(640 * 480 * 3 // 2)
    developer.run(random.integers(0, 256, 800 * 480, dtype=np.uint8), picture)
    scaler = _pixels.Scaler("NV12", 640, 480, 640, "NV12", 426, 320, 426, level="avx2")
    small = bytearray(426 * 320 * 3 // 2)
    scaler.run(picture, small)
    return bytes(picture + small)


@pytest.mark.skipif(platform.machine() != "x86_64" or "avx2" not in _pixels.levels(), reason="no AVX2 here")
@pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"{EMULATOR} is not installed")
def test_an_emulator_makes_the_same() -> None:
    command = [EMULATOR, "-cpu", "max", sys.executable, "-c", PROGRAM]
    emulated = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()
    assert emulated == hashlib.sha256(made()).hexdigest()
