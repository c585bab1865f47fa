# SPDX-License-Identifier: GPL-2.0-or-later
"""CRC-32C by every way of this processor, against the crc32c package and the standard's examples."""

from __future__ import annotations

from typing import Any

import crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maglens_v4l2 import _pixels

WAYS: list[Any] = ["portable", "hardware", "vpclmul", None]


def by(way: Any, data: Any, init: int = 0) -> int:
    try:
        return _pixels.crc32c(data, init, way=way)
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("way", WAYS)
def test_examples_of_rfc_3720(way: Any) -> None:
    assert by(way, bytes(32)) == 0x8A9136AA
    assert by(way, b"\xff" * 32) == 0x62A8AB43
    assert by(way, bytes(range(32))) == 0x46DD794E
    assert by(way, b"123456789") == 0xE3069283
    assert by(way, b"") == 0


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60)
@given(n=st.integers(0, 60_000), offset=st.integers(0, 70), cut=st.integers(0, 60_000), seed=st.integers(0, 9))
def test_equals_the_package_and_continues(way: Any, n: int, offset: int, cut: int, seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 256, n + offset, dtype=np.uint8)[offset:]
    want = crc32c.crc32c(data.tobytes())
    assert by(way, data) == want
    assert by(way, data[cut:], by(way, data[:cut])) == want


@pytest.mark.parametrize("way", WAYS)
def test_every_length_around_the_block_sizes(way: Any) -> None:
    data = np.random.default_rng(3).integers(0, 256, 26_000, dtype=np.uint8)
    for n in [*range(0, 1100), *range(24_500, 24_900, 7)]:
        assert by(way, data[:n], 7) == crc32c.crc32c(data[:n].tobytes(), 7)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="way is"):
        _pixels.crc32c(b"", way="fast")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no buffer"):
        _pixels.crc32c("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        _pixels.crc32c(np.zeros(8, np.uint8)[::2])
