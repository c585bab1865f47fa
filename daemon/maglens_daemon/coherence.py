# SPDX-License-Identifier: GPL-2.0-or-later
"""Coherence: what is wrong with a configuration though each key by itself is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

from maglens_daemon.errors import ConfigError
from maglens_daemon.toml_lines import KeyPath

if TYPE_CHECKING:
    from maglens_daemon.config import Config, PowerConfig

Complain = Callable[[KeyPath, str, str], ConfigError]
"""Makes the error for a key's path, what is wrong, and a hint; it knows file and line."""


def check(config: Config, complain: Complain, max_pixels: int) -> None:
    """Raises what ``complain`` makes of the first fault. ``max_pixels``: of one picture of a video device."""
    _sizes(config, complain, max_pixels)
    _names(config, complain)
    _places(config, complain)
    _rules(config, complain)
    _power(config.power, complain)


def _sizes(config: Config, complain: Complain, max_pixels: int) -> None:
    for name, node in config.nodes.items():
        if node.width * node.height > max_pixels:
            at = ("node", name) if name else ("node",)
            section = ".".join(at)
            what = f"[{section}] is {node.width} x {node.height}: more than {max_pixels} pixels"
            raise complain((*at, "width"), what, f"make width or height of [{section}] smaller")


def _names(config: Config, complain: Complain) -> None:
    """Of two cameras with one name apps and udev's links show the one that came last."""
    named: dict[str, str] = {}
    for node, settings in config.nodes.items():
        other = named.setdefault(settings.name, node)
        if other != node:
            first = f"[node.{other}]" if other else "[node]"
            what = f"[node.{node}] has the name {settings.name!r}, and so has {first}"
            raise complain(("node", node, "name"), what, f"give [node.{node}] another name")


def _places(config: Config, complain: Complain) -> None:
    """A module at a place that two ports claim would be at the first of them, whatever the other says."""
    claimed: dict[str, str] = {}
    for port, settings in config.port.items():
        for place in (port, *settings.usb):
            other = claimed.setdefault(place, port)
            if other != port:
                at = ("port", port) if place == port else ("port", port, "usb")
                what = f'[port."{port}"] and [port."{other}"] both claim the USB path {place}'
                raise complain(at, what, f"leave {place} to one of them")


def _rules(config: Config, complain: Complain) -> None:
    """A rule for a video device that there is not would be passed over in silence."""
    for index, rule in enumerate(config.policy.rule):
        if rule.node is None or rule.node in config.more:
            continue
        near = difflib.get_close_matches(rule.node, config.more, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"add a table [node.{rule.node}], or leave node out"
        raise complain(("policy", "rule", index, "node"), f"there is no [node.{rule.node}]", hint)


def _power(power: PowerConfig, complain: Complain) -> None:
    """The milder measure comes first; 0 percent switches one off."""
    if power.warm_c > power.hot_c:
        what = f"power.warm_c = {power.warm_c} is above hot_c = {power.hot_c}"
        raise complain(("power", "warm_c"), what, "set both, hot_c the higher one")
    if power.battery_low and power.battery_low < power.battery_critical:
        what = f"power.battery_low = {power.battery_low} is below battery_critical = {power.battery_critical}"
        raise complain(("power", "battery_low"), what, "set both, battery_low the higher one")
