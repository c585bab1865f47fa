# SPDX-License-Identifier: GPL-2.0-or-later
"""Test devices: loopback nodes made at run time, the kernel's test-pattern camera (vivid), and a machine without the
service that would take them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maglens_driver.names import SERVICE_UNIT
from tests.vm.guest.udev_watch import UdevWatch

SYSTEMD = Path("/run/systemd/system")
"""There where systemd is process 1; not in a kernel that is a process (tests/kernel/uml_guest.py)."""


def succeed(*command: str | Path) -> str:
    """Standard output of a command that must succeed; the error says what it said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed ({done.returncode}): {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def daemon_kept_away() -> Iterator[None]:
    """The daemon would take every module that comes; for scenarios that read one. It is back afterwards."""
    if not SYSTEMD.exists():
        yield
        return
    succeed("systemctl", "mask", "--runtime", "--now", SERVICE_UNIT)
    yield
    succeed("systemctl", "unmask", "--runtime", SERVICE_UNIT)
    succeed("systemctl", "start", SERVICE_UNIT)


@contextmanager
def loopback(name: str, *options: str) -> Iterator[Path]:
    """A v4l2loopback node of that name, capture-only to apps. options: more for `v4l2loopback-ctl add`."""
    succeed("modprobe", "v4l2loopback")
    with UdevWatch("video4linux") as watch:
        node = succeed("v4l2loopback-ctl", "add", "-n", name, "-x", "1", *options).strip()
        watch.next("add", lambda device: device.device_node == node)
    try:
        yield Path(node)
    finally:
        succeed("v4l2loopback-ctl", "delete", node)


@contextmanager
def vivid() -> Iterator[Path]:
    """The capture node of a vivid camera."""
    succeed("modprobe", "-r", "vivid")  # a scenario that failed may have held it to the end
    try:
        with UdevWatch("video4linux") as watch:
            succeed("modprobe", "vivid")
            device = watch.next("add", lambda found: _name(found.sys_path).endswith("vid-cap"))
        yield Path(str(device.device_node))
    finally:
        succeed("modprobe", "-r", "vivid")


@contextmanager
def moving_picture(node: Path, size: str = "320x240", rate: int = 30) -> Iterator[None]:
    """An ffmpeg that feeds a loopback node a moving test picture (YUYV); from its first frame on."""
    command = [
        "ffmpeg", "-nostdin", "-loglevel", "error", "-progress", "pipe:1", "-stats_period", "0.1",
        "-re", "-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}", "-pix_fmt", "yuyv422", "-f", "v4l2", str(node),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as producer:
        assert producer.stdout is not None
        try:
            for line in producer.stdout:
                if line.startswith("frame=") and int(line.partition("=")[2]) > 0:
                    break
            yield
        finally:
            producer.kill()


def _name(sys_path: str) -> str:
    # The node may be gone again by the time its event is looked at.
    path = Path(sys_path) / "name"
    return path.read_text().strip() if path.exists() else ""
