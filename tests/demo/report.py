# SPDX-License-Identifier: GPL-2.0-or-later
"""Report: the demo's figures, each from event timestamps or from marks decoded out of the recordings."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.demo import judge
from tests.demo.recording import Recording
from tests.demo.story import RAW_LENS, Story

MS = 1e6
SEEN = 0.95  # of the frames that a module has sent
SEEN_RAW_EMULATED = 0.85  # developing takes turns with drawing there: frames come in bunches and displace each other
MORE = 0.02  # so many too many or too few frames may the app have got, as a share
NOT_LOSSES = frozenset(("frames_in", "submitted", "repeated", "cards", "filled"))


def attach_to_frame_ms(story: Story, cycles: Recording) -> list[float]:
    """Of each cycle: from udev's add to when the app dequeued the first frame of the module's new stay.

    ``cycles`` has times of arrival, as the C reader's are. A cycle of which the app saw nothing is left out.
    """
    firsts = [stay.first.time_ns for stay in judge.stays(cycles.shots)]
    found = []
    for added, until in itertools.pairwise([*story.cycle_udev_add_ns, math.inf]):
        first = next((when for when in firsts if added <= when < until), None)
        if first is not None:
            found.append((first - added) / MS)
    return found


def swap_gap_ms(story: Story, film: Recording) -> float | None:
    """From the moment the first lens was pulled to the first frame of the second; None if it never came."""
    first, second = (story.marks[lens] for lens in ("35mm", "73mm"))
    pulled = next((e.time_ns for e in story.events if e.kind == "detach"), None)
    shot = judge.first_after(film.shots, pulled, second) if pulled is not None else None
    assert first != second
    return (shot.time_ns - pulled) / MS if shot is not None and pulled is not None else None


def frames_after_restart(story: Story, film: Recording) -> int:
    """How many of the frames that the module has sent after the service was killed the app has seen."""
    killed = next((e.time_ns for e in story.events if e.kind == "restart"), math.inf)
    seen = [s for s in film.shots if s.mark and s.mark.source == story.marks["73mm"]]
    before = max((s.mark.number for s in seen if s.mark and s.time_ns < killed), default=0)
    return len({s.mark.number for s in seen if s.mark and s.time_ns >= killed and s.mark.number > before})


def sent_within(story: Story, stay: judge.Stay) -> int:
    """How many frames the module says it sent between the first and the last that the app saw, both included."""
    lens = next(name for name, mark in story.marks.items() if mark == stay.source)
    told = next(s for s in story.stays[lens] if s["generation"] & 0xFF == stay.generation)
    low, high = stay.numbers[0], stay.numbers[-1]
    return sum(max(0, min(b, high) - max(a, low) + 1) for a, b in told["runs"])


def dropped(story: Story) -> tuple[dict[str, int], dict[str, int]]:
    """Frames lost by cause: in the film, over both services, and in the cycles after it."""
    killed, film, cycles = (Counter(story.counters.get(when, {})) for when in ("kill", "film", "cycles"))
    return _losses(killed + film), _losses(cycles - film)


def _losses(counts: Mapping[str, int]) -> dict[str, int]:
    return {cause: count for cause, count in sorted(counts.items()) if cause not in NOT_LOSSES}


def least_seen(story: Story, stay: judge.Stay) -> float:
    """The share of a module's frames that the app is to see of a stay."""
    return SEEN_RAW_EMULATED if story.emulated and stay.source == story.marks.get(RAW_LENS) else SEEN


def frames_expected(story: Story, film: Recording) -> int:
    """How many frames an app gets from the first that it got to when it was told to stop, or the last it got."""
    end = max(film.shots[-1].time_ns, story.events[-1].time_ns)
    return round((end - film.shots[0].time_ns) / story.interval_ns) + 1


def make(story: Story, film: Recording, cycles: Recording) -> dict[str, Any]:
    """The report as JSON data."""
    seen = judge.stays(film.shots)
    spans = judge.gaps(film.shots, story.interval_ns)
    sent = [sent_within(story, s) for s in seen]
    enumeration = [(add - on) / MS for on, add in zip(story.cycle_attach_ns, story.cycle_udev_add_ns, strict=True)]
    in_film, in_cycles = dropped(story)
    ours, floor = attach_to_frame_ms(story, cycles), [t / MS for t in story.c_reader_ns]
    return {
        "attach_to_frame_ms": ours,
        "c_reader_attach_to_frame_ms": floor,
        "attach_to_frame_ratio": judge.median(ours) / judge.median(floor),
        "kernel_enumeration_ms": enumeration,
        "cold_start_ms": story.cold_start_ns / MS,
        "swap_gap_ms": swap_gap_ms(story, film),
        "frames_after_restart": frames_after_restart(story, film),
        "automatics_found": story.automatics,
        "modules": sorted(story.marks),
        "app_frames": len(film.shots),
        "app_frames_expected": frames_expected(story, film),
        "module_frames_sent": sent,
        "module_frames_seen": [len(s.numbers) for s in seen],
        "module_share_asked": [least_seen(story, s) for s in seen],
        "module_numbers_rising": all(s.rising for s in seen),
        "mixed_pictures": sum(s.mixed for s in film.shots),
        "late_generations": judge.interleaved(film.shots),
        "largest_gap_intervals": max(spans),
        "gaps_over_two": [
            {"at_s": (gap.before.time_ns - film.shots[0].time_ns) / 1e9, "what": str(gap)}
            for gap in judge.largest_gaps(film.shots, story.interval_ns, 2.0)
        ],
        "app_errors": len(story.app_errors),
        "app_restarts": story.app_restarts,
        "frames_cut_by_pull": story.frames_cut_by_pull,
        "frames_dropped_by_cause": in_film,
        "cycles_frames_dropped_by_cause": in_cycles,
        "acceleration": story.acceleration,
        "kernel": story.kernel,
        "node": story.node,
    }


def shortcomings(report: dict[str, Any], emulated: bool) -> list[str]:
    """What the figures miss of what was promised; empty when all is kept."""
    intervals, ratio = (4, 3.0) if emulated else (2, float("inf"))
    over = judge.median(report["attach_to_frame_ms"]) - judge.median(report["c_reader_attach_to_frame_ms"])
    shares = [report[f"module_{what}"] for what in ("frames_sent", "frames_seen", "share_asked")]
    checks = {
        "the app had errors": report["app_errors"] == 0 and report["app_restarts"] == 0,
        f"the app got more than {MORE:.0%} too many or too few frames": abs(
            report["app_frames"] / report["app_frames_expected"] - 1
        )
        <= MORE,
        "too few of a module's frames were seen": len(shares[0]) == len(report["modules"])
        and all(seen >= asked * sent for sent, seen, asked in zip(*shares, strict=True)),
        "nothing was seen after the service was killed": report["frames_after_restart"] > 0,
        "no frame was cut where the module was pulled in the middle of one": report["frames_cut_by_pull"] == 1,
        "exposure, white balance and focus were not found": RAW_LENS not in report["modules"]
        or (bool(report["automatics_found"]) and all(report["automatics_found"].values())),
        "frame numbers went back": report["module_numbers_rising"] and report["late_generations"] == 0,
        "a picture was put together from two": report["mixed_pictures"] == 0,
        f"a gap of over {intervals} intervals": report["largest_gap_intervals"] <= intervals,
        "too slow from attach to frame": len(report["attach_to_frame_ms"]) == len(report["kernel_enumeration_ms"])
        and (report["attach_to_frame_ratio"] <= ratio if emulated else over <= 100),
    }
    return [what for what, kept in checks.items() if not kept]
