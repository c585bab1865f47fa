# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon says to systemd and the journal, its heartbeat, its lock, its doctor, its cards."""

from __future__ import annotations

import array
import fcntl
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from maglens_daemon import instance, journal
from maglens_daemon.cards import NOTHING, card_for
from maglens_daemon.config import Config
from maglens_daemon.doctor import examine
from maglens_daemon.errors import AlreadyRunning, NoPermission
from maglens_daemon.exits import Exit
from maglens_daemon.fake import FakeVisitor
from maglens_daemon.heartbeat import Progress, Pulse, measure
from maglens_daemon.machine import Finding, Machine, Verdict
from maglens_daemon.notify import Notifier, stored
from maglens_daemon.port import make_port
from maglens_daemon.session import Session
from maglens_daemon.session_state import SessionState
from maglens_daemon.stage import Stage
from maglens_driver.errors import BadModule
from maglens_v4l2.pipeline_stats import PipelineStats
from tests.unit import fake_clock
from tests.unit.test_daemon_session import FakeHost

ROOT = Path(__file__).resolve().parents[2]


# --- notify ----------------------------------------------------------------------------------------------------


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_what_systemd_is_told(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "20000000"})
    assert notifier.watchdog_s == 20.0
    notifier.ready()
    assert systemd.recv(4096) == b"READY=1"
    notifier.status("no module")
    notifier.status("no module")
    notifier.status("35 mm plays")
    assert [systemd.recv(4096), systemd.recv(4096)] == [b"STATUS=no module", b"STATUS=35 mm plays"]
    notifier.status("refused: first line\nSTOPPING=1")
    assert systemd.recv(4096) == b"STATUS=refused: first line STOPPING=1"
    notifier.reloading()
    assert systemd.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.watchdog()
    notifier.stopping()
    assert [systemd.recv(4096), systemd.recv(4096)] == [b"WATCHDOG=1", b"STOPPING=1"]


def test_a_descriptor_is_handed_over(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    reading, writing = os.pipe()
    notifier.store("camera", reading)
    text, ancillary, _, _ = systemd.recvmsg(4096, socket.CMSG_SPACE(4))
    assert text == b"FDSTORE=1\nFDNAME=camera"
    ((_, _, raw),) = ancillary
    (received,) = array.array("i", raw)
    os.write(writing, b"x")
    assert os.read(received, 1) == b"x"
    for fd in (reading, writing, received):
        os.close(fd)
    notifier.forget("camera")
    assert systemd.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=camera"


def test_without_systemd_nothing_is_said() -> None:
    notifier = Notifier({})
    notifier.ready()
    assert notifier.watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "NOTIFY_SOCKET": "/x"}).watchdog_s is None


def test_kept_descriptors_are_found_by_name() -> None:
    """In a process of its own: they begin at 3."""
    code = (
        "import os, sys; sys.path[:0] = sys.argv[1:]; r, w = os.pipe(); os.dup2(r, 3); os.dup2(w, 4)\n"
        "from maglens_daemon.notify import stored\n"
        "e = {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '2', 'LISTEN_FDNAMES': 'camera:other'}\n"
        "print(stored(e), os.get_inheritable(3), stored({**e, 'LISTEN_PID': '1'}))"
    )
    paths = [str(ROOT / folder) for folder in ("driver", "v4l2_bridge", "daemon")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout == "{'camera': 3, 'other': 4} False {}\n"
    assert stored({}) == {}


# --- journal ---------------------------------------------------------------------------------------------------


def parse(datagram: bytes) -> dict[str, str]:
    fields = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[9 + length :]
        fields[name.decode()] = value.decode()
        datagram = rest
    return fields


def test_journal_fields(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = str(tmp_path / "journal")
        listening.bind(path)
        listening.settimeout(5)
        handler = journal.JournalHandler("maglensd", path)
        log = logging.Logger("test")
        log.addHandler(handler)
        log.warning("it says %s", "no\nand why", extra=journal.about(port="1-2", serial="7", cause="crc"))
        fields = parse(listening.recv(1 << 16))
        assert fields["MESSAGE"] == "it says no\nand why"
        assert fields["PRIORITY"] == "4"
        assert fields["SYSLOG_IDENTIFIER"] == "maglensd"
        assert (fields["MAGLENS_PORT"], fields["MAGLENS_SERIAL"], fields["MAGLENS_CAUSE"]) == ("1-2", "7", "crc")
        assert "MAGLENS_STATE" not in fields
        try:
            raise ValueError("inside")
        except ValueError:
            log.exception("broke")
        assert "ValueError: inside" in parse(listening.recv(1 << 16))["MESSAGE"]
        handler.close()


def test_a_journal_that_is_gone_is_no_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = str(tmp_path / "journal")
        listening.bind(path)
        handler = journal.JournalHandler("maglensd", path)
    handler.emit(logging.LogRecord("x", logging.INFO, __file__, 1, "still heard", (), None))
    assert "still heard" in capsys.readouterr().err
    handler.close()


# --- heartbeat -------------------------------------------------------------------------------------------------


def pulse(*series: tuple[float, Progress]) -> list[bool]:
    made = Pulse(series[0][0])
    return [made.is_alive(progress, at) for at, progress in series]


def progress(shown: int, arrived: int = 0, generation: int | None = None, watched: bool = True) -> Progress:
    return Progress(watched, shown, arrived, generation, 1 / 30)


def test_pictures_that_go_on_are_alive() -> None:
    assert pulse(*[(10.0 * n, progress(300 * n)) for n in range(4)]) == [True] * 4


def test_nobody_watches_nothing_moves_and_all_is_well() -> None:
    assert pulse(*[(10.0 * n, progress(5, watched=False)) for n in range(9)]) == [True] * 9


def test_watched_without_pictures_is_dead() -> None:
    assert pulse(*[(2.0 * n, progress(5)) for n in range(6)]) == [True, True, True, False, False, False]


def test_a_stream_that_brings_nothing_is_dead_though_cards_are_shown() -> None:
    series = [(2.0 * n, progress(60 * n, 7, 1)) for n in range(6)]
    assert pulse(*series)[-1] is False


def test_a_stream_that_only_loses_frames_is_alive() -> None:
    assert pulse(*[(2.0 * n, progress(60 * n, n, 1)) for n in range(9)]) == [True] * 9


def test_a_new_stream_has_its_time() -> None:
    series = [(2.0 * n, progress(60 * n, 7, n)) for n in range(9)]
    assert pulse(*series) == [True] * 9


def test_pictures_that_are_left_to_the_kernel_are_pictures() -> None:
    """A busy machine is late with each of its own, and the node shows one instead."""
    stats = PipelineStats(
        frames_in=0, submitted=0, repeated=0, cards=5, left=0, filled=0, dropped={}, last_frame_ns=0, generation=None,
        first_frame_ns=0,
    )  # fmt: skip
    pipeline = SimpleNamespace(watched=True, stats=lambda: stats)
    stage = cast(Stage, SimpleNamespace(pipeline=pipeline, playing=None))
    series = []
    for second in range(0, 12, 2):
        stats = replace(stats, left=30 * second)
        series.append((float(second), measure(stage)))
    assert pulse(*series) == [True] * 6


def test_it_recovers() -> None:
    assert pulse((0, progress(1)), (10, progress(1)), (12, progress(2))) == [True, False, True]


# --- one daemon ------------------------------------------------------------------------------------------------


def test_one_daemon_per_machine(tmp_path: Path) -> None:
    fd = instance.lock(tmp_path)
    with pytest.raises(AlreadyRunning):
        instance.lock(tmp_path)
    os.close(fd)
    os.close(instance.lock(tmp_path))


def test_no_permission_names_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", "/run/maglens/lock")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NoPermission, match="no permission for /run/maglens/lock") as caught:
        instance.lock(tmp_path)
    assert caught.value.hint == "sudo systemctl start maglensd.service"


def maglensd(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("driver", "v4l2_bridge", "daemon"))
    env = os.environ | {"PYTHONPATH": paths} | environment
    command = [sys.executable, "-m", "maglens_daemon.main", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_check_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "maglens.toml"
    path.write_text("[node]\nwidht = 640\n")
    done = maglensd("--check", MAGLENS_CONFIG=str(path))
    assert done.returncode == Exit.CONFIG
    assert done.stderr == f"maglensd: {path}:2: unknown key node.widht\n  try: did you mean 'width'?\n"
    path.write_text("[node]\nwidth = 640\n")
    done = maglensd("--check", MAGLENS_CONFIG=str(path))
    assert done.returncode == Exit.OK
    assert done.stdout == f"the configuration is sound: {path}\n"


# --- doctor ----------------------------------------------------------------------------------------------------


class Rehearsed(Machine):
    """A machine made of files."""

    def __init__(self, root: Path, answers: dict[str, str]) -> None:
        super().__init__(root, lambda command: answers.get(self._said(command)))

    @staticmethod
    def _said(command: Sequence[str]) -> str:
        return " ".join(command)

    def put(self, path: str, text: str = "") -> Path:
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target


RUNNING = {"systemctl is-active maglensd.service": "active", "systemctl is-enabled maglensd.service": "enabled"}


def healthy(tmp_path: Path) -> Rehearsed:
    machine = Rehearsed(tmp_path, RUNNING)
    machine.put("/sys/module/maglens/refcnt", "0")
    machine.put("/sys/class/video4linux/video3/name", "maglens\n")
    machine.put("/dev/video3")
    machine.put("/usr/lib/udev/rules.d/70-maglens.rules")
    machine.put("/etc/group", "root:x:0:\nmaglens:x:990:\n")
    machine.put("/sys/module/usbcore/parameters/usbfs_memory_mb", "256\n")
    return machine


def mend(machine: Machine, subject: str) -> Finding:
    return next(f for f in examine(machine) if f.subject == subject and f.verdict is not Verdict.OK)


def test_a_healthy_machine(tmp_path: Path) -> None:
    assert not [f for f in examine(healthy(tmp_path)) if f.verdict is Verdict.WRONG]


def test_what_goes_while_it_is_looked_at_is_passed_over(tmp_path: Path) -> None:
    """Who calls the doctor has something that comes and goes; its files can be listed then, and not be read."""
    machine = healthy(tmp_path)
    for name in ("/sys/class/video4linux/video1/name", "/sys/bus/usb/devices/1-1:1.0/interface"):
        machine.path(name).mkdir(parents=True)
    assert not [f for f in examine(machine) if f.verdict is Verdict.WRONG]


def test_every_finding_that_is_wrong_has_a_command(tmp_path: Path) -> None:
    empty = Rehearsed(tmp_path, {"systemctl is-active maglensd.service": "inactive"})
    wrong = [f for f in examine(empty) if f.verdict is Verdict.WRONG]
    assert wrong[0].subject == "udev rules", "what make install brings comes first"
    assert {f.subject for f in wrong} >= {"kernel module", "udev rules"}
    assert not {f.subject for f in wrong} & {"camera", "service", "group"}, "their mends would do nothing yet"
    empty.put("/usr/lib/udev/rules.d/70-maglens.rules")
    wrong = [f for f in examine(empty) if f.verdict is Verdict.WRONG]
    assert {f.subject for f in wrong} >= {"kernel module", "service", "group"}
    empty.put("/sys/module/maglens/refcnt", "0")
    running = Rehearsed(tmp_path, RUNNING)
    assert "camera" in {f.subject for f in examine(running) if f.verdict is Verdict.WRONG}
    assert all(f.mend for f in wrong)


def without_kernel_module(tmp_path: Path) -> Rehearsed:
    machine = healthy(tmp_path)
    machine.path("/sys/module/maglens/refcnt").unlink()
    machine.path("/sys/module/maglens").rmdir()
    machine.path("/sys/class/video4linux/video3/name").write_text("Integrated Camera")
    machine.put("/proc/sys/kernel/osrelease", "6.12-test\n")
    return machine


def test_kernel_module_installed_but_not_loaded(tmp_path: Path) -> None:
    machine = without_kernel_module(tmp_path)
    machine.put("/lib/modules/6.12-test/modules.dep", "updates/dkms/v4l2loopback.ko.xz: kernel/videodev.ko\n")
    assert mend(machine, "kernel module").mend == "sudo modprobe v4l2loopback"
    machine.put("/lib/modules/6.12-test/modules.dep", "updates/maglens.ko:\n")
    assert mend(machine, "kernel module").mend == "sudo modprobe maglens"


def test_kernel_module_missing(tmp_path: Path) -> None:
    found = mend(without_kernel_module(tmp_path), "kernel module")
    assert "linux-headers-6.12-test" in found.mend


def test_old_loopback_prints_the_modprobe_line(tmp_path: Path) -> None:
    machine = without_kernel_module(tmp_path)
    machine.put("/sys/module/v4l2loopback/version", "0.12.7\n")
    found = mend(machine, "kernel module")
    assert found.verdict is Verdict.WRONG
    assert found.mend.startswith("sudo make install-dkms"), "it lasts; what modprobe is told does not"
    assert "modprobe v4l2loopback devices=1 exclusive_caps=1" in found.mend
    assert "card_label=maglens" in found.mend
    machine.put("/sys/class/video4linux/video9/name", "maglens\n")
    assert mend(machine, "kernel module").verdict is Verdict.NOTE


def test_new_loopback_will_do(tmp_path: Path) -> None:
    machine = without_kernel_module(tmp_path)
    machine.put("/sys/module/v4l2loopback/version", "0.15.0\n")
    found = mend(machine, "kernel module")
    assert found.verdict is Verdict.NOTE
    assert "no controls" in found.what


def test_little_memory_for_transfers(tmp_path: Path) -> None:
    machine = healthy(tmp_path)
    machine.put("/sys/module/usbcore/parameters/usbfs_memory_mb", "16\n")
    assert "usbfs_memory_mb" in mend(machine, "USB").mend


def test_a_module_that_is_plugged_in_is_seen(tmp_path: Path) -> None:
    machine = healthy(tmp_path)
    device = "/sys/bus/usb/devices/1-2"
    for name, text in (("busnum", "1"), ("devnum", "7"), ("speed", "5000")):
        machine.put(f"{device}/{name}", text + "\n")
    machine.put("/sys/bus/usb/devices/1-2/1-2:1.0/interface", "maglens\n")
    (tmp_path / "sys/bus/usb/devices/1-2:1.0").symlink_to(tmp_path / "sys/bus/usb/devices/1-2/1-2:1.0")
    assert mend(machine, "module at 1-2").verdict is Verdict.WRONG
    machine.put("/dev/bus/usb/001/007")
    assert not [f for f in examine(machine) if f.subject == "module at 1-2" and f.verdict is Verdict.WRONG]


# --- cards -----------------------------------------------------------------------------------------------------


def test_cards() -> None:
    async def play() -> None:
        host = FakeHost()

        def session(number: int, serial: str) -> Session:
            return Session(number, make_port(f"1-{number}", 5000, Config()), FakeVisitor(serial), host)

        assert card_for([], {}) == NOTHING
        found = session(1, "1")
        assert card_for([found], {}).title == "Module found"
        refused = session(2, "2")
        refused._quarantine(BadModule("crc", "its descriptor is broken", hint="tell its maker"))
        assert card_for([found, refused], {}).lines == ("port 1-2", "its descriptor is broken", "tell its maker")
        ready = session(3, "3")
        ready.source, ready.state = FakeVisitor("3").source, SessionState.READY
        assert card_for([ready], {}).title == "fake camera"
        assert "no mode fits" in card_for([ready], {3: "no mode fits"}).lines
        ready.unplugged = True
        assert card_for([ready], {}) == NOTHING

    fake_clock.run(play())


def test_the_lock_is_a_real_one(tmp_path: Path) -> None:
    fd = instance.lock(tmp_path)
    with open(tmp_path / "lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
