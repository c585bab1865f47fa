# SPDX-License-Identifier: GPL-2.0-or-later
"""Studio: a camera with one virtual module on it, the apps before it, and what the module itself says."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from maglens_driver.control import Cid
from tests.vm.guest import app_calls
from tests.vm.guest.devices import daemon_kept_away, succeed
from tests.vm.guest.limits import EVENT_S
from tests.vm.guest.troupe import LENS, Troupe

CONFIG: Final = "[node]\nwidth = 640\nheight = 480\nrate = 15\n"
SERIAL: Final = f"SIM-{LENS}"
LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Studio:
    """``node``: the camera's path."""

    troupe: Troupe
    node: str

    def module(self, control: int) -> int:
        """What the module itself says."""
        return int(self.troupe.sim.status()["controls"][str(int(control))])

    def set(self, **values: int) -> None:
        """As a person does at a terminal."""
        words = ",".join(f"{name}={value}" for name, value in values.items())
        succeed("v4l2-ctl", "-d", self.node, "--set-ctrl", words)

    def shown(self, control: int) -> app_calls.QueryExtCtrl:
        """The control as an app sees it that only looks."""
        with self.opened() as fd:
            return app_calls.control(fd, control)

    def active(self, control: int) -> bool:
        """Whether the present module has it."""
        return not self.shown(control).flags & app_calls.CTRL_FLAG_INACTIVE

    def value(self, control: int) -> int:
        """Its value."""
        with self.opened() as fd:
            return app_calls.value(fd, control)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of an app's that does nothing else."""
        fd = os.open(self.node, os.O_RDWR | os.O_NONBLOCK)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def watched(self, source: str = SERIAL) -> Iterator[None]:
        """An app streams, and has a picture of the module, or of another source."""
        command = ["v4l2-ctl", "-d", self.node, "--stream-mmap", "--stream-count=1000000"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as app:
            try:
                self.troupe.plays(source)
                yield
                assert app.poll() is None, "the app lives"
            finally:
                app.terminate()

    def until(self, true: Callable[[], bool], what: str) -> None:
        """A module tells nobody that it was written to: it is asked."""
        end = time.monotonic() + EVENT_S
        while not true():
            if time.monotonic() > end:
                self.troupe.log.drain()
                has = self.troupe.sim.status()["controls"]
                raise AssertionError(f"{what}; the module has {has}; maglensd said:\n{self.troupe.log.tail()}")
            time.sleep(LOOK_S)

    def until_module(self, wanted: Mapping[int, int]) -> None:
        """Wait until it says that it has these values."""
        self.until(lambda: {c: self.module(c) for c in wanted} == dict(wanted), f"the module never had {wanted}")

    def until_shown(self, wanted: Mapping[int, int]) -> None:
        """Wait until apps read these values."""
        self.until(lambda: {c: self.value(c) for c in wanted} == dict(wanted), f"apps never saw {wanted}")

    def snap_on(self) -> None:
        """Until its controls can be set."""
        self.troupe.sim.attach()
        self.troupe.log.wait_for(f"{SERIAL}.*: ready")
        self.until(lambda: self.active(Cid.FOCUS_ABSOLUTE), "focus is not to be had")

    def snap_off(self) -> None:
        """Until the service has seen that."""
        self.troupe.sim.detach()
        self.troupe.log.wait_for(f"{SERIAL}.*: removed")

    def maglens_control(self, action: str, *words: str) -> None:
        """By maglens' own command."""
        self.troupe.maglens("control", action, *words, "-m", SERIAL)


@contextmanager
def studio() -> Iterator[Studio]:
    """The module is snapped on. A service that systemd has rests meanwhile."""
    with daemon_kept_away(), Troupe(CONFIG) as troupe:
        made = Studio(troupe, str(troupe.status()["node"]["path"]))
        made.snap_on()
        yield made
        made.maglens_control("reset")  # the store is the machine's
