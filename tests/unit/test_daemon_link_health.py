# SPDX-License-Identifier: GPL-2.0-or-later
"""Link health: down mode by mode on a bad link, up again on a good one, and never to and fro."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from maglens_daemon.link_health import DAMAGE, LinkHealth, LinkRules, Move, Reading, reading

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
        ceiling = self.health.ceiling_mbit_s
        return max(p for p in PRICES if ceiling is None or p <= ceiling)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            share = self.damaged.get(self.playing, 0)
            self.bad += FPS * share // 100
            self.whole += FPS - FPS * share // 100
            move = self.health.observe(self.now, Reading(self.whole, self.bad), PRICES, self.playing)
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
    assert link.health.ceiling_mbit_s is None


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
    assert link.health.quiet_s > RULES.quiet_s
    link.damaged.clear()
    link.run(2000)
    assert link.health.quiet_s == RULES.quiet_s


def test_nothing_smaller_is_left() -> None:
    link = Link(dict.fromkeys(PRICES, 50))
    link.run(100)
    assert link.playing == 60
    assert [move for _, move in link.moves] == [Move.DOWN] * 4


def test_two_damaged_frames_are_no_bad_link() -> None:
    health = LinkHealth()
    health.observe(0, Reading(0, 0), PRICES, 497)
    assert health.observe(1, Reading(10, 2), PRICES, 497) is Move.STAY
    assert health.observe(2, Reading(20, 3), PRICES, 497) is Move.DOWN


def test_gaps_need_a_larger_share() -> None:
    health = LinkHealth()
    health.observe(0, Reading(), PRICES, 497)
    assert health.observe(1, Reading(whole=20, gaps=15), PRICES, 497) is Move.STAY
    assert health.observe(2, Reading(whole=20, gaps=45), PRICES, 497) is Move.DOWN


def test_old_damage_leaves_the_window() -> None:
    health = LinkHealth()
    for second in range(20):
        move = health.observe(second, Reading(whole=30 * second, damaged=2 if second else 0), PRICES, 497)
        assert move is Move.STAY
    assert health.shares() == (0.0, 0.0)


def test_only_what_tells_of_the_link_counts() -> None:
    counters = {"frames": 90, "missed": 4, "payload_crc": 3, "trailer_missing": 1, "no_buffer": 50, "events_lost": 7}
    assert reading(counters) == Reading(90, 4, 4)
    assert {"no_buffer", "stale", "payload_incomplete"}.isdisjoint(DAMAGE)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=600),
    st.sampled_from([5.0, 30.0]),
)
def test_it_never_flaps(seconds: list[tuple[int, int, int]], quiet_s: float) -> None:
    """Whatever is counted: a quiet time lies before every climb, so their number is bounded by the time. So is that
    of all moves: each step down takes away a mode that was there from the start or that a climb gave back."""
    health = LinkHealth(LinkRules(quiet_s=quiet_s, longest_quiet_s=8 * quiet_s))
    whole = damaged = gaps = 0
    ups: list[float] = []
    downs = 0
    last_bad = -1.0
    for now, (more_whole, more_damaged, more_gaps) in enumerate(seconds):
        whole, damaged, gaps = whole + more_whole, damaged + more_damaged, gaps + more_gaps
        ceiling = health.ceiling_mbit_s
        playing = max(p for p in PRICES if ceiling is None or p <= ceiling)
        move = health.observe(float(now), Reading(whole, damaged, gaps), PRICES, playing)
        after = health.ceiling_mbit_s
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
        assert quiet_s <= health.quiet_s <= 8 * quiet_s
    assert len(ups) <= len(seconds) / quiet_s + 1
    assert downs <= len(ups) + len(PRICES) - 1
