# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bench of the path from USB to an app compares is what it runs."""

from __future__ import annotations

from tests.bench.path import cases, guest
from tests.bench.path.still import FASTEST, MODES, STEPS


def test_everything_compared_is_run() -> None:
    run = {*guest.paths([], 60), *(f"modules/{n}" for n in guest.MODULES)}
    compared = {path for row in (*cases.COMPARED, cases.LONG) for path in row[4:6]}
    assert compared <= run
    assert run - compared == {"raw/ours"}, "whose peer is in its own figures"


def test_a_rate_is_a_little_above_what_was_reached() -> None:
    assert [guest._step(rate) for rate in (0.0, 9.0, 45.0, 66.0, 99.0, 500.0)] == [10, 10, 50, 80, 100, 100]
    assert FASTEST not in STEPS, "it has no clock"
    assert len(MODES) == len(set(MODES))


def test_fewer_figures_than_repeats_are_no_case() -> None:
    row = cases.LONG
    one = {"cpu_ms": 2.0}
    assert not list(cases._compare({"pass/ours": [one] * 3, "pass/floor": [one] * 2}, row))
    (case,) = cases._compare({"pass/ours": [one] * 3, "pass/floor": [{"cpu_ms": 4.0}] * 3}, row)
    assert (case.case, case.ratio) == ("usb/4k/nv12/cpu/floor", 0.5)
