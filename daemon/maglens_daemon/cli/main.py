# SPDX-License-Identifier: GPL-2.0-or-later
"""Main: the program ``maglens``. Each command imports what it needs when it is called: none waits for another's."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from maglens_daemon.errors import ConfigError, Denied, NoPermission, NotFound, Unavailable, Usage
from maglens_daemon.exits import Exit
from maglens_driver.errors import MaglensError, Refused

_STATUSES: Final[tuple[tuple[type[MaglensError], Exit], ...]] = (
    (NotFound, Exit.NOT_FOUND),
    (Unavailable, Exit.UNAVAILABLE),
    (Denied, Exit.NO_PERMISSION),
    (NoPermission, Exit.NO_PERMISSION),
    (ConfigError, Exit.CONFIG),
    (Usage, Exit.USAGE),
)
_INTERRUPTED: Final = 128 + signal.SIGINT
_DEBUG: Final = "MAGLENS_DEBUG"


class Parser(argparse.ArgumentParser):
    """Says what may have been meant; so do the sub-commands' parsers, which argparse makes of the same class."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        offered = [name for name in action.choices if name != "complete"]
        near = difflib.get_close_matches(str(value), offered, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(offered)}"
        raise argparse.ArgumentError(action, f"there is no {value!r}; {hint}")


class ShowVersion(argparse.Action):
    """``--version``; what it says is read from the package's metadata, for which no other command has to wait."""

    def __init__(self, option_strings: Sequence[str], dest: str, **rest: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **rest)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from maglens_daemon.version import VERSION

        print(f"maglens {VERSION}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """All commands."""
    shared = Parser(add_help=False)
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    top = Parser(prog="maglens", description="look at and control snap-on camera modules", parents=[shared])
    top.add_argument("--version", action=ShowVersion, help="version of maglens, and end")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: str, text: str, to: Any = commands) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = to.add_parser(name, help=text, description=text, parents=[shared])
        made.set_defaults(run=run)
        return made

    add("status", "show:status", "what plays, every module, and the camera that apps see")
    add("watch", "show:watch", "the same as it changes, until interrupted")
    modules = add("modules", "show:modules", "modules that are snapped on")
    modules.add_argument("-v", "--verbose", action="store_true", help="power, link and frames too")
    use = add("use", "show:use", "choose what plays")
    use.add_argument("source", help="maker/model/serial, serial, model or port of a module, or auto")
    use.add_argument("--node", default="", metavar="NAME", help="on the video device of [node.NAME]")
    add("reload", "show:reload", "read the configuration again")
    _add_control(add)
    _add_sim(
        add("sim", "sim:listing", "virtual modules, for a kernel with dummy_hcd or a board with a device port"), add
    )
    _add_module(add("module", "module:listing", "make this machine a snap-on module of another one's"), add)
    _add_conform(add("conform", "conform:run", "hold a module against the link protocol, check by check"))
    add("doctor", "doctor:run", "what this machine lacks, and the command that mends it")
    _add_preview(add("preview", "preview:run", "the camera as apps see it, in a window or in the terminal"))
    add("version", "version:run", "version of maglens")
    complete = commands.add_parser("complete", parents=[shared])  # without help: it is not listed
    complete.set_defaults(run="complete:run")
    complete.add_argument("words", nargs="*")
    return top


def _add_control(add: Any) -> None:
    control = add("control", "control:run", "look at and set a module's controls")
    actions = control.add_subparsers(metavar="ACTION", required=True, dest="action")
    for name, text, words in (
        ("list", "every control with its value and range", 0),
        ("get", "values", "+"),
        ("set", "write values, as NAME=VALUE", "+"),
        ("reset", "write defaults, to all or to those named", "*"),
    ):
        action = add(name, "control:run", text, actions)
        action.add_argument("-m", "--module", help="maker/model/serial, serial, model or port; default: what plays")
        if words:
            action.add_argument("name", nargs=words, metavar="NAME=VALUE" if name == "set" else "NAME")
        else:
            action.set_defaults(name=[])


def _add_sim(sim: argparse.ArgumentParser, add: Any) -> None:
    actions = sim.add_subparsers(metavar="ACTION", required=True)
    module = "LENS or LENS:LABEL, as 35mm or 35mm:second"
    attach = add("attach", "sim:attach", "snap a virtual module on", actions)
    attach.add_argument("module", help=module)
    attach.add_argument("--udc", help="device controller; default: the first free one")
    detach = add("detach", "sim:detach", "snap it off", actions)
    detach.add_argument("module", nargs="?", help=f"{module}; default: the one that is on")
    swap = add("swap", "sim:swap", "snap off what is on, and another on at the same place", actions)
    swap.add_argument("module", help=module)
    add("list", "sim:listing", "lenses, and virtual modules that run", actions)
    light = add("light", "sim:light", "change the light on the scene", actions)
    light.add_argument("kelvin", type=int, help="colour temperature")
    light.add_argument("level", type=float, nargs="?", default=1.0, help="strength; 1 is usual")
    light.add_argument("-m", "--module", help=f"{module}; default: the one that is on")
    ring = add("ring", "sim:ring", "turn a ring, as a hand does", actions)
    ring.add_argument("ring", choices=("focus", "iris", "zoom"))
    ring.add_argument("value", type=int, help="in the units of its control")
    ring.add_argument("-m", "--module", help=f"{module}; default: the one that is on")
    rehearse = add("rehearse", "sim:rehearse", "draw a raw mode at every focus beforehand", actions)
    rehearse.add_argument("module", help=module)
    rehearse.add_argument("format", help="V4L2's four letters, as pRAA")
    rehearse.add_argument("size", help="as 3840x2160")
    fault = add("fault", "sim:fault", "misbehave; the fault none ends all", actions)
    fault.add_argument("fault", help="as stall, bounce, payload-crc; a wrong one lists all")
    fault.add_argument("-m", "--module", help=f"{module}; default: the one that is on")
    fault.add_argument("--count", type=int, default=1, help="so many times (default 1)")
    fault.add_argument("--value", type=int, default=0, help="how much, as the fault says (default: its own)")
    fault.add_argument("--skip", type=int, default=0, help="after so many good occasions")
    stop = add("stop", "sim:stop", "end virtual modules and their services", actions)
    stop.add_argument("module", nargs="?", help=f"{module}; default: all")


def _add_module(module: argparse.ArgumentParser, add: Any) -> None:
    actions = module.add_subparsers(metavar="ACTION", required=True)
    add("list", "module:listing", "lens files for boards that ship with maglens", actions)
    run = add("run", "module:run", "be a module on the USB device port until interrupted; needs root", actions)
    run.add_argument("--source", required=True, help="v4l2:/dev/video0, libcamera:NAME, virtual:35mm, none")
    run.add_argument("--lens", required=True, help="file with what the source cannot tell, or a name of module list")
    run.add_argument("--serial", help="serial number; default: this board's own")
    run.add_argument("--udc", help="device controller; default: the first free one")
    run.add_argument("--name", default="module", help="of the gadget, where there are several (default module)")
    run.add_argument("--max-power", type=int, default=500, metavar="MA", help="bMaxPower in mA (default 500)")
    run.add_argument("--dry-run", action="store_true", help="print what the host would be told, and end")


def _add_conform(conform: argparse.ArgumentParser) -> None:
    conform.add_argument("port", nargs="?", help="USB port as 2-1; default: the only module that is plugged in")
    conform.add_argument("--only", action="append", default=[], metavar="GLOB", help="these checks, as 'stream.*'")
    conform.add_argument("--list", action="store_true", help="print the checks and make none")
    conform.add_argument(
        "--replug", action="store_true", help="ask for a hand to pull it off, put it back, turn a ring"
    )
    conform.add_argument(
        "--offer", action="append", default=[], metavar="MV:MA", help="what the port may promise (default: USB's own)"
    )


def _add_preview(preview: argparse.ArgumentParser) -> None:
    preview.add_argument("--in-process", action="store_true", help="virtual modules in this process, no service")
    preview.add_argument("--lens", action="append", help="virtual module; several are swapped in turn (default 35mm)")
    preview.add_argument("--out", help="file to write (.y4m needs nothing, others ffmpeg); default: a window")
    preview.add_argument("--node", default="", metavar="NAME", help="the video device of [node.NAME]")
    preview.add_argument("--terminal", action="store_true", help="into the terminal; default where no window can be")
    preview.add_argument("--seconds", type=float, default=0.0, help="per module; default: 5 into a file, else no end")
    preview.add_argument("--size", help="of the picture (default 1280x720)")
    preview.add_argument("--rate", type=int, help="frames per second (default 30)")


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """People see one line; who looks for the defect sets MAGLENS_DEBUG."""
    print(
        f"maglens: unexpected {kind.__name__}: {error}\n  try: {_DEBUG}=1 maglens ..., and report it", file=sys.stderr
    )


def exit_status(error: MaglensError) -> Exit:
    """What a script is told of an error."""
    from maglens_driver.virtual.lens import NoLens  # only now: it takes time to load

    if isinstance(error, Refused) and error.status == "ACCESS":
        return Exit.NO_PERMISSION
    if isinstance(error, NoLens):
        return Exit.NOT_FOUND
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), Exit.FAILED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit statuses are :class:`Exit`'s."""
    if _DEBUG not in os.environ:
        sys.excepthook = _one_line
    args = parser().parse_args(arguments)
    args.json = getattr(args, "json", False)
    module, _, function = args.run.partition(":")
    run = getattr(importlib.import_module(f"maglens_daemon.cli.{module}"), function)
    try:
        status = asyncio.run(run(args)) if inspect.iscoroutinefunction(run) else run(args)
        sys.stdout.flush()
    except MaglensError as error:
        print(f"maglens: {error.explain()}", file=sys.stderr)
        return exit_status(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at exit
        return Exit.OK
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
