# SPDX-License-Identifier: GPL-2.0-or-later
"""A few cases of the pixel fuzzer: under sanitizers, and on aarch64 with the same bits as here."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fuzz.pixels.build import VARIANTS, Lacking, build, run

CASES = 25


def checksum(name: str, folder: Path) -> str:
    try:
        return run(VARIANTS[name], build(VARIANTS[name], folder), 1, CASES)
    except Lacking as lacking:
        pytest.skip(f"{lacking} is not installed")


def test_sanitizers_are_silent(tmp_path: Path) -> None:
    assert len(checksum("sanitized", tmp_path)) == 8


def test_aarch64_gives_the_same_bits(tmp_path: Path) -> None:
    assert checksum("aarch64", tmp_path) == checksum("plain", tmp_path)
