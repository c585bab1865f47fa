# SPDX-License-Identifier: GPL-2.0-or-later
"""Conform: ``maglens conform``, the conformance kit against the module at a port."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Sequence
from typing import Final

from maglens_daemon.cli.client import Client
from maglens_daemon.cli.output import emit, say
from maglens_daemon.errors import NotFound, Unavailable, Usage
from maglens_daemon.exits import Exit
from maglens_driver import names
from maglens_driver.conform import tap
from maglens_driver.conform.check import Result
from maglens_driver.conform.port_watch import PortWatch
from maglens_driver.conform.run import Run, failed
from maglens_driver.conform.specimen import Specimen
from maglens_driver.conform.suite import chosen
from maglens_driver.conform.usb_facts import SYSFS_USB, UsbFacts, read_facts
from maglens_driver.errors import Gone, MaglensError, Refused
from maglens_driver.link import limits
from maglens_driver.link.pd import FixedPdo
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.discovery import Discovery
from maglens_driver.usb.libusb import LibusbTransport
from maglens_driver.usb.transport import Transport

HAND_S: Final = 60.0  # that somebody is given to do as asked
STOP_SERVICE: Final = f"sudo systemctl mask --runtime --now {names.SERVICE_UNIT}"
START_SERVICE: Final = (
    f"sudo systemctl unmask --runtime {names.SERVICE_UNIT}; sudo systemctl start {names.SERVICE_UNIT}"
)


class Prompt:
    """A person, asked on standard error; what they do is seen by udev."""

    def __init__(self, port: str) -> None:
        self._port = port

    def pull(self) -> None:
        """See :class:`~maglens_driver.conform.specimen.Hand`."""
        asyncio.run(self._pull())

    def plug(self) -> tuple[UsbFacts, UsbDevice, Transport, int]:
        """See :class:`~maglens_driver.conform.specimen.Hand`."""
        device, bounces = asyncio.run(self._plug())
        return _facts(self._port), device, LibusbTransport(device), bounces

    def turn(self, ring: str) -> bool:
        """See :class:`~maglens_driver.conform.specimen.Hand`."""
        _tell(f"turn the {ring} ring now")
        return True

    async def _pull(self) -> None:
        async with PortWatch(self._port) as watch:
            _tell("pull the module off now")
            await watch.gone(HAND_S)

    async def _plug(self) -> tuple[UsbDevice, int]:
        async with PortWatch(self._port) as watch:
            _tell("put the module back now")
            return await watch.steady(HAND_S)


def _facts(port: str) -> UsbFacts:
    """What the kernel read of the device at ``port``. Raises ``Gone``."""
    try:
        return read_facts(SYSFS_USB / port)
    except OSError as error:
        raise Gone(f"what was at port {port} has left", hint=f"ls {SYSFS_USB}") from error


def _tell(text: str) -> None:
    print(f"maglens conform: {text}", file=sys.stderr, flush=True)


async def _find(port: str | None) -> tuple[UsbDevice | None, str]:
    """The module at ``port``, or the only one there is; a stranger's port too, without its device."""
    async with Discovery() as discovery:
        present = discovery.present()
    if port is None:
        if len(present) != 1:
            what = (
                "no module is plugged in" if not present else f"modules are at {', '.join(d.port for d in present)}"
            )
            raise NotFound(what, hint=f"maglens conform PORT, as 2-1; ls {SYSFS_USB}")
        return present[0], present[0].port
    device = next((d for d in present if d.port == port), None)
    if device is None and not (SYSFS_USB / port / "descriptors").is_file():
        raise NotFound(f"nothing is plugged in at port {port}", hint=f"ls {SYSFS_USB}")
    return device, port


async def _see_that_it_is_free(port: str) -> None:
    """The service would take part: it must not have the module. Where it does not run, nothing is in the way."""
    try:
        async with Client() as client:
            modules = (await client.status())["modules"] if await client.service_runs() else []
    except Unavailable:
        return
    if any(m["port"] == port for m in modules):
        raise MaglensError(
            f"the service has the module at port {port}; it must not run meanwhile",
            hint=f"{STOP_SERVICE}; afterwards: {START_SERVICE}",
        )


def parse_offers(words: Sequence[str]) -> tuple[FixedPdo, ...]:
    """``MILLIVOLTS:MILLIAMPERES`` each."""
    offers = []
    for word in words:
        said = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,6})", word)
        offer = FixedPdo(int(said[1]), int(said[2])) if said else FixedPdo(0, 0)
        try:
            offer.pack()
        except ValueError as error:
            raise Usage(f"{word!r} is no offer", hint="--offer 9000:3000 is 9 V and 3 A") from error
        offers.append(offer)
    if len(offers) > limits.MAX_PD_OBJECTS:
        raise Usage(f"{len(offers)} offers, {limits.MAX_PD_OBJECTS} are allowed", hint="fewer of --offer")
    return tuple(offers)


def listing(args: argparse.Namespace) -> int:
    """Every check and what it promises."""
    checks = chosen(args.only)
    if args.json:
        emit([{"name": c.name, "text": c.text, "should": c.should} for c in checks])
    else:
        say("\n".join(f"{c.name}: {c.text}{' (should)' if c.should else ''}" for c in checks))
    return Exit.OK


def run(args: argparse.Namespace) -> int:
    """All checks against one module."""
    checks = chosen(args.only)
    if not checks:
        raise NotFound(f"no check is named {' or '.join(args.only)}", hint="maglens conform --list")
    if args.list:
        return listing(args)
    device, port = asyncio.run(_find(args.port))
    if device is not None:
        asyncio.run(_see_that_it_is_free(port))
    specimen = _open(args, device, port)
    began = time.monotonic()
    numbered = 0

    def show(result: Result) -> None:
        nonlocal numbered
        numbered += 1
        if not args.json:
            say("\n".join(tap.lines(numbered, result)))

    if not args.json:
        say("\n".join(tap.head(len(checks))))
    try:
        results = Run(specimen, show).make(checks)
        who = specimen.name()
    finally:
        specimen.close()
    if args.json:
        emit({"port": port, "seconds": round(time.monotonic() - began, 3), **tap.document(results, who)})
    else:
        say(f"# {tap.verdict(results, who)}")
    return Exit.FAILED if failed(results) else Exit.OK


def _open(args: argparse.Namespace, device: UsbDevice | None, port: str) -> Specimen:
    offers = parse_offers(args.offer)
    transport = LibusbTransport(device) if device is not None else None
    hand = Prompt(port) if args.replug else None
    try:
        return Specimen(_facts(port), device, transport, offers=offers, hand=hand)
    except Refused as error:
        if error.status != "CLAIMED":
            raise
        raise Refused(error.status, str(error), hint=f"{STOP_SERVICE}; or {error.hint}") from error
