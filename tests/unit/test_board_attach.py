# SPDX-License-Identifier: GPL-2.0-or-later
"""The way in of a module: the table against its diagram, every failure and its rule, bounces and lies of the line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maglens_daemon.board import attach as attach_module
from maglens_daemon.board.attach import TRANSITIONS, Attach, AttachState, Do, Times
from maglens_daemon.board.failures import FAILURES, AttachFailed, Code, Rule, rules
from maglens_daemon.board.hardware import Fittings

S = AttachState
TIMES = Times(attach_s=0.1, removal_s=0.05, bounce_s=5.0, short_test_s=0.01, settle_s=0.02, enumerate_s=2.0)
PINS = Fittings(detect=True, switch=True, fault=True)
BARE = Fittings(switch=True, fault=True)


class Bench:
    """A machine, its time, and the board's levels; remembers everything that was asked of it."""

    def __init__(self, fittings: Fittings = PINS, times: Times = TIMES) -> None:
        self.machine = Attach(fittings, times)
        self.now = 0.0
        self.seated = self.fault = self.powered = self.stay = False
        self.done: list[tuple[float, Do]] = []
        self.take(self.machine.start(0.0, seated=False, powered=False))
        self.done.clear()

    def at(self, *states: S) -> bool:
        return self.machine.state in states

    def take(self, things: Iterable[Do]) -> None:
        for do in things:
            self.done.append((self.now, do))
            if do in (Do.POWER, Do.TEST_POWER):
                self.powered = True
            elif do is Do.OFF:
                self.powered = False
            elif do is Do.BEGIN:
                assert not self.stay
                self.stay = True
            elif do is Do.END:
                assert self.stay
                self.stay = False
            else:
                assert self.stay, "nothing is told of a module that has no session"

    def wait(self, seconds: float) -> None:
        """Time goes by, timers fire when they are due."""
        until = self.now + seconds
        while (at := self.machine.deadline_s) is not None and at <= until:
            self.now = max(self.now, at)
            self.take(self.machine.timer(self.now, seated=self.seated, fault=self.fault))
        self.now = until

    def detect(self, seated: bool) -> None:
        self.seated = seated
        self.take(self.machine.detect(seated, self.now))

    def usb(self, present: bool) -> None:
        self.take(self.machine.usb(present, self.now))

    def snap_on(self) -> None:
        """To being on USB."""
        self.detect(True)
        self.wait(0.2)
        assert self.at(S.ENUMERATE)
        self.usb(True)
        assert self.at(S.PRESENT)

    def did(self) -> list[Do]:
        """What was asked since the last time."""
        done = [do for _, do in self.done]
        self.done.clear()
        return done


def test_the_table_is_its_diagram() -> None:
    diagram = (attach_module.__doc__ or "").partition("::\n\n")[2].partition("\n\n``*``")[0]
    drawn: dict[S, set[S]] = {state: set() for state in S}
    for line in diagram.splitlines():
        parts = re.findall(r"[*\w]+|->|<-", line)
        for left, arrow, right in zip(parts[::2], parts[1::2], parts[2::2], strict=False):
            pair = (left, right) if arrow == "->" else (right, left)
            for state in S if pair[0] == "*" else (S(pair[0]),):
                if state is not S(pair[1]):
                    drawn[state].add(S(pair[1]))
    assert drawn == {state: set(targets) for state, targets in TRANSITIONS.items()}


def test_the_way_in() -> None:
    bench = Bench()
    bench.detect(True)
    bench.wait(0.5)
    assert bench.done == [
        (0.1, Do.BEGIN),
        (0.1, Do.TEST_POWER),
        (pytest.approx(0.11), Do.POWER),
    ]
    assert bench.at(S.ENUMERATE)
    bench.did()
    bench.usb(True)
    assert bench.did() == [Do.SEATED]
    bench.detect(False)
    bench.wait(0.049)
    assert bench.at(S.PRESENT)
    bench.wait(0.002)
    assert bench.did() == [Do.OFF, Do.END] and bench.at(S.EMPTY)


def test_usb_that_was_there_before_is_taken() -> None:
    bench = Bench(Fittings(detect=True))
    bench.usb(True)
    assert bench.did() == []  # nothing is seated, as the line says
    bench.detect(True)
    bench.wait(0.2)
    assert bench.did() == [Do.BEGIN, Do.POWER, Do.SEATED]


BOUNCES = st.lists(st.integers(1, 500).map(lambda ms: ms / 1000), min_size=1, max_size=30)


@given(BOUNCES)
@settings(max_examples=300)
def test_bounces_in(gaps: list[float]) -> None:
    """Whatever the contacts do, power comes only after a rest of attach_s, and attach_s after the last edge at the
    latest (plus what the rail takes)."""
    bench = Bench()
    level = False
    edges = []
    for gap in [*gaps, 1.0] if len(gaps) % 2 else gaps:  # ends seated
        level = not level
        if bench.machine.state in (S.EMPTY, S.DEBOUNCE) and bench.machine.counters["bounce"] == 0:
            edges.append(bench.now)
        bench.detect(level)
        bench.wait(gap)
    began = [at for at, do in bench.done if do is Do.TEST_POWER]
    for at in began:
        before = [edge for edge in edges if edge < at - 1e-9]
        assert not before or at - before[-1] >= TIMES.attach_s - 1e-9
    if not level:
        bench.detect(True)
    bench.wait(30.0)  # over every pause
    assert bench.machine.state in (S.ENUMERATE, S.RECOVER, S.QUARANTINED)


@given(BOUNCES)
@settings(max_examples=300)
def test_bounces_out(gaps: list[float]) -> None:
    """A module on USB stays in one stay until the line was off for removal_s without a break."""
    bench = Bench()
    bench.snap_on()
    bench.did()
    level, last = True, 0.0
    for gap in gaps:
        level = not level
        last = bench.now
        bench.detect(level)
        bench.wait(gap)
        if not level and abs(gap - TIMES.removal_s) <= 1e-9:
            return  # at the limit itself either end is right
        if not level and gap > TIMES.removal_s:
            assert bench.at(S.EMPTY) and not bench.powered
            (end,) = (at for at, do in bench.done if do is Do.END)
            assert end == pytest.approx(last + TIMES.removal_s)
            return
        assert bench.at(S.PRESENT) and bench.powered
    if not level:
        bench.wait(1.0)
        assert bench.at(S.EMPTY)


def test_each_edge_restarts_the_timer() -> None:
    bench = Bench()
    for _ in range(7):
        bench.detect(True)
        bench.wait(0.09)
        bench.detect(False)
        bench.wait(0.04)
    assert bench.did() == [] and bench.at(S.DEBOUNCE)
    bench.wait(0.02)
    assert bench.at(S.EMPTY)


def test_edges_while_the_rail_moves_are_not_believed() -> None:
    bench = Bench()
    bench.detect(True)
    bench.wait(0.105)
    assert bench.at(S.SHORT_TEST)
    bench.detect(False)
    bench.detect(True)
    bench.wait(0.1)
    assert bench.at(S.ENUMERATE)
    assert bench.machine.counters["edges_ignored"] == 2


def test_detect_is_read_again_after_power() -> None:
    bench = Bench()
    bench.detect(True)
    bench.wait(0.105)
    bench.detect(False)  # not believed, but the level stays
    bench.wait(0.1)
    assert bench.machine.counters["detect_lost"] == 1
    assert not bench.powered and bench.did()[-1] is Do.END
    assert bench.at(S.EMPTY), "it was lifted off"


def test_a_loose_module_is_tried_again() -> None:
    bench = Bench()
    for turn in range(1, 6):
        bench.detect(True)
        bench.wait(0.0)
        while not bench.at(S.POWER_ON):
            bench.wait(0.01)
        bench.detect(False)
        while not bench.at(S.RECOVER, S.QUARANTINED):
            bench.wait(0.001)
        bench.detect(True)
        bench.wait(0.001)
        assert bench.machine.failures == turn
    assert bench.at(S.QUARANTINED) and bench.machine.code is Code.DETECT_LOST


def short(bench: Bench) -> None:
    while not bench.at(S.SHORT_TEST):
        bench.wait(0.005)
    bench.powered = False
    bench.take(bench.machine.cut(bench.now, Code.OVER_CURRENT))


def at_power(bench: Bench) -> None:
    while not bench.at(S.POWER_ON):
        bench.wait(0.005)
    bench.powered = False
    bench.take(bench.machine.cut(bench.now, Code.OVER_CURRENT))


def not_on_usb(bench: Bench) -> None:
    while not bench.at(S.ENUMERATE):
        bench.wait(0.005)
    bench.wait(TIMES.enumerate_s)


def on_usb(code: Code) -> object:
    def fail(bench: Bench) -> None:
        while not bench.at(S.ENUMERATE):
            bench.wait(0.005)
        bench.usb(True)
        if code in (Code.OVER_CURRENT, Code.CURRENT_ALARM):
            bench.take(bench.machine.cut(bench.now, code))
        else:
            bench.take(bench.machine.fail(code, bench.now))
        bench.usb(False)

    return fail


FAILING = {
    Code.SHORT: short,
    Code.POWER_FAULT: at_power,
    Code.NO_USB: not_on_usb,
    **{
        code: on_usb(code)
        for code in (Code.NO_ANSWER, Code.OVER_CURRENT, Code.CURRENT_ALARM, Code.OVER_DRAW, Code.BOARD_ERROR)
    },
}


@pytest.mark.parametrize("code", FAILING)
def test_a_failure_is_tried_again_by_its_rule_and_then_not_any_more(code: Code) -> None:
    bench = Bench()
    bench.detect(True)
    rule = FAILURES[code].rule
    for turn in range(1, rule.tries + 1):
        FAILING[code](bench)  # type: ignore[operator]
        assert bench.machine.failures == turn
        assert not bench.powered, "off at once, and until the next try"
        if turn < rule.tries:
            assert bench.at(S.RECOVER)
            assert bench.machine.deadline_s is not None
            bench.wait(rule.pause_s * 0.9)
            assert not bench.powered
            bench.wait(rule.pause_s * 0.1)
    assert bench.at(S.QUARANTINED) and bench.machine.code is code
    assert bench.did()[-1] is Do.REFUSE
    assert bench.machine.counters[code.value] == rule.tries
    bench.wait(10_000.0)
    assert bench.did() == [] and not bench.powered, "for ever, as long as it is seated"
    bench.detect(False)
    bench.wait(1.0)
    assert bench.did() == [Do.OFF, Do.END]
    bench.snap_on()  # and afresh
    assert bench.machine.failures == 0


def test_failures_outside_the_window_are_forgotten() -> None:
    bench = Bench()
    bench.detect(True)
    for _ in range(20):
        short(bench)
        bench.wait(0.5)
        bench.usb(True)
        assert bench.at(S.PRESENT)
        bench.wait(FAILURES[Code.SHORT].rule.window_s / 4)
        bench.take(bench.machine.fail(Code.NO_ANSWER, bench.now))
        bench.usb(False)
        if bench.at(S.QUARANTINED):
            break
    assert bench.machine.code is Code.NO_ANSWER, "the shorts were too seldom to count"


def test_a_short_that_stays_is_seen_before_power() -> None:
    bench = Bench()
    bench.fault = True
    bench.detect(True)
    bench.wait(0.11)
    assert bench.machine.code is Code.SHORT
    assert Do.TEST_POWER not in bench.did()


def test_contacts_that_never_rest_are_a_failure_with_a_name() -> None:
    bench = Bench()
    for level in itertools.cycle((True, False)):
        bench.detect(level)
        bench.wait(0.03)
        if bench.at(S.QUARANTINED):
            break
        assert bench.now < 60
    assert bench.machine.code is Code.BOUNCE and bench.stay
    assert not any(do in (Do.POWER, Do.TEST_POWER) for do in bench.did())


def test_a_brown_out_is_not_a_removal() -> None:
    bench = Bench()
    bench.snap_on()
    bench.did()
    bench.usb(False)
    bench.wait(0.5)
    bench.usb(True)
    assert bench.did() == [Do.LOST, Do.SEATED]
    assert bench.machine.counters["brown_out"] == 1 and bench.machine.code is Code.BROWN_OUT
    assert bench.powered


@pytest.mark.parametrize("usb_first", [True, False])
@pytest.mark.parametrize("gap_ms", [0, 1, 49, 200])
def test_a_removal_is_not_a_brown_out(usb_first: bool, gap_ms: int) -> None:
    bench = Bench()
    bench.snap_on()
    for usb in (usb_first, not usb_first):
        if usb:
            bench.usb(False)
        else:
            bench.detect(False)
        bench.wait(gap_ms / 1000)
    bench.wait(0.3)
    assert bench.at(S.EMPTY) and not bench.powered and not bench.stay
    assert bench.machine.counters["brown_out"] == 0


def test_brown_outs_without_end_are_refused() -> None:
    bench = Bench()
    bench.snap_on()
    while bench.at(S.PRESENT):
        bench.usb(False)
        bench.wait(0.5)
        bench.usb(True)
    assert bench.machine.counters["brown_out"] == FAILURES[Code.BROWN_OUT].rule.tries
    assert bench.at(S.QUARANTINED) and not bench.powered


def test_a_module_that_resets_and_stays_away_is_power_cycled() -> None:
    bench = Bench()
    bench.snap_on()
    bench.usb(False)
    bench.wait(TIMES.enumerate_s)
    assert bench.at(S.RECOVER) and bench.machine.code is Code.BROWN_OUT
    bench.wait(1.5)
    assert bench.powered and bench.at(S.ENUMERATE)


def test_the_session_refuses() -> None:
    bench = Bench()
    bench.snap_on()
    bench.did()
    bench.take(bench.machine.refuse(bench.now))
    assert bench.did() == [Do.OFF] and bench.at(S.QUARANTINED)
    bench.usb(False)
    bench.wait(10_000.0)
    bench.detect(False)
    bench.wait(1.0)
    assert bench.did() == [Do.OFF, Do.END]


def test_a_cut_is_counted_once() -> None:
    bench = Bench()
    bench.snap_on()
    bench.take(bench.machine.cut(bench.now, Code.OVER_CURRENT))
    bench.take(bench.machine.cut(bench.now, Code.CURRENT_ALARM))
    assert bench.machine.counters == {"edges": 1, "over_current": 1}


def test_without_a_detect_line_usb_is_the_detect() -> None:
    bench = Bench(BARE)
    assert bench.powered and bench.at(S.EMPTY)
    bench.usb(True)
    assert bench.did() == [Do.BEGIN, Do.SEATED]
    bench.usb(False)
    assert bench.did() == [Do.END] and bench.powered
    bench.usb(True)
    bench.take(bench.machine.cut(bench.now, Code.OVER_CURRENT))
    bench.usb(False)  # by the cut
    assert bench.stay and bench.did()[-1] is Do.OFF
    bench.wait(1.1)
    assert bench.powered and bench.at(S.ENUMERATE)
    bench.wait(TIMES.enumerate_s)
    assert bench.done[-1][1] is Do.END and bench.at(S.EMPTY) and bench.powered, "it was lifted off meanwhile"


def test_a_fault_of_an_empty_port_without_a_detect_line() -> None:
    bench = Bench(BARE)
    bench.powered = False
    bench.take(bench.machine.cut(bench.now, Code.OVER_CURRENT))  # a key ring
    bench.wait(1.1)
    assert bench.powered and bench.at(S.EMPTY)


def test_a_service_that_starts_again_leaves_power_on() -> None:
    machine = Attach(PINS, TIMES)
    assert machine.start(0.0, seated=True, powered=True) == []
    machine.usb(True, 0.0)
    assert machine.timer(0.1, seated=True, fault=False) == [Do.BEGIN, Do.POWER]
    assert machine.timer(0.121, seated=True, fault=False) == [Do.SEATED]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["on", "off", "usb", "no usb", "fault", "alarm", "refuse", *(code.value for code in Code)]),
        st.integers(0, 3000).map(lambda ms: ms / 1000),
    ),
    max_size=60,
)


@given(
    EVENTS,
    st.sampled_from([PINS, BARE, Fittings(detect=True), Fittings(meter=True), Fittings(detect=True, switch=True)]),
)
@settings(max_examples=500)
def test_any_order_of_events_ends_well(events: list[tuple[str, float]], fittings: Fittings) -> None:
    """No illegal transition, no power for what is not let in, one session at a time, and an end."""
    bench = Bench(fittings)
    machine = bench.machine
    usb = False
    for event, gap in events:
        if event in ("on", "off"):
            if fittings.detect and bench.seated is not (event == "on"):
                bench.detect(event == "on")
        elif event in ("usb", "no usb"):
            usb = event == "usb"
            bench.usb(usb)
        elif event in ("fault", "alarm"):
            code = Code.OVER_CURRENT if event == "fault" else Code.CURRENT_ALARM
            bench.take(machine.cut(bench.now, code))
        elif event == "refuse":
            bench.take(machine.refuse(bench.now))
        elif machine.state is S.PRESENT:
            bench.take(machine.fail(Code(event), bench.now))
        bench.wait(gap)
        if fittings.switch and machine.state in (S.RECOVER, S.QUARANTINED, S.DEBOUNCE):
            assert not bench.powered
        if fittings.switch and fittings.detect and machine.state is S.EMPTY:
            assert not bench.powered
    if fittings.detect and bench.seated:
        bench.detect(False)
    bench.usb(False)
    bench.wait(400.0)
    assert machine.state is S.EMPTY and not bench.stay
    assert machine.deadline_s is None, "nothing is left to wait for"


def test_a_rail_that_fails_with_nothing_on_it_is_told_and_tried_again() -> None:
    bench = Bench(BARE)
    for _ in range(FAILURES[Code.OVER_CURRENT].rule.tries):
        bench.take(bench.machine.cut(bench.now, Code.OVER_CURRENT))
        assert not bench.powered
        if not bench.at(S.QUARANTINED):
            assert not bench.stay
            bench.wait(FAILURES[Code.OVER_CURRENT].rule.pause_s)
    assert bench.at(S.QUARANTINED) and bench.stay
    assert [do for _, do in bench.done[-3:]] == [Do.OFF, Do.BEGIN, Do.REFUSE]
    bench.wait(400.0)
    assert bench.at(S.EMPTY) and bench.powered and not bench.stay


def test_configured_rules_replace_those_of_the_table() -> None:
    mine = Rule(1, 10.0, 0.0)
    table = rules({"short": mine})
    assert table[Code.SHORT] is mine
    assert table[Code.NO_USB] is FAILURES[Code.NO_USB].rule
    machine = Attach(PINS, TIMES, table)
    machine.detect(True, 0.0)
    machine.timer(0.1, seated=True, fault=False)
    assert machine.cut(0.1, Code.OVER_CURRENT) == [Do.OFF, Do.REFUSE]


def test_every_code_has_a_row() -> None:
    assert set(FAILURES) == set(Code)
    for code in Code:
        error = AttachFailed(code, "detail")
        assert error.hint and error.cause == code.value and str(error).endswith("(detail)")
