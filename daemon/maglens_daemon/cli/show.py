# SPDX-License-Identifier: GPL-2.0-or-later
"""Show: ``maglens status``, ``watch``, ``modules``, ``use`` and ``reload``."""

from __future__ import annotations

import argparse
import time
from typing import Any

from dbus_fast import Message, Variant

from maglens_daemon.cli.client import Client
from maglens_daemon.cli.output import emit, module_lines, say, status_text, table
from maglens_daemon.exits import Exit
from maglens_driver import names


async def status(args: argparse.Namespace) -> int:
    """What is."""
    async with Client() as client:
        document = await client.status()
    if args.json:
        emit(document)
    else:
        say(status_text(document))
    return Exit.OK


async def modules(args: argparse.Namespace) -> int:
    """What is snapped on."""
    async with Client() as client:
        present = (await client.status())["modules"]
    if args.json:
        emit(present)
    elif args.verbose:
        say("\n".join(line for module in present for line in module_lines(module)) or "no module")
    else:
        rows = [(m["port"], m["state"], m["identity"] or "-", m["reason"] or m["lens"]) for m in present]
        say(table(rows) or "no module")
    return Exit.OK


def _plain(value: Any) -> Any:
    return _plain(value.value) if isinstance(value, Variant) else value


def change_document(message: Message) -> dict[str, Any] | None:
    """A signal as plain data; None for one that says nothing of ours."""
    body = message.body
    change: dict[str, Any] = {"time": time.time(), "path": message.path, "signal": message.member}
    if message.member == "PropertiesChanged":
        return {**change, "changed": {name: _plain(value) for name, value in body[1].items()}}
    if message.interface not in (names.BUS_INTERFACE, names.BUS_INTERFACE_MODULE, names.BUS_INTERFACE_NODE):
        return None
    if message.member == "ControlChanged":
        return {**change, "id": body[0], "value": body[1]}
    reason = {"reason": body[1]} if len(body) > 1 else {}
    return {**change, "module": body[0], **reason}


def change_lines(change: dict[str, Any]) -> list[str]:
    """The same for people."""
    clock = time.strftime("%H:%M:%S", time.localtime(change["time"])) + f".{int(change['time'] * 1000) % 1000:03d}"
    where = str(change["path"]).removeprefix(names.BUS_PATH).strip("/") or "service"
    if change["signal"] == "PropertiesChanged":
        return [f"{clock}  {where}  {name} {value}" for name, value in change["changed"].items()]
    what = {"ModuleAdded": "module added", "ModuleRemoved": "module removed"}.get(change["signal"])
    if what is None:
        return [f"{clock}  {where}  control {change['id']:#010x} is now {change['value']}"]
    module = str(change["module"]).rpartition("/")[2]
    reason = f": {change['reason']}" if change.get("reason") else ""
    return [f"{clock}  {module}  {what}{reason}"]


async def watch(args: argparse.Namespace) -> int:
    """Changes, until interrupted or the service ends."""
    async with Client() as client:
        await client.status()  # an answer, or one clear error, before there is silence
        if not args.json:
            say("watching; end with Ctrl-C")
        async for message in client.changes():
            change = change_document(message)
            if change is None:
                continue
            if args.json:
                emit(change)
            else:
                for line in change_lines(change):
                    say(line)
    say("the service has ended") if not args.json else None
    return Exit.UNAVAILABLE


async def use(args: argparse.Namespace) -> int:
    """Choose a source."""
    async with Client() as client:
        (chosen,) = await client.manager("UseOn", "ss", args.node, args.source)
    if args.json:
        emit({"choice": chosen})
    else:
        say("the rules decide" if chosen == "auto" else f"{chosen} plays whenever it is there")
    return Exit.OK


async def reload(args: argparse.Namespace) -> int:
    """Read the configuration again."""
    async with Client() as client:
        await client.manager("Reload")
    if args.json:
        emit({"reloaded": True})
    else:
        say(f"configuration read; what [node] says counts from: sudo systemctl restart {names.SERVICE_UNIT}")
    return Exit.OK
