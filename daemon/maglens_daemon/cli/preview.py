# SPDX-License-Identifier: GPL-2.0-or-later
"""Preview: ``maglens preview --in-process``. Virtual modules snap on and off the real manager, session, contract and
pipeline, whose node is memory; what an app would see goes into a window or a file. No kernel module, no root."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import IO, Final

import numpy as np

from maglens_daemon.cli import terminal, window
from maglens_daemon.cli.ending import orderly
from maglens_daemon.cli.output import emit, say
from maglens_daemon.config import Config, NodeConfig
from maglens_daemon.errors import Usage
from maglens_daemon.exits import Exit
from maglens_daemon.in_process import SPEED_MBIT_S, VirtualVisitor
from maglens_daemon.manager import Manager
from maglens_daemon.status import status
from maglens_driver.errors import Gone, MaglensError, MissingDependency
from maglens_driver.link import limits
from maglens_driver.mode import Mode
from maglens_driver.packages import Need, install
from maglens_driver.virtual.lens import load_lens
from maglens_driver.virtual.source import VirtualSource
from maglens_v4l2.memory_node import MemoryNode, MemoryReader
from maglens_v4l2.node import Node
from maglens_v4l2.store import Store

CARD_S: Final = 1.0  # of the card before, between and after modules, in a file
FILE_S: Final = 5.0
READ_S: Final = 1.0
PORT: Final = "preview"
LEAST_SIDE: Final = 16
SIZE, RATE = "1280x720", 30
_WINDOW_CLOSED: Final = 123  # of ffplay

Writer = Callable[[memoryview], None]


def parse_size(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT``, both even and what a node may have."""
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (LEAST_SIDE <= width <= limits.MAX_WIDTH and LEAST_SIDE <= height <= limits.MAX_HEIGHT):
        raise Usage(
            f"{text!r} is no size from {LEAST_SIDE}x{LEAST_SIDE} to {limits.MAX_WIDTH}x{limits.MAX_HEIGHT}",
            hint="--size 1280x720",
        )
    if width % 2 or height % 2:
        raise Usage(f"{text!r} is no even size", hint=f"--size {width // 2 * 2}x{height // 2 * 2}")
    return width, height


def check_rate(rate: int) -> Fraction:
    """Frames per second, as a node may have them."""
    if not 1 <= rate <= limits.MAX_RATE_FPS:
        raise Usage(f"{rate} is no rate from 1 to {limits.MAX_RATE_FPS}", hint="--rate 30")
    return Fraction(rate)


def refuse_what_is_for_in_process(args: argparse.Namespace) -> None:
    """The service's camera has its own format, and apps record it."""
    for option, given in (
        ("--lens", args.lens),
        ("--out", args.out),
        ("--size", args.size),
        ("--rate", args.rate),
    ):
        if given is not None:
            raise Usage(f"{option} is for virtual modules alone", hint=f"maglens preview --in-process {option} ...")


def see_that_it_can_be_written(out: Path) -> None:
    """Before a show is played to a program that cannot keep it."""
    try:
        out.open("ab").close()
    except OSError as error:
        raise MaglensError(f"{out}: {error.strerror}", hint=f"ls -ld {out.parent}") from error


def y4m_header(mode: Mode) -> bytes:
    """Head of a YUV4MPEG2 file of 4:2:0 frames."""
    rate = 1 / mode.interval
    return f"YUV4MPEG2 W{mode.width} H{mode.height} F{rate.numerator}:{rate.denominator} Ip A1:1 C420mpeg2\n".encode()


def y4m_frame(picture: memoryview, mode: Mode) -> bytes:
    """One NV12 picture with unpadded rows as a YUV4MPEG2 frame: the chroma planes apart."""
    flat = np.frombuffer(picture, np.uint8)
    luma, chroma = flat[: mode.width * mode.height], flat[mode.width * mode.height :]
    return b"FRAME\n" + luma.tobytes() + chroma[0::2].tobytes() + chroma[1::2].tobytes()


def _raw_input(mode: Mode) -> list[str]:
    rate = 1 / mode.interval
    size = f"{mode.width}x{mode.height}"
    return ["-f", "rawvideo", "-pixel_format", "nv12", "-video_size", size, "-framerate", str(rate), "-i", "-"]


def _player(mode: Mode, text: Path) -> list[str]:
    return [*window.player(text), *_raw_input(mode)]


def _encoder(mode: Mode, out: Path) -> list[str]:
    if shutil.which("ffmpeg") is None:
        raise MissingDependency(
            f"{out.suffix or 'this kind of file'} needs ffmpeg, which is not installed",
            hint=f"{install(Need.FFMPEG)}, or --out {out.with_suffix('.y4m')}",
        )
    return ["ffmpeg", "-loglevel", "error", "-y", *_raw_input(mode), "-pix_fmt", "yuv420p", str(out)]


class Recorder:
    """An app: reads the node in a thread of its own and writes every picture."""

    def __init__(self, node: MemoryNode, writer: Writer) -> None:
        self._reader: MemoryReader = node.open()
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.frames = 0
        self.failure: OSError | None = None
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preview", daemon=True)
        self._reader.start()
        self._thread.start()

    def _run(self) -> None:
        try:
            # The node being closed and the window being closed both end the recording.
            with contextlib.suppress(Gone, BrokenPipeError):
                while not self._halt.is_set():
                    shown = self._reader.read(READ_S)
                    if shown is not None:
                        self._writer(self._reader.picture(shown))
                        self._reader.give_back(shown)
                        self.frames += 1
        except OSError as error:  # for whoever waits for the end
            self.failure = error
        finally:
            self._loop.call_soon_threadsafe(self.ended.set)

    async def close(self) -> None:
        """Finish the picture at hand and end."""
        self._halt.set()
        await asyncio.to_thread(self._thread.join)
        self._reader.close()


async def _play(manager: Manager, source: VirtualSource, seconds: float, ended: asyncio.Event) -> None:
    """One module's stay."""
    visitor = VirtualVisitor(source)
    manager.arrive(PORT, SPEED_MBIT_S, visitor)
    await _pause(seconds, ended)
    visitor.unplug()
    manager.depart(PORT)


async def _pause(seconds: float, ended: asyncio.Event) -> None:
    """Let time pass; 0 is for ever. Returns early when the recording ends."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds or None):
            await ended.wait()


def say_progress(text: str) -> None:
    """To standard error, so that JSON stays alone on standard output."""
    print(text, file=sys.stderr, flush=True)


async def _show(
    settings: NodeConfig,
    lenses: Sequence[str],
    seconds: float,
    writer: Writer,
    tell: Callable[[str], None] = say_progress,
    overlay: Callable[[str], None] | None = None,
) -> dict[str, object]:
    """The whole show: card, each module in turn, card. ``tell`` hears of its progress, ``overlay`` what to write over
    the picture whenever that changes. Returns what the status said at the height of it; raises what ``writer`` does.
    """
    made: list[MemoryNode] = []

    async def open_node(name: str, wanted: NodeConfig) -> Node:
        made.append(MemoryNode([wanted.mode]))
        return made[-1]

    sources = [VirtualSource(lens) for lens in lenses]
    for source in sources:
        tell(f"rendering {source.descriptor.lens.name}")
        await source.prepare()
    folder = tempfile.TemporaryDirectory(prefix="maglens-preview-")
    manager = Manager(replace(Config(), node=settings), open_node, Store(Path(folder.name)))
    if overlay is not None:
        manager.listeners.append(lambda: overlay(window.overlay(status(manager))))
    running = asyncio.create_task(manager.run())
    await manager.settled()
    recorder = Recorder(made[0], writer)
    said: dict[str, object] = {}
    try:
        await _pause(CARD_S, recorder.ended)
        for source in sources:
            tell(f"{source.descriptor.lens.name} snaps on")
            await _play(manager, source, seconds, recorder.ended)
            said = dict(status(manager)["node"]["counters"])
            await _pause(CARD_S, recorder.ended)
    finally:
        await recorder.close()
        await manager.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for source in sources:
            await source.close()
        folder.cleanup()
    if recorder.failure is not None:
        raise recorder.failure
    return {"frames": recorder.frames, **said}


def _pipe_writer(stream: IO[bytes]) -> Writer:
    def write(picture: memoryview) -> None:
        stream.write(picture)

    return write


def run(args: argparse.Namespace) -> int:
    """The service's camera in a window or in the terminal; with ``--in-process`` virtual modules there, or into
    ``--out``."""
    with orderly():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    if not 0 <= args.seconds < math.inf:
        raise Usage(f"{args.seconds:g} are no seconds", hint="--seconds 5")
    if args.in_process and args.node:
        raise Usage("virtual modules in this process have a camera of their own", hint="maglens preview --node NAME")
    if not args.in_process:
        refuse_what_is_for_in_process(args)
        return asyncio.run(window.run(args))
    width, height = parse_size(args.size or SIZE)
    rate = check_rate(RATE if args.rate is None else args.rate)
    settings = NodeConfig(name=PORT, format="NV12", width=width, height=height, rate=rate)
    mode, lenses = settings.mode, args.lens or ["35mm"]
    out = Path(args.out) if args.out else None
    for lens in lenses:
        load_lens(lens)  # a wrong name is told before a file is begun
    if out is not None:
        see_that_it_can_be_written(out)
    seconds = args.seconds or (FILE_S if out is not None or len(lenses) > 1 else 0.0)
    if out is not None and out.suffix == ".y4m":
        said = _into_y4m(out, settings, lenses, seconds)
    elif out is None and window.in_terminal(args.terminal):
        words = ["maglens"]
        with terminal.screen() as shown:
            writer = partial(_into_terminal, shown, mode, words)
            said = asyncio.run(_show(settings, lenses, seconds, writer, words.append, words.append))
    elif out is not None:
        plain = f"maglens preview --in-process --out {out.with_suffix('.y4m')}"
        said = _through(_encoder(mode, out), settings, lenses, seconds, plain)
    else:
        with tempfile.TemporaryDirectory(prefix="maglens-preview-") as folder:
            text = Path(folder) / "overlay"
            window.write(text, "maglens")
            plain = f"{window.IN_TERMINAL} --in-process"
            said = _through(_player(mode, text), settings, lenses, seconds, plain, partial(window.write, text))
    if args.json:
        emit({"out": str(out) if out else None, **said})
    elif out is not None:
        say(f"{out}: {said['frames']} frames")
    return Exit.OK


def _into_terminal(shown: terminal.Screen, mode: Mode, words: Sequence[str], picture: memoryview) -> None:
    shown.show(picture, mode, words[-1])


def _into_y4m(out: Path, settings: NodeConfig, lenses: Sequence[str], seconds: float) -> dict[str, object]:
    mode = settings.mode

    def write(file: IO[bytes], picture: memoryview) -> None:
        file.write(y4m_frame(picture, mode))

    try:
        with out.open("wb") as file:
            file.write(y4m_header(mode))
            return asyncio.run(_show(settings, lenses, seconds, partial(write, file)))
    except OSError as error:
        raise MaglensError(f"{out}: {error.strerror}", hint=f"df {out.parent}") from error


def _through(
    command: Sequence[str],
    settings: NodeConfig,
    lenses: Sequence[str],
    seconds: float,
    plain: str,
    overlay: Callable[[str], None] | None = None,
) -> dict[str, object]:
    """Pipe the show into a program. Raises when that fails by itself; ``plain`` is the command that needs none."""
    with subprocess.Popen(command, stdin=subprocess.PIPE) as program:
        assert program.stdin is not None
        try:
            said = asyncio.run(_show(settings, lenses, seconds, _pipe_writer(program.stdin), overlay=overlay))
        except BaseException:
            program.terminate()  # a window would stay open, and leaving the block waits for it
            raise
        with contextlib.suppress(BrokenPipeError):  # a window that was closed
            program.stdin.close()
    if program.returncode not in (0, _WINDOW_CLOSED):
        raise MaglensError(f"{command[0]} ended with {program.returncode}", hint=plain)
    return said
