# SPDX-License-Identifier: GPL-2.0-or-later
"""Fit: from a port's configuration to its hardware, its times and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from maglens_daemon.board.attach import Times
from maglens_daemon.board.failures import FAILURES, Code, Rule
from maglens_daemon.board.gpio import GpioInput, GpioOutput
from maglens_daemon.board.hall import HallSwitch
from maglens_daemon.board.inputs import Input
from maglens_daemon.board.meter import Meter
from maglens_daemon.board.port import BoardPort
from maglens_daemon.config import Config, PortConfig

ROOT = Path("/")


def is_fitted(settings: PortConfig) -> bool:
    """Whether the board has anything at this port beside USB."""
    return any((settings.detect, settings.hall, settings.power, settings.fault, settings.meter))


def open_port(path: str, settings: PortConfig, root: Path = ROOT) -> BoardPort:
    """Take the lines and devices that are named. Raises ``MaglensError`` with what to do, or ``OSError``; then
    nothing is taken. In the event loop."""
    with ExitStack() as taken:
        detect: list[Input] = []
        if settings.detect:
            detect.append(GpioInput(settings.detect, settings.detect_active == "low", root))
            taken.callback(detect[-1].close)
        if settings.hall:
            detect.append(HallSwitch(settings.hall, settings.hall_switch, settings.hall_inverted, root))
            taken.callback(detect[-1].close)
        fault = GpioInput(settings.fault, settings.fault_active == "low", root) if settings.fault else None
        if fault is not None:
            taken.callback(fault.close)
        meter = Meter(settings.meter, root) if settings.meter else None
        switch = GpioOutput(settings.power, settings.power_active == "low", root) if settings.power else None
        if switch is not None:
            taken.callback(switch.close)
        port = BoardPort(path, detect=detect, switch=switch, fault=fault, meter=meter)
        taken.pop_all()
        return port


def times(settings: PortConfig) -> Times:
    """The configuration's milliseconds."""
    return Times(
        attach_s=settings.attach_ms / 1000,
        removal_s=settings.removal_ms / 1000,
        bounce_s=settings.bounce_ms / 1000,
        short_test_s=settings.short_test_ms / 1000,
        settle_s=settings.settle_ms / 1000,
        enumerate_s=settings.enumerate_ms / 1000,
    )


def retry_rules(config: Config) -> Mapping[Code, Rule]:
    """The table's rules, with what ``[retry.CODE]`` says in their place."""
    table = {}
    for code, failure in FAILURES.items():
        rule, given = failure.rule, config.retry.get(code.value)
        if given is not None:
            rule = Rule(
                rule.tries if given.tries is None else given.tries,
                rule.window_s if given.window_s is None else given.window_s,
                rule.pause_s if given.pause_ms is None else given.pause_ms / 1000,
            )
        table[code] = rule
    return table
