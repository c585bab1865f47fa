# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests/kernel/README.md promises to a script in the plain kernel: the project, USB, GPIO, cameras, udev."""

from __future__ import annotations

import fnmatch
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import gpiod
import pytest
import pyudev
from gpiod.line import Direction, Edge

import maglens_v4l2
import tests
from maglens_driver.gadget.client import SimClient
from maglens_driver.mode import NV12, make_mode
from maglens_driver.names import UDEV_INTERFACE_GLOB
from maglens_v4l2.kernel_node import KernelNode
from tests.unit.v4l2_app import V4l2App
from tests.vm.guest.devices import succeed, vivid
from tests.vm.guest.udev_watch import UdevWatch

CHIPS = Path("/sys/kernel/config/gpio-sim")
DEADLINE_S = 10.0


@pytest.fixture
def chip() -> Iterator[tuple[str, Path]]:
    """A simulated chip of four lines: its device, and the sysfs directory that pulls them."""
    bank = CHIPS / "test/bank0"
    bank.mkdir(parents=True)
    (bank / "num_lines").write_text("4")
    live = CHIPS / "test/live"
    live.write_text("1")
    device = (CHIPS / "test/dev_name").read_text().strip()
    name = (bank / "chip_name").read_text().strip()
    yield f"/dev/{name}", Path("/sys/devices/platform") / device / name
    live.write_text("0")
    bank.rmdir()
    (CHIPS / "test").rmdir()


def test_the_project_is_the_installed_one_and_the_tests_are_the_tree() -> None:
    assert Path(maglens_v4l2.__file__).is_relative_to("/usr/lib/maglens")
    assert Path(tests.__file__).is_relative_to("/usr/src/maglens")
    assert not os.access("/usr/src/maglens/setup.cfg", os.W_OK)
    Path("/etc/maglens-was-here").write_text("and will not be next time")


def test_a_virtual_module_comes_over_usb_and_udev_tells_of_it() -> None:
    command = [sys.executable, "-m", "maglens_driver.gadget.sim", "35mm"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            with UdevWatch("usb", "usb_device") as watch, SimClient("35mm") as sim:
                sim.attach()
                added = watch.next("add", _is_module)
                assert added.attributes.asstring("speed") == "5000"
                sim.detach()
                watch.next("remove", lambda device: device.sys_path == added.sys_path)
        finally:
            process.terminate()


def _is_module(device: pyudev.Device) -> bool:
    return fnmatch.fnmatch(device.properties.get("ID_USB_INTERFACES", ""), UDEV_INTERFACE_GLOB)


def test_an_edge_of_a_simulated_pin_is_an_event(chip: tuple[str, Path]) -> None:
    path, sysfs = chip
    settings = gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.BOTH)
    with gpiod.request_lines(path, config={2: settings}) as lines:
        (sysfs / "sim_gpio2/pull").write_text("pull-up")
        assert select.select([lines.fd], [], [], DEADLINE_S)[0]
        (event,) = lines.read_edge_events()
        assert event.event_type is gpiod.EdgeEvent.Type.RISING_EDGE
        assert event.line_offset == 2


def test_our_camera_and_others_stand_side_by_side() -> None:
    succeed("modprobe", "maglens")
    node = KernelNode.create(make_mode(NV12, 320, 240, Fraction(1, 30)), "Guest test")
    app = V4l2App(node.path)
    try:
        app.start()
        assert app.next(DEADLINE_S) is not None
        with vivid() as other:
            assert "Test Pattern" in succeed("v4l2-ctl", "-d", other, "--list-ctrls-menus")
    finally:
        app.close()
        node.close()


def test_what_else_there_is() -> None:
    succeed("modprobe", "i2c-stub", "chip_addr=0x40")
    assert "0x0000" in succeed("i2cget", "-y", _stub_bus(), "0x40", "0x05", "w")
    succeed("modprobe", "v4l2loopback", "devices=0")
    for path in (
        "/dev/uinput",
        "/dev/raw-gadget",
        "/sys/kernel/config/usb_gadget",
        "/sys/devices/platform/vhci_hcd.0",
    ):
        assert Path(path).exists(), path


def _stub_bus() -> str:
    for name in Path("/sys/bus/i2c/devices").glob("i2c-*/name"):
        if "stub" in name.read_text():
            return name.parent.name.removeprefix("i2c-")
    raise AssertionError("no SMBus stub")
