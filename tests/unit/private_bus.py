# SPDX-License-Identifier: GPL-2.0-or-later
"""A D-Bus of a test's own: a real dbus-daemon on a socket in a temporary directory."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from maglens_daemon.bus import Bus
from maglens_daemon.cli.client import Client
from maglens_daemon.herald import Herald
from maglens_daemon.manager import Manager
from maglens_daemon.system_bus import connect

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow send_requested_reply="true"/>
    <allow receive_requested_reply="true"/>
  </policy>
</busconfig>
"""


def listening(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a client hears every signal: the bus has answered to both of its match rules. In whatever thread."""
    heard, rules, call = threading.Event(), 0, Client.call

    async def counted(client: Client, path: str, interface: str, member: str, *rest: Any, **named: Any) -> list[Any]:
        nonlocal rules
        answer = await call(client, path, interface, member, *rest, **named)
        rules += member == "AddMatch"
        if rules == 2:
            heard.set()
        return answer

    monkeypatch.setattr(Client, "call", counted)
    return heard


@contextmanager
def private_bus(directory: Path, policy: str = CONFIG) -> Iterator[str]:
    """Its address."""
    socket, config = directory / "bus", directory / "bus.conf"
    config.write_text(policy.format(socket=socket))
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        try:
            address = daemon.stdout.readline().strip()
            assert address, "dbus-daemon did not start"
            yield address
        finally:
            daemon.terminate()


@asynccontextmanager
async def published(manager: Manager, address: str, reload: Callable[[], None] = lambda: None) -> AsyncIterator[Bus]:
    """A manager on that bus, as the service is."""
    herald = Herald(lambda: manager.in_haste)
    manager.listeners.append(herald.changed)
    bus, connection = Bus(manager, reload, herald), await connect(address)
    try:
        await bus.publish(connection)
        yield bus
    finally:
        bus.withdraw()
        connection.disconnect()
        manager.listeners.remove(herald.changed)
        herald.close()
