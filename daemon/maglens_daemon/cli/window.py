# SPDX-License-Identifier: GPL-2.0-or-later
"""Window: ``maglens preview``, the camera that apps see, with source, lens, power and link written over it; in the
terminal where there is no way to a window."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from maglens_daemon.cli.client import Client
from maglens_daemon.cli.output import contract_text
from maglens_daemon.errors import NotFound, Unavailable
from maglens_daemon.exits import Exit
from maglens_driver.errors import Gone, MaglensError, MissingDependency
from maglens_driver.packages import Need, install

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from maglens_daemon.status import NodeStatus, Status

REFRESH_S: Final = 1.0  # of what is written over the picture
STOP_S: Final = 5.0
WINDOW_CLOSED: Final = 123  # of ffplay
IN_TERMINAL: Final = "maglens preview --terminal"


def in_terminal(wanted: bool) -> bool:
    """Whether the picture goes into the terminal: that was asked for, or there is one and no way to a window."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return wanted or (sys.stdout.isatty() and not (display and shutil.which("ffplay")))


def shown(status: Status, group: str) -> NodeStatus:
    """The camera of ``[node.GROUP]``, of ``[node]`` itself where that is empty. Raises ``NotFound``."""
    found = next((node for node in status["nodes"] if node["group"] == group), None)
    if found is None:
        raise NotFound(f"there is no [node.{group}]", hint="maglens status")
    return found


def overlay(status: Status, group: str = "") -> str:
    """What is written over the picture of that camera: a line each for source, lens, power and link."""
    who, first = shown(status, group)["playing"], not group
    playing = next((m for m in status["modules"] if m["playing"] and m["identity"] == who), None)
    if playing is None:
        return (first and status["state"]) or "nothing plays"
    lens, optics = playing["lens"], status["optics"] if first else None
    if optics is not None:
        lens = f"{optics['lens']} before {lens or 'it'}"
    mode = playing["mode"]["text"] if playing["mode"] else ""
    lines = [
        f"source  {playing['maker']} {playing['model']} at {playing['port_name']}, {mode}",
        f"lens    {lens or 'not told'}",
        f"power   {contract_text(playing['contract'])}",
        f"link    {playing['speed_mbit_s']} Mbit/s" if playing["speed_mbit_s"] else "link    not USB",
    ]
    return "\n".join(lines)


def filter_text(text: Path) -> str:
    """ffmpeg's filter that writes the file's text over the picture, and reads it anew for each one. What means
    something to ffmpeg is escaped twice: in an option's value, and in a graph of filters."""
    value = re.sub(r"([\\':])", r"\\\1", str(text))
    path = re.sub(r"([\\'\[\],;])", r"\\\1", value)
    style = "font=monospace:fontsize=h/36:fontcolor=white:box=1:boxcolor=black@0.5:boxborderw=8:x=12:y=12"
    return f"drawtext=textfile={path}:reload=1:expansion=none:{style}"


def player(text: Path) -> list[str]:
    """The program for a window, before what it shows; it writes ``text`` over that. Raises ``MissingDependency``."""
    if shutil.which("ffplay") is None:
        raise MissingDependency("a window needs ffplay, which is not installed", hint=install(Need.FFMPEG))
    shown = ["-loglevel", "error", "-window_title", "maglens", "-fflags", "nobuffer", "-vf", filter_text(text)]
    return ["ffplay", *shown]


def write(text: Path, words: str) -> None:
    """Replace the file at once: ffplay reads it at any time."""
    part = text.with_suffix(".part")
    part.write_text(words)
    part.replace(text)


@contextlib.asynccontextmanager
async def _telling(client: Client, group: str, tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Meanwhile ``tell`` hears every second what is to be written over the picture, which may outlive the service.
    One that was stopped is not started by being asked."""

    async def go_on() -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                runs = await client.service_runs()
                words = overlay(await client.status(), group) if runs else "the service does not run"
            except MaglensError as error:
                words = str(error)
            tell(words)

    telling = asyncio.create_task(go_on(), name="overlay")
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling


async def _in_terminal(client: Client, status: Status, group: str, seconds: float) -> None:
    from maglens_daemon.cli import terminal  # numpy

    words = overlay(status, group)

    def tell(now: str) -> None:
        nonlocal words
        words = now

    async with _telling(client, group, tell):
        await terminal.play(shown(status, group)["path"], lambda: words, seconds)


def _made(path: str) -> tuple[int, int] | None:
    """What tells a device file from another of that name; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


async def _closed(process: Process, path: str, made: tuple[int, int] | None) -> None:
    """Until the window is closed. Raises ``Gone`` when the camera, which was ``made`` so, has gone: ffplay takes no
    notice of that."""
    closed = asyncio.create_task(process.wait())
    try:
        while not closed.done():
            if _made(path) != made:
                raise Gone(f"{path} has gone", hint="maglens doctor")
            await asyncio.wait({closed}, timeout=REFRESH_S)
    finally:
        closed.cancel()


async def _end(process: Process) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def run(args: argparse.Namespace) -> int:
    """Until the window is closed; in a terminal until Ctrl-C."""
    async with Client() as client:
        status = await client.status()
        node = shown(status, args.node)
        if not node["path"]:
            raise Unavailable(f"there is no camera: {node['problem']}", hint="maglens doctor")
        if in_terminal(args.terminal):
            await _in_terminal(client, status, args.node, args.seconds)
            return Exit.OK
        with tempfile.TemporaryDirectory(prefix="maglens-preview-") as folder:
            text = Path(folder) / "overlay"
            write(text, overlay(status, args.node))
            command = [*player(text), "-f", "v4l2", "-i", node["path"]]
            made = _made(node["path"])
            process = await asyncio.create_subprocess_exec(*command)
            try:
                async with _telling(client, args.node, partial(write, text)):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(args.seconds or None):
                            await _closed(process, node["path"], made)
                timed_out = process.returncode is None
            finally:
                if process.returncode is None:
                    await _end(process)
    if not timed_out and process.returncode not in (0, WINDOW_CLOSED):
        raise MaglensError(f"ffplay ended with {process.returncode}", hint=IN_TERMINAL)
    return Exit.OK
