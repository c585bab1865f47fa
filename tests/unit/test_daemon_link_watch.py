# SPDX-License-Identifier: GPL-2.0-or-later
"""Link watch: what is short, link or module, and the modes that are left then."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest

from maglens_daemon.config import Config
from maglens_daemon.fake import FakeSource, FakeVisitor, Steps
from maglens_daemon.link_health import LinkRules
from maglens_daemon.link_watch import LinkWatch
from maglens_daemon.mode_choice import choose_mode
from maglens_daemon.port import make_port
from maglens_daemon.restraint import Restraint
from maglens_daemon.session import Session
from maglens_driver.mode import MJPG, NV12, Mode, fourcc, make_mode
from tests.unit.test_daemon_session import FakeHost

FPS = Fraction(1, 30)


def jpeg(width: int, height: int, mbit_s: int) -> Mode:
    return Mode(MJPG, width, height, 0, width * height, FPS, mbit_s, 1000)


BIG = make_mode(NV12, 1280, 720, FPS, mbit_s=332, mw=1000)
MIDDLE = make_mode(NV12, 960, 540, FPS, mbit_s=187, mw=1000)
SMALL = make_mode(NV12, 640, 480, FPS, mbit_s=111, mw=1000)
BIG_JPEG, MIDDLE_JPEG, LESS_JPEG = jpeg(1280, 720, 60), jpeg(960, 540, 40), jpeg(800, 600, 39)
RAW = make_mode(fourcc("pRAA"), 640, 480, FPS, mbit_s=92, mw=1000)
MODES = (BIG, MIDDLE, SMALL, BIG_JPEG, MIDDLE_JPEG, LESS_JPEG, RAW)


class Counted(FakeSource):
    """A source with counters."""

    def __init__(self, modes: tuple[Mode, ...]) -> None:
        super().__init__(Steps(), "1", modes)
        self.counters: Counter[str] = Counter()


class Play:
    """A stay that plays the best mode for a node of 720p, a second at a time."""

    def __init__(self, modes: tuple[Mode, ...] = MODES) -> None:
        self.source = Counted(modes)
        visitor = FakeVisitor()
        visitor.needs_power = False
        self.session = Session(1, make_port("1-2", 5000, Config()), visitor, FakeHost())
        self.session.source = self.source
        self.rules = LinkRules()
        self.watch = LinkWatch(self.session, lambda: self.rules)
        self.now = 0.0
        self.generation = 1
        self.playing = self.best()

    def best(self) -> Mode:
        mode = choose_mode(self.source.modes, BIG, self.session.means()).mode
        assert mode is not None
        return mode

    def run(self, seconds: int, whole: int, **bad: int) -> list[Mode]:
        """So many frames a second; what was played one after the other."""
        found = [self.playing]
        for _ in range(seconds):
            self.now += 1
            self.source.counters.update({"frames": whole, **bad})
            moved, again = self.watch.look(self.now, self.generation, self.playing)
            assert again > self.now or not moved
            if moved and (best := self.best()) != self.playing:
                self.playing = best
                self.generation += 1
                found.append(best)
        return found


def test_a_bad_link_may_be_answered_by_compression() -> None:
    play = Play()
    assert play.run(2, 25, payload_crc=5) == [BIG, BIG_JPEG]
    assert "the link is bad" in play.session.restraint.link_note
    assert play.session.restraint.pace_note == ""


def test_a_bad_link_leads_to_compression_where_the_format_has_no_smaller_size() -> None:
    play = Play((BIG, BIG_JPEG))
    assert play.run(2, 25, payload_crc=5) == [BIG, BIG_JPEG]
    assert play.run(60, 30) == [BIG_JPEG, BIG]
    assert play.session.restraint.link_note == ""


@pytest.mark.parametrize("other", [replace(BIG_JPEG, mw=4000), replace(BIG_JPEG, fourcc=fourcc("H264"))])
def test_a_bad_link_never_leads_to_what_cannot_be_played(other: Mode) -> None:
    play = Play((BIG, other))
    play.session.restraint.mw = 1000
    assert play.run(10, 25, payload_crc=5) == [BIG]


def test_a_module_that_cannot_keep_up_never_has_to_compress(caplog: pytest.LogCaptureFixture) -> None:
    play = Play()
    with caplog.at_level(logging.INFO):
        assert play.run(30, 10, left_out=20) == [BIG, MIDDLE, SMALL]
    assert play.session.restraint.link_note == ""
    text = "the module cannot keep up: it left out 67% of its frames of 960x540 NV12 30 fps, and has less to do now"
    assert play.session.restraint.notes(play.session.port, MODES) == [text]
    assert text in caplog.text
    assert "the link" not in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert play.run(120, 30) == [SMALL, MIDDLE, BIG]
    assert caplog.text.count("the module kept up for a while; trying a larger mode") == 2
    assert play.session.restraint.notes(play.session.port, MODES) == []


def test_one_that_compresses_already_may_go_on_so() -> None:
    play = Play((BIG_JPEG, LESS_JPEG, SMALL))
    assert play.run(8, 10, left_out=20) == [BIG_JPEG, LESS_JPEG]


def test_where_nothing_is_less_work_it_goes_on_as_it_can() -> None:
    play = Play((BIG, BIG_JPEG))
    assert play.run(60, 10, left_out=20) == [BIG]
    assert play.session.restraint.notes(play.session.port, play.source.modes) == []


def test_a_stay_that_begins_anew_is_known_nothing_of() -> None:
    play = Play()
    play.run(2, 25, payload_crc=5)
    play.run(8, 10, left_out=20)
    assert play.watch.health.link.ceiling is not None
    assert play.watch.health.module.ceiling is not None
    play.session.restraint = Restraint()
    play.playing, play.generation = BIG, play.generation + 1
    assert play.run(120, 30) == [BIG]


def test_other_rules_hold_at_once_and_nothing_that_was_learnt_by_the_old_ones() -> None:
    play = Play((BIG, BIG_JPEG))
    play.run(2, 25, payload_crc=5)
    assert play.playing == BIG_JPEG
    play.rules = LinkRules(damaged_share=0.5)
    assert play.run(20, 25, payload_crc=5) == [BIG_JPEG, BIG]
    assert play.session.restraint.link_note == ""
