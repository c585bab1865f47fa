# SPDX-License-Identifier: GPL-2.0-or-later
"""One stay: what a recording has to show of a module that came once and left once."""

from __future__ import annotations

from collections.abc import Sequence

from tests.demo import judge, recording
from tests.demo.recording import Shot
from tests.vm.guest.recorder import Recording


def one_stay(app: Recording, source: int) -> tuple[Sequence[Shot], judge.Stay]:
    """Card, one stay of the module with that mark, card; no picture made of two, no error. Every picture, and it."""
    assert app.errors() == []
    shots = recording.read(app.path).shots
    assert not any(shot.mixed for shot in shots)
    found = judge.stays(shots)
    assert [stay.source for stay in found] == [source], found
    (stay,) = found
    assert stay.rising, stay
    assert shots[0].mark is None
    assert shots[-1].mark is None
    print(f"{len(shots)} pictures, {len(stay.numbers)} of {stay.span} frames of the module")
    return shots, stay
