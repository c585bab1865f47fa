# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames that did not come: left out by the module, or lost as a stream was mended; damaged ones are neither."""

from __future__ import annotations

import pytest

from maglens_driver.usb.checks import OUT_OF_STEP
from maglens_driver.usb.job import MAX_JUMP
from maglens_driver.usb.source import ModuleSource
from tests.unit.source_conformance import RecordingSink
from tests.unit.test_usb_stream import DAMAGE, Once, Writes, resealed, retrailed, run
from tests.unit.usb_rig import FakeRig

FRAMES = 12


def renumbered(writes: Writes, frame_id: int) -> Writes:
    return [resealed(writes[0], frame_id=frame_id), writes[1], retrailed(writes[2], frame_id=frame_id)]


def counted(rig: FakeRig) -> dict[str, int]:
    """After ``FRAMES`` good frames and a stop."""

    async def body(source: ModuleSource, sink: RecordingSink) -> dict[str, int]:
        await source.start(sink, 1)
        await sink.until(lambda s: len(s.frames) >= FRAMES)
        await source.stop()
        return dict(source.counters)

    return run(rig, body)


def test_numbers_that_are_missing_alone_were_left_out() -> None:
    counters = counted(FakeRig(patient=True, frame=lambda number, writes: renumbered(writes, 3 * number)))
    begun = counters["left_out"] / 2  # of the frames after the first; the last one may have been stopped half-way
    assert begun in (counters["frames"] - 1, counters["frames"])
    assert "lost" not in counters


@pytest.mark.parametrize("name", [n for n in DAMAGE if DAMAGE[n][0] not in OUT_OF_STEP])
def test_a_damaged_frame_is_counted_by_its_cause_alone(name: str) -> None:
    counters = counted(FakeRig(patient=True, frame=Once(DAMAGE[name][1])))
    assert counters[DAMAGE[name][0]] == 1
    assert "left_out" not in counters
    assert "lost" not in counters


@pytest.mark.parametrize("name", [n for n in DAMAGE if DAMAGE[n][0] in OUT_OF_STEP])
def test_what_goes_with_a_broken_stream_is_not_left_out(name: str) -> None:
    """Two more are taken while it is mended."""
    once = Once(DAMAGE[name][1])

    def frame(number: int, writes: Writes) -> Writes:
        broken = 0 <= once.damaged < number
        return renumbered(writes, number + 2) if broken else once(number, writes)

    counters = counted(FakeRig(patient=True, frame=frame))
    assert counters[DAMAGE[name][0]] == 1
    assert "left_out" not in counters
    assert 2 <= counters["lost"] <= 3


def test_after_mending_frames_are_left_out_again() -> None:
    once = Once(DAMAGE["short payload"][1])

    def frame(number: int, writes: Writes) -> Writes:
        return once(number, writes) if once.damaged < 0 else renumbered(writes, 2 * number)

    counters = counted(FakeRig(patient=True, frame=frame))
    good_after = counters["frames"] - once.damaged
    assert counters["left_out"] in (good_after - 1, good_after), "the last one may have been stopped half-way"


def test_a_number_from_nowhere_counts_as_a_second_at_most() -> None:
    def frame(number: int, writes: Writes) -> Writes:
        return renumbered(writes, number if number < 5 else number + 2**63)

    counters = counted(FakeRig(patient=True, frame=frame))
    assert counters["left_out"] == MAX_JUMP
