# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether memory creeps: told from what goes up and down."""

from __future__ import annotations

from random import Random

from tests.soak.holdings import crept


def test_noise_is_no_growth_and_a_leak_is() -> None:
    dice = Random(1)
    level = [112_000 + dice.randrange(-8_000, 8_000) for _ in range(25)]
    assert crept(level, 2.0) == ""
    leak = [kib + 20 * 50 * number for number, kib in enumerate(level)]  # 50 KiB in each of twenty cycles
    assert crept(leak, 2.0) != ""
    assert crept([90_000, 95_000, *level], 2.0) == "", "it may settle first"
    assert crept(leak[:8], 2.0) == "", "too few to say"
