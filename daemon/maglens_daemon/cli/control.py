# SPDX-License-Identifier: GPL-2.0-or-later
"""Control: ``maglens control list|get|set|reset``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from maglens_daemon.cli.client import Client
from maglens_daemon.cli.output import emit, say, table
from maglens_daemon.errors import NotFound, Usage
from maglens_daemon.exits import Exit
from maglens_driver.control import Cid, ControlFlag, ControlType

if TYPE_CHECKING:
    from maglens_daemon.status import ModuleStatus


@dataclass(frozen=True, slots=True)
class Control:
    """One control as the service tells of it."""

    id: int
    name: str
    type: int
    minimum: int
    maximum: int
    step: int
    default: int
    flags: int
    unavailable: str = ""  # why apps do not see it on the video device

    @property
    def key(self) -> str:
        """Name to type: the V4L2 id's where it is known, else made from the control's own."""
        try:
            return Cid(self.id).name.lower()
        except ValueError:
            return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

    @property
    def remarks(self) -> tuple[str, ...]:
        """What there is to say of it beside its flags."""
        return (f"(not for apps: {self.unavailable})",) if self.unavailable else ()

    def document(self, value: int | None) -> dict[str, Any]:
        """As JSON."""
        flags = [f.name.lower() for f in ControlFlag if f.name and self.flags & f]
        return {
            "id": self.id,
            "key": self.key,
            "name": self.name,
            "type": ControlType(self.type).name.lower(),
            "minimum": self.minimum,
            "maximum": self.maximum,
            "step": self.step,
            "default": self.default,
            "flags": flags,
            "value": value,
            "unavailable": self.unavailable,
        }


def pick_module(modules: Sequence[ModuleStatus], name: str | None) -> ModuleStatus:
    """The named module (identity, serial, model, port or port's name); without a name the one that plays, else the
    only one that is snapped on, else the only one."""
    known = [m for m in modules if m["identity"] and not m["reason"]]
    if name is not None:
        fits = [m for m in known if name in (m["identity"], m["serial"], m["model"], m["port"], m["port_name"])]
    else:
        fits = [m for m in known if m["playing"]] or [m for m in known if m["kind"] == "module"] or known
    if len(fits) == 1:
        return fits[0]
    if not known:
        raise NotFound("no module is plugged in", hint="plug in a camera, or sudo maglens sim attach 35mm")
    there = ", ".join(m["identity"] for m in known)
    if not fits:
        raise NotFound(f"no module {name!r}; there is {there}", hint="maglens modules")
    raise NotFound(f"several modules: {there}", hint=f"maglens control ... -m {fits[0]['serial']}")


def find_control(controls: Sequence[Control], name: str) -> Control:
    """By key, by the control's own name, or by number."""
    wanted = name.strip().lower()
    for control in controls:
        if wanted in (control.key, control.name.lower(), str(control.id), f"{control.id:#x}", f"{control.id:#010x}"):
            return control
    known = ", ".join(c.key for c in controls)
    raise NotFound(f"the module has no control {name!r}; it has {known}", hint="maglens control list")


def parse_assignment(text: str) -> tuple[str, int]:
    """``NAME=VALUE``"""
    name, equals, value = text.partition("=")
    try:
        number = int(value, 0)
    except ValueError:
        number = None
    if not equals or not name or number is None:
        raise Usage(f"{text!r} is not NAME=NUMBER", hint="maglens control set focus_absolute=120")
    return name, number


async def _controls(client: Client, module: ModuleStatus) -> list[Control]:
    (entries,) = await client.module(module["port"], "ListControls")
    reasons = {control["id"]: control["reason"] for control in module["unavailable_controls"]}
    return [replace(Control(*entry), unavailable=reasons.get(entry[0], "")) for entry in entries]


def _print(args: argparse.Namespace, entries: Sequence[tuple[Control, int | None]]) -> None:
    if args.json:
        emit([control.document(value) for control, value in entries])
        return
    rows = [
        (
            control.key,
            "-" if value is None else str(value),
            f"{control.minimum} to {control.maximum}, step {control.step}, default {control.default}",
            " ".join((*control.document(value)["flags"], *control.remarks)),
        )
        for control, value in entries
    ]
    say(table(rows) or "no controls")


async def run(args: argparse.Namespace) -> int:
    """All four."""
    async with Client() as client:
        modules = (await client.status())["modules"]
        if args.json and args.action == "list" and args.module is None and not modules:
            emit([])  # as modules does: nothing is an answer
            return Exit.OK
        module = pick_module(modules, args.module)
        controls = await _controls(client, module)
        if args.action in ("list", "get"):
            (values,) = await client.module(module["port"], "GetControls")
            chosen = [find_control(controls, name) for name in args.name] if args.name else controls
            _print(args, [(c, values.get(c.id)) for c in chosen])
            return Exit.OK
        if args.action == "set":
            pairs = [parse_assignment(text) for text in args.name]
            wanted = {find_control(controls, name).id: value for name, value in pairs}
            (clamped,) = await client.module(module["port"], "SetControls", "a{ui}", wanted)
        else:
            only = [find_control(controls, name).id for name in args.name]
            (clamped,) = await client.module(module["port"], "ResetControls", "au", only)
        _print(args, [(c, clamped[c.id]) for c in controls if c.id in clamped])
    return Exit.OK
