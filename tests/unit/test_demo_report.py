# SPDX-License-Identifier: GPL-2.0-or-later
"""How the demo's film is judged: what its report would notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maglens_driver.virtual.mark import Mark
from tests.demo import arrivals, recording, report
from tests.demo.recording import Recording, Shot
from tests.demo.story import RAW_LENS, Event, Story

INTERVAL_NS = 33_333_333
MARKS = {"35mm": 35, "73mm": 73, RAW_LENS: 36}
STAY = 60  # frames that a module sends
CARD = 10
AHEAD_NS = 1_700_000_000_000_000_000


def film(*marks: Mark | None, start: int = 0) -> Recording:
    shots = tuple(Shot(i, (start + i) * INTERVAL_NS, mark, False) for i, mark in enumerate(marks))
    return Recording(Path("film"), 640, 480, shots)


def stay(source: int, generation: int = 1, count: int = STAY) -> list[Mark | None]:
    return [Mark(source, generation, number) for number in range(1, count + 1)]


def cards(count: int = CARD) -> list[Mark | None]:
    return [None] * count


def good_film() -> Recording:
    """Card, the three lenses with cards between, card."""
    return film(*cards(), *stay(35), *stay(73), *cards(), *stay(36), *cards())


def good_cycles() -> Recording:
    """Two attaches, the first marked frame four intervals after each."""
    return film(*cards(4), *stay(35, 2, 6), *cards(4), *stay(35, 3, 6))


def good_story() -> Story:
    stays = {lens: [{"generation": 1, "runs": [[1, STAY]]}] for lens in MARKS}
    return Story(
        interval_ns=INTERVAL_NS,
        acceleration="kvm",
        events=[
            Event(0, "card", "an app is recording"),
            Event(CARD * INTERVAL_NS, "attach", "on"),
            Event((CARD + STAY) * INTERVAL_NS, "detach", "off"),
            Event((CARD + STAY + STAY // 2) * INTERVAL_NS, "restart", "killed"),
            Event((3 * CARD + 3 * STAY - 1) * INTERVAL_NS, "end", "the app stops"),
        ],
        stays=stays,
        marks=dict(MARKS),
        cycle_attach_ns=[0, 10 * INTERVAL_NS],
        cycle_udev_add_ns=[0, 10 * INTERVAL_NS],
        c_reader_ns=[4 * INTERVAL_NS, 4 * INTERVAL_NS],
        automatics={"exposure": True, "white balance": True, "focus": True},
        counters={
            "kill": {"frames_in": 90, "dropped_displaced": 2},
            "film": {"frames_in": 60, "cards": 20, "dropped_bus": 1, "dropped_displaced": 3},
            "cycles": {"frames_in": 80, "cards": 40, "dropped_bus": 1, "dropped_displaced": 7},
        },
        frames_cut_by_pull=1,
    )


def missed(story: Story, seen: Recording) -> list[str]:
    return report.shortcomings(report.make(story, seen, good_cycles()), story.emulated)


def test_a_good_film_misses_nothing() -> None:
    result = report.make(good_story(), good_film(), good_cycles())
    assert report.shortcomings(result, emulated=False) == []
    assert result["app_frames"] == result["app_frames_expected"] == len(good_film().shots)
    assert result["attach_to_frame_ratio"] == pytest.approx(1.0, abs=1e-6)
    assert result["module_share_asked"] == [report.SEEN] * 3


def test_a_picture_still_shown_from_the_stay_before_is_no_first_frame() -> None:
    cycles = film(*stay(35, 2, 6), Mark(35, 2, 6), *cards(4), *stay(35, 3, 6))
    story = good_story()
    story.cycle_udev_add_ns = [0, 6 * INTERVAL_NS]  # the last frame stays on a little
    assert report.attach_to_frame_ms(story, cycles) == pytest.approx([0, 5 * INTERVAL_NS / report.MS])


def test_an_attach_of_which_the_app_saw_nothing_is_not_filled_with_the_next_one() -> None:
    story = good_story()
    story.cycle_udev_add_ns = [0, 10 * INTERVAL_NS, 11 * INTERVAL_NS]
    assert len(report.attach_to_frame_ms(story, good_cycles())) == 2


def test_drops_are_those_of_both_services_and_the_cycles_apart() -> None:
    result = report.make(good_story(), good_film(), good_cycles())
    assert result["frames_dropped_by_cause"] == {"dropped_bus": 1, "dropped_displaced": 5}
    assert result["cycles_frames_dropped_by_cause"] == {"dropped_displaced": 4}


@pytest.mark.parametrize("cut", [0, 2])
def test_a_pull_between_two_frames_is_told(cut: int) -> None:
    story = good_story()
    story.frames_cut_by_pull = cut
    assert missed(story, good_film()) == ["no frame was cut where the module was pulled in the middle of one"]


def test_automatics_are_asked_for_only_where_they_were_played() -> None:
    story = good_story()
    story.automatics = {}
    assert missed(story, good_film()) == ["exposure, white balance and focus were not found"]
    del story.marks[RAW_LENS]
    assert missed(story, film(*cards(), *stay(35), *stay(73), *cards(2 * CARD + STAY))) == []


def test_a_film_that_ended_before_the_service_was_killed_is_judged_too() -> None:
    story = good_story()
    story.events = [e for e in story.events if e.kind != "restart"]
    assert missed(story, good_film()) == ["nothing was seen after the service was killed"]


def test_a_freeze_at_the_end_is_seen() -> None:
    story = good_story()
    last = story.events[-1]
    story.events[-1] = Event(last.time_ns + 10 * INTERVAL_NS, last.kind, last.text)
    assert any("too many or too few" in what for what in missed(story, good_film()))


def test_what_comes_between_the_end_and_the_apps_own_end_is_expected() -> None:
    seen = film(*cards(), *stay(35), *stay(73), *cards(), *stay(36), *cards(4 * CARD))
    assert missed(good_story(), seen) == []


def few(source: int) -> Recording:
    """One in ten frames of a module missing."""
    parts = {s: [m for m in stay(s) if s != source or (m and m.number % 10)] for s in MARKS.values()}
    parts[source] += [parts[source][-1]] * (STAY - len(parts[source]))  # the picture stands: no gap
    return film(*cards(), *parts[35], *parts[73], *cards(), *parts[36], *cards())


@pytest.mark.parametrize("source", [35, 73, 36])
@pytest.mark.parametrize("acceleration", ["kvm", "tcg"])
def test_less_is_asked_of_the_raw_module_alone_and_only_where_the_processor_is_emulated(
    source: int, acceleration: str
) -> None:
    story = good_story()
    story.acceleration = acceleration
    enough = source == 36 and acceleration == "tcg"
    assert missed(story, few(source)) == ([] if enough else ["too few of a module's frames were seen"])


def test_the_documents_say_what_is_asked() -> None:
    page = Path(report.__file__).parents[2].joinpath("docs", "testing.md").read_text()
    for share in (report.SEEN, report.SEEN_RAW_EMULATED):
        assert f"{share:.0%}".replace("%", " %") in page


def test_times_of_arrival_are_brought_to_the_clock_of_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def pictures(*_: Any) -> Iterator[bytes]:
        for _number in range(2):
            yield np.zeros((48, 64), np.uint8).tobytes()

    monkeypatch.setattr(recording, "_probe", lambda _: (64, 48, [AHEAD_NS + 5000, AHEAD_NS + 9000]))
    monkeypatch.setattr(recording, "pictures", pictures)
    assert [s.time_ns for s in recording.read(Path("cycles"), AHEAD_NS).shots] == [5000, 9000]


def test_a_clock_that_was_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = arrivals.ahead_ns()
    assert arrivals.still_ahead_ns(before) == before
    monkeypatch.setattr(arrivals, "ahead_ns", lambda: before + 2 * arrivals.STEADY_NS)
    with pytest.raises(RuntimeError, match="the clock was set by 2"):
        arrivals.still_ahead_ns(before)
