# SPDX-License-Identifier: GPL-2.0-or-later
"""The module's clock: never back, at the right speed, soon told."""

from __future__ import annotations

import itertools
import time
from typing import Final

from maglens_driver.conform.check import Group, expect
from maglens_driver.conform.specimen import Specimen
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import Clock, Op, Status
from maglens_driver.usb.clock import MAX_DRIFT_PPM, ClockSample

CLOCK: Final = Group("clock")
_SAMPLES: Final = 16
_SPAN_S: Final = 1.0
_LONGEST_SPAN_S: Final = 3.0
_SURE_PPM: Final = 200.0  # how well a drift must be known to be judged
_COARSEST_NS: Final = 1_000_000  # of a clock that is to date frames


def _clock(s: Specimen) -> Clock:
    reply = s.get(Op.CLOCK)
    expect(reply.status == Status.OK, f"CLOCK is answered {reply.name}")
    expect(len(reply.body) >= Clock.SIZE, f"CLOCK has a body of {len(reply.body)} bytes")
    return Clock.unpack(reply.body)


def _samples(s: Specimen) -> list[ClockSample]:
    return [ClockSample(*s.requests.clock_sample()) for _ in range(_SAMPLES)]


@CLOCK.check("answers", "CLOCK is answered OK with a time")
def _answers(s: Specimen) -> None:
    _clock(s)


@CLOCK.check("resolution", f"its smallest step is told, and is at most {_COARSEST_NS // 1_000_000} ms")
def _resolution(s: Specimen) -> None:
    step = _clock(s).resolution_ns
    expect(0 < step <= _COARSEST_NS, f"{step} ns")


@CLOCK.check("reserved", "reserved is sent as 0")
def _reserved(s: Specimen) -> None:
    expect(_clock(s).reserved == 0, f"it is {_clock(s).reserved}")


@CLOCK.check("monotonic", f"it never goes back over {_SAMPLES} readings")
def _monotonic(s: Specimen) -> None:
    times = [one.module for one in _samples(s)]
    back = [(a, b) for a, b in itertools.pairwise(times) if b < a]
    expect(not back, f"it went back by {back[0][0] - back[0][1] if back else 0} ns")


@CLOCK.check("moves", "it moves on between readings")
def _moves(s: Specimen) -> None:
    times = [one.module for one in _samples(s)]
    expect(times[-1] > times[0], "it stands still")


@CLOCK.check("no_jumps", "between two readings passes as much of its time as of the host's, within the round trips")
def _jumps(s: Specimen) -> None:
    samples = _samples(s)
    for one, two in itertools.pairwise(samples):
        least, most = two.before - one.after, two.after - one.before
        slack = 1 + most * MAX_DRIFT_PPM // 1_000_000 + _clock(s).resolution_ns
        passed = two.module - one.module
        expect(least - slack <= passed <= most + slack, f"{passed} ns, when {least} to {most} ns had passed here")


@CLOCK.check("drift", f"it is at most {MAX_DRIFT_PPM} ppm fast or slow")
def _drift(s: Specimen) -> None:
    first = min(_samples(s), key=lambda one: one.round_trip)
    began = time.monotonic()
    while True:
        last = min(_samples(s), key=lambda one: one.round_trip)
        span = max(1, last.module - first.module)
        ppm = (first.offset - last.offset) / span * 1e6
        unsure = (first.round_trip + last.round_trip) / 2 / span * 1e6
        passed = time.monotonic() - began
        if passed >= _SPAN_S and (unsure < _SURE_PPM or passed > _LONGEST_SPAN_S):
            break
    expect(abs(ppm) - unsure <= MAX_DRIFT_PPM, f"{ppm:+.0f} ppm, known to {unsure:.0f}")


@CLOCK.check("latency", f"a reading takes at most a tenth of the limit of {limits.REPLY_S:g} s (median)", should=True)
def _latency(s: Specimen) -> None:
    median = sorted(one.round_trip for one in _samples(s))[_SAMPLES // 2] / 1e9
    expect(median <= limits.REPLY_S / 10, f"{median * 1000:.1f} ms")


@CLOCK.check("survives_standby", "it goes on through standby")
def _standby(s: Specimen) -> None:
    before = _clock(s).time_ns
    s.standing_by()
    expect(_clock(s).time_ns >= before, "it began anew")
    expect(s.state() is wire.ModuleState.STANDBY, "and it is not standing by")
