# SPDX-License-Identifier: GPL-2.0-or-later
"""Sim: ``maglens sim``, which drives virtual modules. Needs root, and neither the service nor a real module."""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import Any

from maglens_daemon.cli.output import emit, say, table
from maglens_daemon.cli.root import need_root
from maglens_daemon.errors import Usage
from maglens_daemon.exits import Exit
from maglens_driver.errors import MaglensError
from maglens_driver.gadget import client
from maglens_driver.gadget.client import SimClient
from maglens_driver.virtual.lens import lens_names, load_lens


def _ready(name: str) -> SimClient:
    """A module whose service runs; it is started where it does not."""
    need_root("maglens sim")
    if name not in client.running():
        load_lens(name.partition(":")[0])  # a wrong name is told here, and not by a service that fails
        client.start(name)
    return SimClient(name)


def _attached() -> SimClient:
    """The module that is on now; an error unless it is exactly one."""
    need_root("maglens sim")
    on = [name for name in client.running() if SimClient(name).status()["attached"]]
    if len(on) != 1:
        what = "no virtual module is" if not on else f"{', '.join(on)} are"
        raise MaglensError(f"{what} attached", hint="sudo maglens sim list")
    return SimClient(on[0])


def _named(name: str | None) -> SimClient:
    return _ready(name) if name is not None else _attached()


def attach(args: argparse.Namespace) -> int:
    """Snap on."""
    with _ready(args.module) as module:
        reply = module.attach(args.udc)
    return _report(args, reply, f"{args.module} is attached to {reply['udc']}")


def detach(args: argparse.Namespace) -> int:
    """Snap off."""
    with _named(args.module) as module:
        reply = module.detach()
    return _report(args, reply, f"{module.name} is detached")


def swap(args: argparse.Namespace) -> int:
    """Snap one off and another on, at the same place."""
    with _ready(args.module) as other, _attached() as present:
        off, on = present.swap(other)
    took_ms = (on["stay"]["attached_ns"] - off["stay"]["detach_ns"]) / 1e6
    text = f"{present.name} is detached, {other.name} attached to {on['udc']} {took_ms:.1f} ms later"
    return _report(args, {"off": off, "on": on}, text)


def listing(args: argparse.Namespace) -> int:
    """Lenses there are, and the virtual modules that run."""
    if client.running():
        need_root("maglens sim list")
    present = [SimClient(name).status() for name in client.running()]
    if args.json:
        emit({"lenses": list(lens_names()), "modules": present})
        return Exit.OK
    say(f"lenses    {', '.join(lens_names())}")
    rows = [
        (s["name"], f"on {s['udc']}" if s["attached"] else "off", s["identity"]["serial"], s["lens"]) for s in present
    ]
    say(table(rows) or "no virtual module runs")
    return Exit.OK


def ring(args: argparse.Namespace) -> int:
    """Turn a ring."""
    with _named(args.module) as module:
        reply = module.ring(args.ring, args.value)
    return _report(args, reply, f"{args.ring} ring of {module.name} at {reply['value']}")


def light(args: argparse.Namespace) -> int:
    """Change the light on the scene."""
    with _named(args.module) as module:
        reply = module.light(args.kelvin, args.level)
    return _report(args, reply, f"{module.name} sees {args.level:g} times the usual light of {args.kelvin} K")


def rehearse(args: argparse.Namespace) -> int:
    """Keep the pictures of a raw mode at every position of focus."""
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", args.size)
    if size is None:
        raise Usage(f"{args.size!r} is no size", hint="as in: maglens sim rehearse 35mm pRAA 3840x2160")
    with _ready(args.module) as module:
        began = time.monotonic()
        try:
            reply = module.rehearse(args.format, int(size[1]), int(size[2]), _told)
        finally:
            if sys.stderr.isatty():
                sys.stderr.write("\n")
        took_s = time.monotonic() - began
    text = f"{module.name} keeps {reply['positions']} positions of focus ({reply['nbytes'] / 1e6:.0f} MB)"
    return _report(args, reply, f"{text}, drawn in {took_s:.0f} s")


def _told(done: int, of: int) -> None:
    """Progress, where a person looks."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {of} positions of focus")
        sys.stderr.flush()


def fault(args: argparse.Namespace) -> int:
    """Misbehave, or behave again."""
    with _named(args.module) as module:
        if args.fault == "none":
            reply = module.clear()
        else:
            reply = module.fault(args.fault, args.count, args.value, args.skip)
    active = ", ".join(reply["faults"]) or "none"
    return _report(args, reply, f"faults of {module.name}: {active}")


def stop(args: argparse.Namespace) -> int:
    """End virtual modules altogether."""
    need_root("maglens sim stop")
    stopped = [args.module] if args.module is not None else client.running()
    for name in stopped:
        client.stop(name)
    return _report(args, {"stopped": stopped}, f"stopped {', '.join(stopped) or 'nothing'}")


def _report(args: argparse.Namespace, reply: dict[str, Any], text: str) -> int:
    if args.json:
        emit({**reply, "time_ns": time.monotonic_ns()})
    else:
        say(text)
    return Exit.OK
