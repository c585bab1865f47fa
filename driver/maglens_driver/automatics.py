# SPDX-License-Identifier: GPL-2.0-or-later
"""Automatics: which control drives which others, and how it is switched off (V4L2's own conventions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maglens_driver.control import Cid


@dataclass(frozen=True, slots=True)
class Automatic:
    """Control ``id`` drives ``driven`` while its value is in ``on``; ``off`` ends that."""

    id: int
    on: frozenset[int]
    off: int
    driven: frozenset[int]


AUTOMATICS = (
    Automatic(Cid.FOCUS_AUTO, frozenset((1,)), 0, frozenset((Cid.FOCUS_ABSOLUTE, Cid.FOCUS_FINE))),
    Automatic(Cid.AUTO_WHITE_BALANCE, frozenset((1,)), 0, frozenset((Cid.WHITE_BALANCE_TEMPERATURE,))),
    Automatic(Cid.AUTOGAIN, frozenset((1,)), 0, frozenset((Cid.GAIN,))),
    Automatic(Cid.ISO_SENSITIVITY_AUTO, frozenset((1,)), 0, frozenset((Cid.ISO_SENSITIVITY,))),
    # enum v4l2_exposure_auto_type: 0 automatic, 1 manual, 2 shutter priority (automatic iris), 3 aperture priority
    Automatic(Cid.EXPOSURE_AUTO, frozenset((0, 3)), 1, frozenset((Cid.EXPOSURE_ABSOLUTE,))),
    Automatic(Cid.EXPOSURE_AUTO, frozenset((0, 2)), 1, frozenset((Cid.IRIS_ABSOLUTE,))),
)
SWITCHES = frozenset(automatic.id for automatic in AUTOMATICS)


def switches_to_end(control: int, values: Mapping[int, int]) -> dict[int, int]:
    """What has to be written before ``control`` obeys a hand, given the present values."""
    return {
        automatic.id: automatic.off
        for automatic in AUTOMATICS
        if control in automatic.driven and values.get(automatic.id) in automatic.on
    }


def is_driven(control: int, values: Mapping[int, int]) -> bool:
    """Whether an automatic moves ``control`` now."""
    return bool(switches_to_end(control, values))
