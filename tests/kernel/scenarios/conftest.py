# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the scenarios in User Mode Linux."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.board_scene import LINES, Witness
from tests.kernel.gpio_sim import SimChip, sim_chip


@pytest.fixture
def board_chip() -> Iterator[SimChip]:
    """A chip with a board's lines."""
    with sim_chip(LINES) as made:
        yield made


@pytest.fixture
def witness() -> Iterator[Witness]:
    """Watches the processor meanwhile."""
    made = Witness()
    yield made
    made.close()
