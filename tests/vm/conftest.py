# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for the scenarios. This runs in the guest, as root, with the project installed."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from maglens_driver.gadget import client as sims
from maglens_driver.gadget.client import SimClient
from maglens_driver.link import limits
from tests.vm.guest import devices
from tests.vm.guest.devices import daemon_kept_away
from tests.vm.guest.journal import Journal
from tests.vm.guest.kernel_log import KernelLog, trouble
from tests.vm.guest.limits import TIME_FACTOR
from tests.vm.guest.recorder import Recording
from tests.vm.guest.udev_watch import UdevWatch

JournalOf = Callable[[str], Journal]
WatchUdev = Callable[..., UdevWatch]
Record = Callable[..., Recording]
MakeLoopback = Callable[..., Path]
Sim = Callable[[str], SimClient]
LONG_TEST_S = 600  # for a long scenario, setting up and clearing away included; all others have the lab's limit


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long scenarios their time."""
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_TEST_S))


@pytest.fixture
def out(request: pytest.FixtureRequest) -> Path:
    """A directory of this test's own that is brought out of the guest."""
    test: str = request.node.name
    path = Path(os.environ.get("OUT", "/out")) / test.replace("/", "_")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(autouse=True)
def kernel_log() -> Iterator[KernelLog]:
    """Kernel messages since the test began. A message that no run may have fails the test, asked for or not."""
    with KernelLog() as log:
        yield log
        bad = trouble(log.read())
    if bad:
        pytest.fail("the kernel log has: " + "; ".join(bad))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules share a slow processor with the test here, and may take their time: what MAGLENS_TIME_FACTOR is for."""
    for name in ("REPLY_S", "FIRST_FRAME_S", "STALL_MIN_S"):
        monkeypatch.setattr(limits, name, TIME_FACTOR * getattr(limits, name))


@pytest.fixture
def journal() -> Iterator[JournalOf]:
    """journal(unit): what the unit logs from now on."""
    with contextlib.ExitStack() as stack:
        yield lambda unit: stack.enter_context(Journal(unit))


@pytest.fixture
def wait_for_udev() -> Iterator[WatchUdev]:
    """wait_for_udev(subsystem, device_type=None): udev events from now on; .next(action, match) waits for one."""
    with contextlib.ExitStack() as stack:

        def watch(subsystem: str, device_type: str | None = None) -> UdevWatch:
            return stack.enter_context(UdevWatch(subsystem, device_type))

        yield watch


@pytest.fixture
def ffmpeg_recorder(out: Path) -> Iterator[Record]:
    """ffmpeg_recorder(device, name="recording", options=()): an ffmpeg that records from now on, into `out`."""
    with contextlib.ExitStack() as stack:

        def record(device: str | Path, name: str = "recording", options: Sequence[str] = ()) -> Recording:
            return stack.enter_context(Recording(device, out / f"{name}.nut", options))

        yield record


def put_away(module: SimClient) -> None:
    """Detached and without faults, as the next scenario expects it."""
    module.clear()
    if module.status()["attached"]:
        module.detach()


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, SimClient]]:
    """Virtual modules by name, started by the first scenario of a file that asks: one takes seconds to start."""
    started: dict[str, SimClient] = {}
    yield started
    for name, client in started.items():
        client.close()
        sims.stop(name)


@pytest.fixture
def sim(modules: dict[str, SimClient]) -> Iterator[Sim]:
    """sim(name): the client of a virtual module that runs, detached, without faults; put away at the end."""
    used: list[SimClient] = []

    def made(name: str) -> SimClient:
        if name not in modules:
            sims.start(name)
            modules[name] = SimClient(name)
        used.append(modules[name])
        return modules[name]

    yield made
    for client in used:
        put_away(client)


@pytest.fixture
def v4l2loopback() -> Iterator[MakeLoopback]:
    """v4l2loopback(name, *options): a loopback node that lives as long as the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name, *options: stack.enter_context(devices.loopback(name, *options))


@pytest.fixture
def vivid() -> Iterator[Path]:
    """The capture node of vivid, the kernel's test-pattern camera."""
    with devices.vivid() as node:
        yield node


@pytest.fixture(scope="module")
def without_daemon() -> Iterator[None]:
    """No service for a whole file."""
    with daemon_kept_away():
        yield


@pytest.fixture
def daemon_away() -> Iterator[None]:
    """No service for one scenario."""
    with daemon_kept_away():
        yield
