# SPDX-License-Identifier: GPL-2.0-or-later
"""A few cases of the pixel fuzzer: under sanitizers, and on aarch64 with the same bits as here."""

from __future__ import annotations

import pytest

from tests.fuzz.pixels.build import CACHE, VARIANTS, Lacking, build, run

CASES = 25


def checksum(name: str) -> str:
    try:
        return run(VARIANTS[name], build(VARIANTS[name], CACHE), 1, CASES)
    except Lacking as lacking:
        pytest.skip(f"{lacking} is not installed")


def test_sanitizers_are_silent() -> None:
    assert len(checksum("sanitized")) == 8


def test_aarch64_gives_the_same_bits() -> None:
    assert checksum("aarch64") == checksum("plain")
