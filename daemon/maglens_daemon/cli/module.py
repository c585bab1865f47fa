# SPDX-License-Identifier: GPL-2.0-or-later
"""Module: ``maglens module run``, which makes this machine a snap-on module of another one's."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from maglens_daemon.cli.output import emit, say, table
from maglens_daemon.cli.root import need_root
from maglens_daemon.errors import Usage
from maglens_daemon.exits import Exit
from maglens_daemon.port import UNCONFIGURED_MA
from maglens_driver.errors import MaglensError
from maglens_driver.gadget import describe as describing
from maglens_driver.gadget import service
from maglens_driver.gadget.adapted import AdaptedSource
from maglens_driver.gadget.drawn import NoPictures
from maglens_driver.gadget.service import Place
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.source import Source
from maglens_driver.virtual.lens import LensData, NoLens, Price, lens_names, load_lens, optics_names, read_lens

BOARDS: Final = Path(describing.__file__).with_name("boards")
_BOARD_SERIAL: Final = Path("/sys/firmware/devicetree/base/serial-number")
_MACHINE_ID: Final = Path("/etc/machine-id")
_SERIAL_DIGITS: Final = 12
_HINT: Final = "--source v4l2:/dev/video0, libcamera:NAME, virtual:35mm, or none for optics only"


def own_serial() -> str:
    """The board's serial number; where it has none, a number made of the machine's id that does not tell it."""
    if _BOARD_SERIAL.is_file():
        return _BOARD_SERIAL.read_text().strip("\0 \n").replace("/", "-")
    if _MACHINE_ID.is_file():
        return hashlib.sha256(b"maglens" + _MACHINE_ID.read_bytes()).hexdigest()[:_SERIAL_DIGITS]
    raise MaglensError("this machine has no serial number", hint="--serial NUMBER")


def lens_data(name: str) -> LensData:
    """A lens by its file, or by its name among those for boards, virtual modules and optics."""
    if name.endswith(".toml"):
        return read_lens(Path(name))
    if (board := BOARDS / f"{name}.toml").parent == BOARDS and board.is_file():
        return read_lens(board)
    try:
        return load_lens(name)
    except NoLens as error:
        raise NoLens(str(error), hint="maglens module list; or the path of a file that ends in .toml") from error


async def open_source(spec: str) -> Source:
    """A source by its kind and name."""
    kind, _, name = spec.partition(":")
    if kind == "v4l2" and name:
        from maglens_driver.v4l2.source import V4L2Source

        try:
            camera = await V4L2Source.open(name)
            try:
                await camera.settle_rates()
            except BaseException:
                await camera.close()
                raise
        except OSError as error:
            raise MaglensError(f"{name}: {error.strerror}", hint="v4l2-ctl --list-devices") from error
        return camera
    if kind == "libcamera" and name:
        from maglens_driver.libcamera.source import LibcameraSource

        return await LibcameraSource.open(name)
    if kind == "virtual" and name:
        from maglens_driver.virtual.source import VirtualSource

        source = VirtualSource(name)
        await source.prepare()
        return source
    raise Usage(f"{spec!r} is no source", hint=_HINT)


@contextlib.asynccontextmanager
async def as_module(spec: str, data: LensData, serial: str) -> AsyncIterator[tuple[Source, Descriptor]]:
    """The source as a module's, and its descriptor; closed afterwards."""
    if spec == "none":
        descriptor = Descriptor.unpack(data.with_serial(serial).descriptor.pack())
        if not descriptor.is_optics_only or data.price != Price():  # a price is for the modes of a camera to come
            raise Usage(
                f"{data.name} is for a lens with a camera, and --source none has none",
                hint=f"--source v4l2:/dev/video0; or --lens {optics_names()[0]}",
            )
        yield NoPictures(descriptor), descriptor
        return
    inner = await open_source(spec)
    try:
        descriptor = await describing.describe(data, inner, serial)
        yield AdaptedSource(inner, descriptor), descriptor
    finally:
        await inner.close()


def descriptor_lines(descriptor: Descriptor) -> list[str]:
    """A descriptor for people."""
    lines = [f"{descriptor.identity}, {descriptor.lens.name}"]
    rows = [(f"  {m.describe()}", f"{m.mbit_s} Mbit/s", f"{m.mw} mW") for m in descriptor.modes]
    lines += table(rows).splitlines() or ["  optics only"]
    lines += [f"  {c.name}: {c.minimum} to {c.maximum}, default {c.default}" for c in descriptor.controls]
    return lines


async def run(args: argparse.Namespace) -> int:
    """Be a module until interrupted; with ``--dry-run`` say what it would be."""
    if not args.dry_run:
        need_root("maglens module run")
    if not 0 <= args.max_power <= UNCONFIGURED_MA:
        raise Usage(
            f"{args.max_power} mA before a contract, 0 to {UNCONFIGURED_MA} are allowed",
            hint=f"--max-power {UNCONFIGURED_MA}",
        )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    data = lens_data(args.lens)
    async with as_module(args.source, data, args.serial or own_serial()) as (source, descriptor):
        if args.dry_run:
            if args.json:
                emit({"identity": descriptor.identity.key, "descriptor": descriptor.pack().hex()})
            else:
                say("\n".join(descriptor_lines(descriptor)))
            return Exit.OK
        return await service.run(source, descriptor, Place(args.name, udc=args.udc, max_power_ma=args.max_power))


def listing(args: argparse.Namespace) -> int:
    """Every name that ``--lens`` takes, by what it is for."""
    boards = sorted(path.stem for path in BOARDS.glob("*.toml"))
    if args.json:
        emit([*boards, *lens_names(), *optics_names()])
        return Exit.OK
    rows = [(name, "a camera on a board") for name in boards]
    rows += [(name, f"--source virtual:{name}") for name in lens_names()]
    rows += [(name, "--source none: optics only") for name in optics_names()]
    say(table(rows))
    return Exit.OK
