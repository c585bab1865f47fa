# SPDX-License-Identifier: GPL-2.0-or-later
"""Output: what the commands print, for people and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maglens_daemon.status import ContractStatus, ModuleStatus, PortStatus, Status


def emit(document: Any) -> None:
    """One JSON document on one line of standard output, at once."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Text for people, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the last one as it is."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = ("  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows)
    return "\n".join(lines)


def contract_text(contract: ContractStatus | None) -> str:
    """As PD people read it: ``5.0 V 0.84 A (4.2 W)``."""
    if contract is None:
        return "no contract"
    volt, ampere = contract["mv"] / 1000, contract["operating_ma"] / 1000
    wants_more = ", wants more" if contract["capability_mismatch"] else ""
    return f"{volt:.1f} V {ampere:.2f} A ({volt * ampere:.1f} W{wants_more})"


def port_lines(port: PortStatus) -> list[str]:
    """A port that a board watches, in a line or two."""
    name = port["port"] if port["port_name"] == port["port"] else f"{port['port_name']} ({port['port']})"
    draw = "" if port["draw"] is None else f", draws {port['draw']['mw'] / 1000:.2f} W"
    power = f"at most {port['limit_mw'] / 1000:.1f} W{draw}" if port["powered"] else "power off"
    lines = [f"port      {name}: {port['state']}, {power}"]
    if port["message"]:
        lines.append(f"          {port['cause']}, {port['failures']} times: {port['message']}")
    return lines


def module_lines(module: ModuleStatus) -> list[str]:
    """One module in a few lines."""
    port = module["port"] if module["port_name"] == module["port"] else f"{module['port_name']} ({module['port']})"
    who = f"{module['maker']} {module['model']} ({module['serial']})" if module["identity"] else "not identified"
    mark = "*" if module["playing"] else " "
    lines = [f"{mark} {who} at port {port}: {module['state']}"]
    if module["reason"]:
        lines.append(f"    refused: {module['reason']}")
        if module["hint"]:
            lines.append(f"    try: {module['hint']}")
        return lines
    if module["identity"]:
        if module["lens"]:
            lines.append(f"    lens      {module['lens']}, firmware {module['firmware']}")
        lines.append(f"    power     {contract_text(module['contract'])}")
        lines.append(f"    link      {module['speed_mbit_s']} Mbit/s, {module['usable_mbit_s']} for pictures")
    lines += [f"    note      {note}" for note in module["notes"]]
    if module["mode"]:
        lines.append(f"    mode      {module['mode']['text']}")
    if module["obstacle"]:
        lines.append(f"    cannot play: {module['obstacle']}")
    drops = {k: v for k, v in module["counters"].items() if k != "frames" and v}
    if module["counters"]:
        lost = ", ".join(f"{count} {cause}" for cause, count in sorted(drops.items())) or "none lost"
        lines.append(f"    frames    {module['counters'].get('frames', 0)}, {lost}")
    return lines


def status_text(status: Status) -> str:
    """``maglens status``"""
    node, power = status["node"], status["power"]
    if node["path"]:
        format_text = node["format"]["text"] if node["format"] else ""
        watchers = "nobody watches" if not node["streamers"] else f"{node['streamers']} watching"
        lines = [f"camera    {node['path']} ({node['name']}), {format_text}, {watchers}"]
    else:
        lines = [f"camera    none: {node['problem']}"]
        if node["hint"]:
            lines.append(f"          try: {node['hint']}")
    budget = "" if power["budget_mw"] is None else f" of {power['budget_mw'] / 1000:.1f} W"
    short = "" if power["level"] == "normal" else f"; {power['level']}: {power['reason']}"
    lines.append(f"power     {power['granted_mw'] / 1000:.1f} W{budget} promised{short}")
    lines += [line for port in status["ports"] for line in port_lines(port)]
    chosen = "by the rules" if status["choice"] == "auto" else f"by choice: {status['choice']}"
    lines.append(f"plays     {status['playing'] or 'nothing'}, {chosen}")
    if status["optics"]:
        low, high = status["optics"]["focal_mm"]
        focal = f"{low:g} mm" if low == high else f"{low:g} to {high:g} mm"
        lines.append(f"through   {status['optics']['lens']} ({status['optics']['identity']}), {focal}")
    lines.append("modules" if status["modules"] else "modules   none")
    for module in status["modules"]:
        lines += module_lines(module)
    return "\n".join(lines)
