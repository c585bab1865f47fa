# SPDX-License-Identifier: GPL-2.0-or-later
"""Link health: down mode by mode on a bad link or a slow module, up again on a good one, and never to and fro."""

from __future__ import annotations

import itertools
import re
from dataclasses import astuple
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from maglens_daemon.ladder import Move
from maglens_daemon.link_health import DAMAGE, LinkHealth, LinkRules, Reading, reading

PRICES = (60, 110, 221, 332, 497)
RULES = LinkRules()
FPS = 30


class Link:
    """A link of which so many frames in a hundred are damaged at each price."""

    def __init__(self, damaged: dict[int, int], rules: LinkRules = RULES) -> None:
        self.health = LinkHealth(rules)
        self.damaged = damaged
        self.now = 0.0
        self.whole = self.bad = 0
        self.moves: list[tuple[float, Move]] = []

    @property
    def playing(self) -> int:
        ceiling = self.health.link.ceiling
        return max(p for p in PRICES if ceiling is None or p <= ceiling)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            share = self.damaged.get(self.playing, 0)
            self.bad += FPS * share // 100
            self.whole += FPS - FPS * share // 100
            self.health.observe(self.now, Reading(self.whole, self.bad))
            move = self.health.judge_link(PRICES, self.playing)
            if move is not Move.STAY:
                self.moves.append((self.now, move))


def test_a_clean_link_keeps_all_its_modes() -> None:
    link = Link({})
    link.run(1000)
    assert link.moves == []
    assert link.playing == 497


def test_it_goes_down_one_mode_at_a_time_until_it_is_clean() -> None:
    link = Link({497: 20, 332: 10})
    link.run(20)
    assert [move for _, move in link.moves] == [Move.DOWN, Move.DOWN]
    assert link.playing == 221


def test_it_climbs_back_after_a_quiet_time_one_mode_at_a_time() -> None:
    link = Link({497: 20, 332: 10})
    link.run(20)
    link.damaged.clear()
    last_down = link.moves[-1][0]
    link.run(200)
    ups = [at for at, move in link.moves if move is Move.UP]
    assert len(ups) == 2
    assert ups[0] - last_down >= RULES.quiet_s
    assert ups[1] - ups[0] >= RULES.quiet_s
    assert link.playing == 497
    assert link.health.link.ceiling is None


def test_a_climb_that_fails_is_tried_ever_more_rarely() -> None:
    link = Link({497: 20})
    link.run(3600)
    ups = [at for at, move in link.moves if move is Move.UP]
    gaps = [b - a for a, b in itertools.pairwise(ups)]
    assert len(ups) <= 8
    assert all(b >= a for a, b in itertools.pairwise(gaps))
    assert gaps[-1] >= RULES.longest_quiet_s


def test_when_a_climb_has_held_the_quiet_time_is_short_again() -> None:
    link = Link({497: 20})
    link.run(300)
    assert link.health.link.quiet_s > RULES.quiet_s
    link.damaged.clear()
    link.run(2000)
    assert link.health.link.quiet_s == RULES.quiet_s


def test_nothing_smaller_is_left() -> None:
    link = Link(dict.fromkeys(PRICES, 50))
    link.run(100)
    assert link.playing == 60
    assert [move for _, move in link.moves] == [Move.DOWN] * 4


def looks(health: LinkHealth, *readings: Reading) -> list[tuple[Move, Move]]:
    """What link and module are judged to be after each of them, a second apart."""
    found = []
    for now, read in enumerate(readings):
        health.observe(float(now), read)
        found.append((health.judge_link(PRICES, 497), health.judge_module(PRICES, 497)))
    return found


STAY = (Move.STAY, Move.STAY)


def test_two_damaged_frames_are_no_bad_link() -> None:
    assert looks(LinkHealth(), Reading(), Reading(10, 2), Reading(20, 3)) == [STAY, STAY, (Move.DOWN, Move.STAY)]


def test_what_is_lost_with_damage_counts_against_the_link_and_alone_against_nobody() -> None:
    """Three that broke the stream cost nine more."""
    clean = LinkRules(damaged_share=0.1)
    assert looks(LinkHealth(clean), Reading(), Reading(57, 3)) == [STAY, STAY]
    assert looks(LinkHealth(clean), Reading(), Reading(57, 3, lost=9)) == [STAY, (Move.DOWN, Move.STAY)]
    assert looks(LinkHealth(), *(Reading(lost=20 * second) for second in range(30))) == [STAY] * 30


def test_a_module_that_leaves_frames_out_for_a_whole_window_has_less_to_do_and_its_link_is_good() -> None:
    slow = [Reading(whole=10 * second, left_out=20 * second) for second in range(7)]
    assert looks(LinkHealth(), *slow) == [STAY] * 5 + [(Move.STAY, Move.DOWN), STAY]


def test_a_module_that_leaves_half_of_them_out_is_left_alone() -> None:
    half = [Reading(whole=15 * second, left_out=15 * second) for second in range(60)]
    assert looks(LinkHealth(), *half) == [STAY] * 60
    fits_and_starts = [Reading(whole=30 * max(0, s - 2), left_out=30 * min(s, 2)) for s in range(60)]
    assert looks(LinkHealth(), *fits_and_starts) == [STAY] * 60


def test_a_module_that_keeps_up_again_climbs_back() -> None:
    health, whole, left_out, moves = LinkHealth(), 0, 0, []
    for now in range(200):
        ceiling = health.module.ceiling
        playing = max(p for p in PRICES if ceiling is None or p <= ceiling)
        slow = now < 50 and playing > 221
        whole, left_out = whole + (10 if slow else 30), left_out + (20 if slow else 0)
        health.observe(float(now), Reading(whole, 0, 0, left_out))
        assert health.judge_link(PRICES, playing) is Move.STAY
        if (move := health.judge_module(PRICES, playing)) is not Move.STAY:
            moves.append(move)
    assert moves == [Move.DOWN, Move.DOWN, Move.UP, Move.DOWN, Move.UP, Move.UP]
    assert health.module.ceiling is None


def test_old_damage_leaves_the_window() -> None:
    health = LinkHealth()
    readings = [Reading(whole=30 * second, damaged=2 if second else 0) for second in range(20)]
    assert looks(health, *readings) == [STAY] * 20
    assert health.shares() == (0.0, 0.0)


def test_only_what_tells_of_the_link_counts() -> None:
    counters = {"frames": 90, "left_out": 4, "payload_crc": 3, "trailer_missing": 1, "lost": 2, "no_buffer": 50}
    assert reading(counters) == Reading(whole=90, damaged=4, lost=2, left_out=4)


def test_every_cause_of_the_protocol_but_the_sensors_tells_of_the_link() -> None:
    """The table under "Stream" in docs/protocol.md."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()
    table = text.partition("| cause | what failed |\n")[2].partition("\n\n")[0]
    causes = {word for row in table.splitlines()[1:] for word in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert causes == DAMAGE - {"stall"} | {"payload_incomplete"}


@given(
    st.lists(st.tuples(*[st.integers(0, 30)] * 4), min_size=1, max_size=600),
    st.sampled_from([5.0, 30.0]),
)
def test_it_never_flaps(seconds: list[tuple[int, int, int, int]], quiet_s: float) -> None:
    """Whatever is counted: a quiet time lies before every climb, so their number is bounded by the time. So is that
    of all moves: each step down takes away a mode that was there from the start or that a climb gave back."""
    health = LinkHealth(LinkRules(quiet_s=quiet_s, longest_quiet_s=8 * quiet_s))
    read = Reading()
    ups: list[float] = []
    downs = 0
    last_bad = -1.0
    for now, more in enumerate(seconds):
        read = Reading(*(a + b for a, b in zip(astuple(read), more, strict=True)))
        ceiling = health.link.ceiling
        playing = max(p for p in PRICES if ceiling is None or p <= ceiling)
        health.observe(float(now), read)
        move = health.judge_link(PRICES, playing)
        after = health.link.ceiling
        if move is Move.UP:
            assert not ups or now - ups[-1] >= quiet_s
            assert now - last_bad >= quiet_s
            assert after is None or (ceiling is not None and after > ceiling)
            ups.append(now)
        elif move is Move.DOWN:
            assert after is not None
            assert after < playing
            downs += 1
            last_bad = now
        else:
            assert after == ceiling
        assert after is None or after in PRICES
        assert quiet_s <= health.link.quiet_s <= 8 * quiet_s
    assert len(ups) <= len(seconds) / quiet_s + 1
    assert downs <= len(ups) + len(PRICES) - 1
