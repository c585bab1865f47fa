# SPDX-License-Identifier: GPL-2.0-or-later
"""A few cases of the pixel fuzzers: the kernels and the whole extension under sanitizers, and aarch64's bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.pixels.build import VARIANTS, Lacking, build, extension, run
from tests.fuzz.pixels.sanitized import PLANTED, Found, planted, run_calls

CASES = 25
CALLS = 600
ENTRIES = (
    "Developer", "JpegDecoder", "Remap", "Scaler", "copy", "crc32c", "fill", "image_bytes", "recolour", "turn",
    "unpack",
)  # fmt: skip


def made(how: Callable[[], Path]) -> Path:
    try:
        return how()
    except Lacking as lacking:
        pytest.skip(f"{lacking} is not installed")


def checksum(name: str) -> str:
    return run(VARIANTS[name], made(lambda: build(VARIANTS[name])), 1, CASES)


def calls(library: Path) -> str:
    try:
        return run_calls(library, 1, CALLS)
    except Lacking as lacking:
        pytest.skip(f"{lacking} is not installed")


def test_sanitizers_are_silent() -> None:
    assert len(checksum("sanitized")) == 8


def test_aarch64_gives_the_same_bits() -> None:
    assert checksum("aarch64") == checksum("plain")


def test_every_entry_takes_what_is_right_and_refuses_the_rest() -> None:
    seen = {name: int(n) for name, n in (each.rsplit(" ", 1) for each in calls(made(extension)).split(", "))}
    assert all(seen[name] > CALLS // 100 for name in ENTRIES)
    assert min(seen["taken"], seen["refused"]) > CALLS // 5


def test_a_planted_write_outside_a_buffer_is_found() -> None:
    (bug,) = (patch for patch in PLANTED if patch.stem == "short-buffer")
    library = made(lambda: planted(bug))
    with pytest.raises(Found, match="AddressSanitizer: heap-buffer-overflow"):
        calls(library)
