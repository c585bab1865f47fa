# SPDX-License-Identifier: GPL-2.0-or-later
"""Troupe: a maglensd of one's own with cameras of every kind around it, all as plain processes.

Needs root and a kernel with dummy_hcd, vhci-hcd, uvcvideo and maglens.ko, but no systemd: it runs in the VM, where
the service has to be stopped first, and in UML at native speed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from maglens_driver import names
from maglens_driver.gadget.client import SimClient
from tests.tools.usbip.plugged import Plugged
from tests.unit.private_bus import private_bus
from tests.vm.guest import shipped
from tests.vm.guest.devices import succeed
from tests.vm.guest.limits import TIME_FACTOR, emulated
from tests.vm.guest.log import WAIT_S, Log
from tests.vm.guest.warden import Warden

LENS: Final = "35mm"
VIRTUAL_FILE: Final = Path("/usr/share/libcamera/pipeline/virtual/virtual.yaml")
VIRTUAL_CAMERA: Final = "lab0"
VIRTUAL: Final = f"""
"{VIRTUAL_CAMERA}":
  supported_formats:
  - width: 640
    height: 480
    frame_rates: [15, 30]
  test_pattern: "bars"
  location: "CameraLocationFront"
  model: "Lab camera"
"""
UVC_DRIVER: Final = Path("/sys/bus/usb/drivers/uvcvideo")
BUILT_IN: Final = "libcamera Lab camera"
MODULE: Final = "SIM-35mm"
WEBCAM: Final = "Emulated UVC camera"


class Troupe:
    """From __enter__ to __exit__: a bus, maglensd, a virtual module (detached), and libcamera's virtual camera unless
    ``built_in`` is False. ``config`` is the daemon's."""

    def __init__(self, config: str = "", *, built_in: bool = True) -> None:
        self._config = config
        self._built_in = built_in
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        stack = self._stack
        with stack:
            folder = self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="troupe-")))
            succeed("modprobe", "-a", "libcomposite", "dummy_hcd", "vhci-hcd", "uvcvideo", "maglens")
            if self._built_in:
                stack.enter_context(virtual_camera())
            bus = stack.enter_context(private_bus(folder))
            main = folder / "maglens.toml"
            main.write_text(self._config)
            self._environment = {**os.environ, **shipped.environment()}
            self._environment |= {"DBUS_SYSTEM_BUS_ADDRESS": bus, names.ENV_CONFIG: str(main)}
            if emulated():
                self._environment[names.ENV_TIME_FACTOR] = str(TIME_FACTOR)
            self.sim = stack.enter_context(virtual_module(folder))
            shutil.rmtree(names.RUNTIME_DIR, ignore_errors=True)
            self._warden = stack.enter_context(Warden(folder, self._environment))
            self.log.wait_for("the camera is /dev/video")
            if self._built_in:
                self.log.wait_for(f"{BUILT_IN}.*: ready")
            self._stack = stack.pop_all()
        self._webcam: Plugged | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._webcam is not None:
            self._webcam.__exit__(None, None, None)
        self._stack.close()

    @property
    def daemon(self) -> subprocess.Popen[bytes]:
        """The service."""
        return self._warden.process

    @property
    def log(self) -> Log:
        """What it says."""
        return self._warden.log

    @contextmanager
    def dies(self, playing: str = MODULE) -> Iterator[int]:
        """SIGKILL for the service while ``playing`` plays: CLOCK_MONOTONIC ns. At the end the next one plays it."""
        yield self._warden.kill()
        self.log.wait_for("the camera is /dev/video")
        self.plays(playing)

    def maglens(self, *words: str) -> str:
        """What the command says."""
        command = [sys.executable, "-m", "maglens_daemon.cli.main", *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> Any:
        """The daemon's, as data."""
        return json.loads(self.maglens("status", "--json"))

    def plug(self) -> None:
        """Plug the webcam in."""
        self._webcam = Plugged()
        self._webcam.__enter__()

    def unplug(self) -> None:
        """Pull the webcam out."""
        webcam, self._webcam = self._webcam, None
        assert webcam is not None
        webcam.unplug()
        webcam.__exit__(None, None, None)

    def unbind(self) -> None:
        """Take the driver away from under the webcam."""
        _interface(UVC_DRIVER)
        (UVC_DRIVER / "unbind").write_text(_interface(UVC_DRIVER))

    def child_pid(self) -> int:
        """The daemon's libcamera process; ``LookupError`` where it has none, since that camera rests."""
        command = ["pgrep", "-P", str(self.daemon.pid), "-f", "maglens_driver.libcamera.child"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        if not found:
            raise LookupError("there is no libcamera process")
        return int(found[-1])

    def plays(self, who: str) -> str:
        """Wait until it does."""
        return self.log.wait_for(f"{re.escape(who)}.* plays ")


def _interface(driver: Path) -> str:
    return next(path.name for path in driver.iterdir() if re.fullmatch(r"[0-9.-]+:1\.0", path.name))


@contextmanager
def virtual_camera() -> Iterator[None]:
    """libcamera has a camera, which a daemon that starts now sees."""
    VIRTUAL_FILE.parent.mkdir(parents=True, exist_ok=True)
    VIRTUAL_FILE.write_text(VIRTUAL)
    try:
        yield
    finally:
        VIRTUAL_FILE.unlink()


@contextmanager
def process(module: str, *words: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A Python module as a program, ended at last; its standard error is a pipe."""
    command: Sequence[str] = [sys.executable, "-m", module, *words]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, bufsize=0) as running:
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                running.kill()


@contextmanager
def virtual_module(folder: Path, lens: str = LENS) -> Iterator[SimClient]:
    """A virtual module, detached; it makes its socket when it is ready."""
    command = [sys.executable, "-m", "maglens_driver.gadget.sim", lens, "--runtime", str(folder)]
    with subprocess.Popen(command) as running:
        try:
            end = time.monotonic() + WAIT_S
            while not (folder / f"{lens}.sock").exists():
                if running.poll() is not None or time.monotonic() > end:
                    raise AssertionError("the virtual module did not start")
                time.sleep(0.1)
            with SimClient(lens, folder) as client:
                yield client
        finally:
            running.terminate()
