# SPDX-License-Identifier: GPL-2.0-or-later
"""Battery and heat: read from a tree as sysfs has it, and what they lead to."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maglens_daemon.conditions import FAST_S, SLOW_S, Conditions, read
from maglens_daemon.power_policy import (
    DEGREES_BACK,
    PERCENT_BACK,
    Condition,
    Level,
    PowerRules,
    Readings,
    assess,
)
from tests.unit import fake_clock

RULES = PowerRules(budget_mw=9000, battery_budget_mw=6000)


class Tree:
    """A sysfs to be written to."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, text: str | int) -> None:
        file = self.root / "sys/class" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def battery(self, percent: int, status: str = "Discharging", name: str = "BAT0") -> None:
        self.put(f"power_supply/{name}/type", "Battery")
        self.put(f"power_supply/{name}/capacity", percent)
        self.put(f"power_supply/{name}/status", status)

    def mains(self, online: int) -> None:
        self.put("power_supply/AC/type", "Mains")
        self.put("power_supply/AC/online", online)

    def zone(self, celsius: float, kind: str = "cpu-thermal", number: int = 0) -> None:
        self.put(f"thermal/thermal_zone{number}/type", kind)
        self.put(f"thermal/thermal_zone{number}/temp", int(celsius * 1000))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_board_without_battery_or_zones(tree: Tree) -> None:
    assert read(["*"], tree.root) == Readings()


@pytest.mark.parametrize("text", ["", "--5", "\u00b2", "1e9", "0x10", "n/a", "5 %"])
def test_what_is_no_number_says_nothing(tree: Tree, text: str) -> None:
    tree.battery(50)
    tree.zone(60)
    tree.put("power_supply/BAT0/capacity", text)
    tree.put("thermal/thermal_zone0/temp", text)
    assert read(["*"], tree.root) == Readings()


def test_on_battery_and_fed(tree: Tree) -> None:
    tree.battery(40)
    assert read([], tree.root) == Readings(on_battery=True, percent=40)
    tree.mains(1)
    assert not read([], tree.root).on_battery
    tree.mains(0)
    assert read([], tree.root).on_battery
    tree.battery(40, "Charging")
    assert not read([], tree.root).on_battery


def test_what_is_no_battery_of_the_board(tree: Tree) -> None:
    tree.battery(3, name="hidpp_battery_0")
    tree.put("power_supply/hidpp_battery_0/scope", "Device")
    tree.battery(0, name="BAT1")
    tree.put("power_supply/BAT1/present", 0)
    assert read([], tree.root).percent is None


def test_only_zones_that_are_named_count_and_the_hottest_of_them(tree: Tree) -> None:
    tree.zone(91, "iwlwifi_1", 0)
    tree.zone(60.5, "cpu-thermal", 1)
    tree.zone(58, "gpu-thermal", 2)
    found = read(["*-thermal"], tree.root)
    assert (found.zone, found.celsius) == ("cpu-thermal", 60.5)
    tree.put("thermal/thermal_zone1/temp", "garbage")
    assert read(["*-thermal"], tree.root).zone == "gpu-thermal"


@pytest.mark.parametrize(
    ("now", "level", "budget"),
    [
        (Readings(), Level.NORMAL, 9000),
        (Readings(on_battery=True, percent=50), Level.NORMAL, 6000),
        (Readings(on_battery=True, percent=19), Level.LOW, 6000),
        (Readings(on_battery=True, percent=4), Level.CRITICAL, 6000),
        (Readings(on_battery=False, percent=4), Level.NORMAL, 9000),
        (Readings(zone="cpu", celsius=85.0), Level.NORMAL, 9000),
        (Readings(zone="cpu", celsius=85.1), Level.LOW, 9000),
        (Readings(zone="cpu", celsius=101.0), Level.CRITICAL, 9000),
        (Readings(on_battery=True, percent=10, zone="cpu", celsius=101.0), Level.CRITICAL, 6000),
    ],
)
def test_levels(now: Readings, level: Level, budget: int) -> None:
    found = assess(RULES, now)
    assert (found.level, found.budget_mw) == (level, budget)
    assert bool(found.reason) == (level is not Level.NORMAL)


def test_the_reason_is_that_of_the_worse() -> None:
    both = Readings(on_battery=True, percent=10, zone="cpu", celsius=101.0)
    assert assess(RULES, both).reason == "cpu is at 101 degrees"
    assert assess(RULES, Readings(on_battery=True, percent=10)).reason == "the battery is at 10 %"


def test_what_is_not_to_be_followed_is_not() -> None:
    rules = PowerRules(low_percent=None, critical_percent=None, warm_c=None, hot_c=None)
    worst = Readings(on_battery=True, percent=0, zone="cpu", celsius=120.0)
    assert assess(rules, worst) == Condition(Level.NORMAL, None)


@given(st.lists(st.integers(0, 100), max_size=60))
def test_a_battery_level_is_left_only_by_a_margin(percents: list[int]) -> None:
    level = Level.NORMAL
    for percent in percents:
        after = assess(RULES, Readings(on_battery=True, percent=percent), level).level
        if after < level:
            assert percent >= {Level.LOW: 20, Level.CRITICAL: 5}[level if after else Level.LOW] + PERCENT_BACK
        level = after


@given(st.lists(st.integers(60, 120), max_size=60))
def test_a_heat_level_is_left_only_by_a_margin(degrees: list[int]) -> None:
    level = Level.NORMAL
    for celsius in degrees:
        after = assess(RULES, Readings(zone="z", celsius=float(celsius)), level).level
        if after < level:
            assert celsius <= {Level.LOW: 85, Level.CRITICAL: 100}[level if after else Level.LOW] - DEGREES_BACK
        level = after


def test_it_is_told_once_and_in_the_journal(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Level] = []

    async def play() -> None:
        tree.battery(50)
        it = Conditions(lambda: RULES, lambda: ["*"], lambda: told.append(it.now.level), tree.root)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(1)
        assert told == [Level.NORMAL]  # on battery it has another budget
        told.clear()
        tree.battery(10)
        await asyncio.sleep(SLOW_S)
        assert told == [Level.LOW]
        tree.battery(4)
        await asyncio.sleep(FAST_S)
        assert told == [Level.LOW, Level.CRITICAL]
        tree.battery(4, "Charging")
        it.hint()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert told == [Level.LOW, Level.CRITICAL, Level.NORMAL]
        task.cancel()

    caplog.set_level(logging.INFO)
    fake_clock.run(play())
    texts = [r.getMessage() for r in caplog.records]
    assert texts == [
        "power is short: the battery is at 10 %; modules are squeezed",
        "power is short: the battery is at 4 %; modules get standby power only",
        "power is normal again",
    ]
