# SPDX-License-Identifier: GPL-2.0-or-later
"""Every fault of the bench in every state of a session, generated; records in build/test/fault-matrix.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import matrix
from tests.faults.bench import Bench
from tests.faults.script import SCRIPTS, End, Script, half_seated, stall
from tests.soak import faults

REPORT = Path(__file__).resolve().parents[2] / "build" / "test" / "fault-matrix.json"


@pytest.fixture(scope="module")
def records() -> Iterator[list[matrix.Record]]:
    made: list[matrix.Record] = []
    yield made
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps([record.as_dict() for record in made], indent=1) + "\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_a_fault_in_every_state(script: Script, records: list[matrix.Record]) -> None:
    here = [matrix.play(script, state) for state in matrix.STATES]
    records += here
    assert {record.state: record.failures for record in here if record.failures} == {}


def test_the_states_are_all_there_are() -> None:
    assert len(matrix.cases()) == len(SCRIPTS) * len(matrix.STATES)
    assert {"empty", "attach", "identify", "contract", "ready", "streaming", "standby", "quarantined"} == set(
        matrix.STATES
    )


async def freeze(it: Bench) -> None:
    """The pipeline takes no turn any more."""
    it.pipeline._join()


@pytest.mark.parametrize(
    ("script", "state"),
    [
        (Script("wrong end", half_seated, End.REFUSED), "streaming"),
        (Script("wrong counter", stall, End.WELL, counter="never"), "ready"),
        (
            Script("wrong message", dict((s.name, s.play) for s in SCRIPTS)["short"], End.REFUSED, message="x"),
            "empty",
        ),
        (Script("frozen picture", freeze, End.GONE), "empty"),
    ],
    ids=lambda value: value.name if isinstance(value, Script) else "",
)
def test_the_matrix_would_notice(script: Script, state: str) -> None:
    assert matrix.play(script, state).failures


def test_a_short_soak_and_its_seed() -> None:
    """The long one is ``make soak``."""
    first, second = faults.block(7, cycles=12), faults.block(7, cycles=12)
    assert first.failures == ()
    assert first.story == second.story, "the seed does not reproduce it"
    assert faults.block(8, cycles=12).story != first.story
