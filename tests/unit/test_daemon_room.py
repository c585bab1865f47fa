# SPDX-License-Identifier: GPL-2.0-or-later
"""What plays makes room once for one that found none, and not again unless that has helped."""

from __future__ import annotations

import pytest

from maglens_daemon.room import Room


@pytest.mark.parametrize(
    ("failures", "then"),
    [
        ([], Room.BESIDE),
        ([False, False], Room.BESIDE),
        ([True], Room.ALONE),
        ([False, True], Room.ALONE),
        ([True, True], Room.NOWHERE),
        ([True, False], Room.NOWHERE),
        ([True, False, True], Room.NOWHERE),
    ],
)
def test_nobody_is_stopped_for_it_twice(failures: list[bool], then: Room) -> None:
    """``failures``: for each failed start, whether another was in the way."""
    room = Room.BESIDE
    for crowded in failures:
        room = room.after_failure(crowded=crowded)
    assert room is then
