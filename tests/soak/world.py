# SPDX-License-Identifier: GPL-2.0-or-later
"""World: the service and virtual modules around it, with systemd (the VM) or as plain processes (UML)."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dbus_fast import BusType, Message
from dbus_fast.aio import MessageBus

from maglens_daemon.cli.client import Client
from maglens_daemon.status import Status
from maglens_driver import names
from maglens_driver.gadget import client
from maglens_driver.gadget.client import SimClient
from tests.demo.stage import allow_for_emulation
from tests.unit.private_bus import private_bus
from tests.vm.guest import shipped
from tests.vm.guest.devices import SYSTEMD, succeed
from tests.vm.guest.log import WAIT_S, Log
from tests.vm.guest.troupe import process, virtual_module

_BUS = "org.freedesktop.DBus"
DROPIN = Path(names.CONFIG_DROPIN_DIR) / "99-soak.toml"


@dataclass(frozen=True, slots=True)
class World:
    """``pid`` of the service, the modules (detached) in the order asked for, ``tail``, its last words, and its
    ``status``."""

    pid: int
    sims: Sequence[SimClient]
    tail: Callable[[], str]
    status: Callable[[], Status]

    def node(self) -> str:
        """Path of the first camera."""
        return str(self.status()["node"]["path"])

    def same(self) -> bool:
        """Whether the service is the one that it was."""
        return service_pid() == self.pid if SYSTEMD.exists() else Path(f"/proc/{self.pid}").exists()


def service_pid() -> int:
    """Of systemd's service; 0 while it does not run."""
    return int(succeed("systemctl", "show", "-P", "MainPID", names.SERVICE_UNIT))


@contextmanager
def _asking() -> Iterator[Callable[[], Status]]:
    """Status by one connection: making one takes longer than asking, where the processor is emulated."""
    with asyncio.Runner() as runner:
        client = runner.run(Client().__aenter__())
        try:
            yield lambda: runner.run(client.status())
        finally:
            runner.run(client.__aexit__(None, None, None))


@contextmanager
def world(config: str, lenses: Sequence[str]) -> Iterator[World]:
    """A service with this configuration, begun anew, and virtual modules."""
    with _units(config, lenses) if SYSTEMD.exists() else _processes(config, lenses) as made:
        yield made


@contextmanager
def _units(config: str, lenses: Sequence[str]) -> Iterator[World]:
    DROPIN.parent.mkdir(parents=True, exist_ok=True)
    DROPIN.write_text(config)
    allow_for_emulation()
    succeed("systemctl", "stop", names.SERVICE_UNIT)  # gives up the node, whose format would be kept over a restart
    for lens in lenses:
        client.start(lens)
    succeed("systemctl", "start", names.SERVICE_UNIT)

    def tail() -> str:
        return succeed("journalctl", "-u", names.SERVICE_UNIT, "-n", "40", "-o", "cat")

    try:
        with _asking() as status:
            yield World(service_pid(), [SimClient(lens) for lens in lenses], tail, status)
    finally:
        for lens in lenses:
            client.stop(lens)
        DROPIN.unlink()
        succeed("systemctl", "restart", names.SERVICE_UNIT)


@contextmanager
def _processes(config: str, lenses: Sequence[str]) -> Iterator[World]:
    succeed("modprobe", "-a", "libcomposite", "dummy_hcd", "maglens")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="world-")))
        settings = folder / "maglens.toml"
        settings.write_text(config)
        bus = stack.enter_context(private_bus(folder))
        os.environ |= {"DBUS_SYSTEM_BUS_ADDRESS": bus, names.ENV_CONFIG: str(settings)}
        sims = [stack.enter_context(virtual_module(folder, lens)) for lens in lenses]
        log = stack.enter_context(_service())

        def tail() -> str:
            log.drain()
            return "\n".join(log.lines[-40:])

        status = stack.enter_context(_asking())
        yield World(log.pid, sims, tail, status)


@contextmanager
def _service() -> Iterator[Log]:
    with process("maglens_daemon.main", environment={**os.environ, **shipped.environment()}) as running:
        log = Log(running)
        log.wait_for("the camera is /dev/video")
        asyncio.run(_on_the_bus())
        yield log


async def _on_the_bus() -> None:
    """Wait until the service has its name."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    came = asyncio.Event()

    def hear(message: Message) -> None:
        if message.member == "NameOwnerChanged" and message.body[2]:
            came.set()

    bus.add_message_handler(hear)
    for member, word in (
        ("AddMatch", f"member='NameOwnerChanged',arg0='{names.BUS_NAME}'"),
        ("NameHasOwner", names.BUS_NAME),
    ):
        reply = await bus.call(
            Message(
                destination=_BUS,
                path="/org/freedesktop/DBus",
                interface=_BUS,
                member=member,
                signature="s",
                body=[word],
            )
        )
    if reply is None or not reply.body[0]:
        await asyncio.wait_for(came.wait(), WAIT_S)
    bus.disconnect()
