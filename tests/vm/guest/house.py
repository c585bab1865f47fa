# SPDX-License-Identifier: GPL-2.0-or-later
"""House: a camera, two lenses and the service, for real apps: systemd's in the machine, plain processes in a kernel
that is a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from maglens_driver.gadget import client
from maglens_driver.gadget.client import SimClient
from maglens_driver.names import SERVICE_UNIT
from tests.demo.guest import node_status
from tests.vm.guest import acts
from tests.vm.guest.devices import SYSTEMD, succeed
from tests.vm.guest.troupe import LENS, Troupe, virtual_module

PORTRAIT = "73mm"


@dataclass(frozen=True, slots=True)
class House:
    """``device``: the camera's path. ``dies``: see :data:`acts.Dies`."""

    device: str
    wide: SimClient
    portrait: SimClient
    dies: acts.Dies


@contextmanager
def house() -> Iterator[House]:
    """Both lenses are detached, and behave."""
    with ExitStack() as stack:
        if not SYSTEMD.exists():
            troupe = stack.enter_context(Troupe(built_in=False))
            portrait = stack.enter_context(virtual_module(troupe.folder, PORTRAIT))
            yield House(str(troupe.status()["node"]["path"]), troupe.sim, portrait, troupe.dies)
            return
        succeed("systemctl", "start", SERVICE_UNIT)
        wide, portrait = (stack.enter_context(_started(name)) for name in (LENS, PORTRAIT))
        yield House(str(node_status()["path"]), wide, portrait, acts.service_dies)


@contextmanager
def _started(name: str) -> Iterator[SimClient]:
    client.start(name)
    try:
        with SimClient(name) as made:
            yield made
    finally:
        client.stop(name)
