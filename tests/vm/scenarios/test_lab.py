# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself: the kernel, systemd, udev and the drivers that every other scenario relies on."""

import os
import platform
import time
from pathlib import Path

import pytest

from tests.vm.conftest import JournalOf, MakeLoopback, Record, WatchUdev
from tests.vm.guest.devices import moving_picture, succeed
from tests.vm.guest.kernel_log import KernelLog, trouble

FRAMES = 20


def test_a_real_kernel_and_systemd_run() -> None:
    assert tuple(int(part) for part in platform.release().split(".")[:2]) >= (6, 1)
    assert Path("/proc/1/comm").read_text().strip() == "systemd"
    assert succeed("systemctl", "is-system-running", "--wait").strip() == "running"
    assert succeed("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""


def test_four_super_speed_device_controllers() -> None:
    found = sorted(Path("/sys/class/udc").iterdir())
    assert [path.name for path in found] == [f"dummy_udc.{index}" for index in range(4)]
    assert {(path / "maximum_speed").read_text().strip() for path in found} == {"super-speed"}


@pytest.mark.parametrize("module", ["libcomposite", "usb_f_fs", "vhci-hcd", "uvcvideo"])
def test_modules_for_usb_are_there(module: str) -> None:
    succeed("modprobe", module)


def test_functionfs_can_be_mounted(tmp_path: Path) -> None:
    gadget = Path("/sys/kernel/config/usb_gadget/lab")
    (gadget / "functions/ffs.lab").mkdir(parents=True)
    try:
        succeed("mount", "-t", "functionfs", "lab", tmp_path)
        assert (tmp_path / "ep0").exists()
        succeed("umount", tmp_path)
    finally:
        (gadget / "functions/ffs.lab").rmdir()
        gadget.rmdir()


def test_loopback_node_is_made_fed_recorded_and_removed(
    wait_for_udev: WatchUdev, v4l2loopback: MakeLoopback, ffmpeg_recorder: Record
) -> None:
    watch = wait_for_udev("video4linux")
    node = v4l2loopback("lab loopback")
    added = watch.next("add", lambda device: device.device_node == str(node))
    assert added.properties.get("ID_V4L_PRODUCT") == "lab loopback"
    with moving_picture(node):
        before_us = time.monotonic_ns() // 1000
        recording = ffmpeg_recorder(node)
        recording.wait_frames(FRAMES)
        recording.stop()
        after_us = time.monotonic_ns() // 1000
    assert recording.errors() == []
    stamps = recording.timestamps_us()
    assert len(stamps) >= FRAMES
    assert stamps == sorted(set(stamps))
    # The kernel's clock, not a time since the start, and not rounded to a coarser time base.
    assert before_us - 1_000_000 < stamps[0] < stamps[-1] < after_us
    assert len({stamp % 1000 for stamp in stamps}) > FRAMES // 4
    assert recording.path.stat().st_size > len(stamps) * 320 * 240 * 2


def test_vivid_streams_and_its_timestamps_survive(vivid: Path, ffmpeg_recorder: Record) -> None:
    recording = ffmpeg_recorder(vivid, options=["-video_size", "640x360", "-framerate", "60"])
    recording.wait_frames(FRAMES)
    recording.stop()
    stamps = recording.timestamps_us()
    now_us = time.monotonic_ns() // 1000
    assert now_us - 60_000_000 < stamps[0] < stamps[-1] < now_us


def test_journal_is_followed_from_a_moment_on(journal: JournalOf) -> None:
    succeed("systemd-run", "--unit=lab-early", "--wait", "-q", "echo", "too early")
    entries = journal("lab-say.service")
    succeed("systemd-run", "--unit=lab-say", "--wait", "-q", "echo", "hello from the unit")
    entry = entries.wait_for("hello from", _COMM="echo")
    assert entry.fields["_SYSTEMD_UNIT"] == "lab-say.service"
    assert not [entry for entry in entries.entries if "too early" in entry.message]
    with pytest.raises(TimeoutError, match=r"lab-say\.service did not log 'never'"):
        entries.wait_for("never", deadline_s=0.3)


def test_kernel_log_is_followed_and_judged(kernel_log: KernelLog) -> None:
    with open("/dev/kmsg", "w") as log:
        log.write("lab: all is well\n")
    assert "well" in kernel_log.wait_for("lab: all is")
    assert trouble(["lab: all is well"]) == []
    assert trouble(["[ 1.0] WARNING: CPU: 0 PID: 1 at kernel/x.c"]) != []


def test_what_is_left_in_out_is_brought_out(out: Path) -> None:
    (out / "note.txt").write_text("brought out\n")
    assert os.path.ismount("/out")


def test_dbus_answers_and_polkit_can_be_started() -> None:
    assert "org.freedesktop.DBus" in succeed("busctl", "--list", "--no-pager")
    succeed("systemctl", "start", "polkit.service")


def test_libcamera_can_be_imported() -> None:
    succeed("/usr/bin/python3", "-c", "import libcamera; libcamera.CameraManager.singleton()")
