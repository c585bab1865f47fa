# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage: what the film changes on its machine, and all of it changed back, however the film ends."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from maglens_driver.gadget import client
from maglens_driver.names import CONFIG_DROPIN_DIR, ENV_TIME_FACTOR, SERVICE_UNIT, SIM_UNIT_TEMPLATE
from tests.vm.guest.devices import succeed
from tests.vm.guest.limits import TIME_FACTOR, emulated

CONFIG = Path(CONFIG_DROPIN_DIR) / "90-demo.toml"
UNITS = Path("/run/systemd/system")


@contextmanager
def stage(lenses: Sequence[str], size: str | None) -> Iterator[ExitStack]:
    """The virtual modules ``lenses`` run and so does the service, its node of ``size`` (WIDTHxHEIGHT) if given.

    What else is changed is to be put on the stack, before it is changed.
    """
    with ExitStack() as undo:
        undo.callback(_put_back, _active())
        undo.callback(succeed, "systemctl", "daemon-reload")
        for dropin in _dropins():
            undo.callback(dropin.unlink, missing_ok=True)
        allow_for_emulation()
        for lens in lenses:
            undo.callback(client.stop, lens)
            client.start(lens)
        if size:
            undo.callback(CONFIG.unlink, missing_ok=True)
            resize(size)
        succeed("systemctl", "start", SERVICE_UNIT)
        yield undo


@contextmanager
def service_away() -> Iterator[None]:
    """The service is stopped, and udev does not start it for a module that comes. It stays stopped afterwards."""
    with ExitStack() as undo:
        undo.callback(succeed, "systemctl", "unmask", "--runtime", SERVICE_UNIT)
        succeed("systemctl", "mask", "--runtime", "--now", SERVICE_UNIT)
        yield


def resize(size: str) -> None:
    """Stop the service; its node will be of ``size``, WIDTHxHEIGHT."""
    width, height = size.split("x")
    CONFIG.parent.mkdir(parents=True, exist_ok=True)
    CONFIG.write_text(f"[node]\nwidth = {width}\nheight = {height}\n")
    succeed("systemctl", "stop", SERVICE_UNIT)  # gives up the node, whose format would be kept over a restart


def allow_for_emulation() -> None:
    """Where the processor is emulated, services that start from here on have more time for each other."""
    if not emulated():
        return
    for dropin in _dropins():
        dropin.parent.mkdir(parents=True, exist_ok=True)
        dropin.write_text(f"[Service]\nEnvironment={ENV_TIME_FACTOR}={TIME_FACTOR}\n")
    succeed("systemctl", "daemon-reload")


def _dropins() -> list[Path]:
    return [UNITS / f"{unit}.d" / "90-demo.conf" for unit in (SERVICE_UNIT, SIM_UNIT_TEMPLATE)]


def _active() -> bool:
    return subprocess.run(["systemctl", "is-active", "-q", SERVICE_UNIT], check=False).returncode == 0


def _put_back(active: bool) -> None:
    succeed("systemctl", "stop", SERVICE_UNIT)
    if active:
        succeed("systemctl", "start", "--no-block", SERVICE_UNIT)
