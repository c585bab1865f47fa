# SPDX-License-Identifier: GPL-2.0-or-later
"""The kit's check of a rate: neither a coarse clock nor a late picture fails it, and no wrong rate passes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from maglens_driver.conform import stream_checks
from maglens_driver.conform.specimen import Specimen
from maglens_driver.link import wire
from maglens_driver.usb.fake import trailer_for
from tests.unit.test_conform import FACTS, INTERVAL, Bench, quick
from tests.unit.usb_rig import DESCRIPTOR, FakeRig

SPAN_S = 0.5
FAST_S = 0.005  # so often the fake sends what it says to be INTERVAL apart
EPOCH_NS = 10**12
TICK = INTERVAL * 6 / 5  # of a clock that is slower than the rate, as vivid's in User Mode Linux
PHASE = TICK * 3 / 5

Told = Callable[[int], tuple[int, float]]


def coarse(sent: int) -> tuple[int, float]:
    """At each tick but one the picture that is due by then; the first one amid a tick, as the stream begins."""
    tick = sent + (sent > 2)
    return (12 * tick + 5) // 10, float(tick * TICK if tick else PHASE)


def late(sent: int) -> tuple[int, float]:
    """The first picture, and one of the later ones, begin several intervals late."""
    return sent, float(INTERVAL * (sent + {0: 3, 7: 4}.get(sent, 0)))


def fast(sent: int) -> tuple[int, float]:
    return sent, float(INTERVAL * sent * 94 / 100)


def slow(sent: int) -> tuple[int, float]:
    return sent, float(INTERVAL * sent * 106 / 100)


def left_out(sent: int) -> tuple[int, float]:
    """Of ten pictures one is left out, and uses up no id."""
    return sent, float(INTERVAL * (sent + sent // 9))


def judged(told: Told, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
    """A module whose n-th picture says this id and this time (s): what fails, and why."""
    monkeypatch.setattr(stream_checks, "RATE_S", SPAN_S)
    sent = {"epoch": 0, "count": 0}

    def frame(_frame_id: int, writes: list[bytes]) -> list[bytes]:
        leader = wire.Leader.unpack(writes[0])
        if leader.epoch != sent["epoch"]:
            sent.update(epoch=leader.epoch, count=0)
        number, at_s = told(sent["count"])
        sent["count"] += 1
        leader = replace(leader, frame_id=number, time_ns=EPOCH_NS + round(at_s * 1e9))
        return [wire.seal(leader), writes[1], wire.seal(trailer_for(leader, writes[1]))]

    rig = FakeRig(descriptor=quick(DESCRIPTOR), interval_s=FAST_S, frame=frame)
    rig.module.patient = True
    bench = Bench(rig, Specimen(FACTS, rig.device, rig.transport))
    wrong = bench.run("stream.rate")
    bench.specimen.close()
    return wrong, bench.why("stream.rate")


@pytest.mark.parametrize("told", [coarse, late], ids=lambda told: told.__name__)
def test_a_sound_rate_passes_however_coarse_its_times(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(told, monkeypatch) == ([], "")


@pytest.mark.parametrize(("told", "ms"), [(fast, "9.40"), (slow, "10.60"), (left_out, "11.")])
def test_another_rate_is_caught(told: Told, ms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, why = judged(told, monkeypatch)
    assert wrong == ["stream.rate"]
    assert why.startswith(f"one takes {ms}"), why
    assert why.endswith("ms, 10.00 were configured")
